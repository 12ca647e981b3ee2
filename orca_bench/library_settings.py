"""Settings of transformers, DeepSpeed and torch that must be made before they are imported; their progress bars are turned off.

In: this machine's devices. Out: environment variables, log levels and numbers of threads. Its own module because training,
evaluation and generation must all call it first: transformers imports DeepSpeed by itself, and DeepSpeed 0.19.8 decides at
import which accelerator it has, and prints a warning where it has to guess.
"""

from __future__ import annotations

import logging
import os
import warnings


def prepare_libraries() -> None:
    """Make the libraries fit this machine, and quiet. Call it before importing transformers or deepspeed; it may be repeated."""
    import torch

    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # torch 2.13 warns every step about collectives that deepspeed 0.19.8 calls.
    warnings.filterwarnings("ignore", category=FutureWarning)
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)

    from huggingface_hub.utils import enable_progress_bars
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()  # bars of tenths of a second, for reading and writing weights
    if not os.environ.get("HF_HUB_DISABLE_PROGRESS_BARS"):
        enable_progress_bars()  # that call has turned off the hub's bars too, and downloads take minutes


def limit_cpu_threads(local_process_count: int) -> None:
    """Let this process use its share of a CPU's cores, where there is no GPU and the user has not set OMP_NUM_THREADS."""
    import torch

    if local_process_count > 1 and not torch.cuda.is_available() and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, core_count() // local_process_count))


def core_count() -> int:
    """How many cores this process may run on; batch systems and taskset make them fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
