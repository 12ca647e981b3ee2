"""This process in, the most memory out that it has used so far.

Its own module because the number of a step and the message about full memory both need it, on GPUs and on CPUs.
"""

from __future__ import annotations

import resource
import sys

_BYTES_PER_GIB = 2**30
_RSS_UNIT_BYTES = 1 if sys.platform == "darwin" else 1024  # getrusage(2): bytes on macOS, KiB on Linux


def peak_memory_gib() -> float:
    """The most memory that this process has used so far, GiB: tensors on its GPU, or without one its resident set."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / _BYTES_PER_GIB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT_BYTES / _BYTES_PER_GIB


def largest_peak_memory_gib() -> float:
    """The largest `peak_memory_gib` of all processes of a training. A collective."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    peak_gib = torch.tensor(peak_memory_gib(), device=device)
    torch.distributed.all_reduce(peak_gib, op=torch.distributed.ReduceOp.MAX)
    return float(peak_gib)
