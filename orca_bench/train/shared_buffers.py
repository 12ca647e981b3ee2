"""The shared memory of DeepSpeed's processes on one machine: its name is removed as soon as every process has it open.

In: the environment of a rank, after torch.distributed was started. Out: nothing; the memory stays while a process has it, and
is free when the last one ends, also by SIGKILL. DeepSpeed 0.19.8 (`shm_initialize` in csrc/cpu/comm/shm.cpp) writes a file of
66 MiB a rank to /dev/shm where its own launcher set LOCAL_SIZE, and never removes it: each such training takes that memory
until the machine starts anew. Its own module because it works around a library; a test fails where no file is left any more.
"""

from __future__ import annotations

import os
from pathlib import Path

_SHARED_MEMORY_FOLDER = Path("/dev/shm")


def buffer_path(rank: int) -> Path:
    """The file of a rank, by DeepSpeed's own name: user, MASTER_ADDR, MASTER_PORT and rank."""
    address, port = (os.environ.get(name, "") for name in ("MASTER_ADDR", "MASTER_PORT"))
    return _SHARED_MEMORY_FOLDER / f"deepspeed_allreduce_buffer_{os.getuid()}_{address}_{port}_{rank}"


def remove_buffer_name() -> None:
    """Remove the name of this rank's file; waits until all ranks have started, since each opens the others' by name."""
    import torch

    torch.distributed.barrier()
    buffer_path(torch.distributed.get_rank()).unlink(missing_ok=True)
