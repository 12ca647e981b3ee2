"""What a library raises where the memory is full in, a message with the recipe's keys that need less of it out.

Its own module because PyTorch, NumPy, C++ and the system each have an error of their own for it, and because a process that the
system kills for the same reason needs the same advice.
"""

from __future__ import annotations

import errno
import re

from orca_bench.errors import one_line
from orca_bench.recipe import Recipe

#: Texts of errors of full memory: torch's allocators of CPUs and GPUs, C++, NCCL, and the system's ENOMEM.
_MEMORY_ERROR_TEXT = re.compile(
    r"can't allocate memory|cannot allocate memory|not enough memory|out of memory|std::bad_alloc", re.IGNORECASE
)


def is_memory_error(error: BaseException) -> bool:
    """Whether an error says that the memory, of the GPU or the main memory, is full."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    return isinstance(error, RuntimeError) and _MEMORY_ERROR_TEXT.search(str(error)) is not None


def memory_error_message(error: BaseException, recipe: Recipe, rank: int) -> str:
    """One line about an error of full memory in the process of this rank: what it says, and what would need less."""
    return f"rank {rank}: the memory is full ({one_line(error, 200)}); {less_memory_advice(recipe)}"


def less_memory_advice(recipe: Recipe) -> str:
    """The keys by which a run of this recipe needs less memory: those that it may continue with, and those of a new run.

    More processes are advised where a process has more than one example a step to give away, and a GPU is left for each;
    ZeRO where there are processes to shard over, and offloading, which needs ZeRO, where the optimizer states are on a GPU.
    """
    import torch

    train = recipe.train
    continuing = []
    if train.micro_batch > 1:
        continuing.append(f"lower train.micro_batch (now {train.micro_batch}) and raise train.accumulation as much")
    if train.micro_batch * train.accumulation > 1 and _can_start_more_processes(train.processes):
        continuing.append(
            f"raise train.processes (now {train.processes}) and lower train.accumulation or train.micro_batch as much"
        )
    starting_over = [f"a lower data.max_length (now {recipe.data.max_length})"]
    if not train.gradient_checkpointing:
        starting_over.insert(0, "train.gradient_checkpointing: true")
    if train.zero_stage < 3 and train.processes > 1:
        starting_over.append("train.zero_stage: 3")
    if train.offload == "none" and train.zero_stage > 0 and torch.cuda.is_available():
        starting_over.append("train.offload: cpu")
    new_run_advice = f"start over (--fresh) with {' or '.join(starting_over)}"
    return f"{', or '.join(continuing)}; or {new_run_advice}" if continuing else new_run_advice


def _can_start_more_processes(process_count: int) -> bool:
    """Whether this machine can train in more processes; on GPUs each needs its own."""
    import torch

    return not torch.cuda.is_available() or torch.cuda.device_count() > process_count
