"""What a launcher such as torchrun tells each process that it starts: its number, and how many there are.

In: the environment variables RANK, LOCAL_RANK and WORLD_SIZE (https://docs.pytorch.org/docs/stable/elastic/run.html). Out:
numbers, and the store through which its processes exchange messages. Its own module because training, evaluation and the loading
of models must agree on how the variables are read; nothing else reads them.
"""

from __future__ import annotations

import datetime
import os
from typing import TYPE_CHECKING

from orca_bench.errors import UserError

if TYPE_CHECKING:
    from torch.distributed import Store

_RANK_VARIABLE, _LOCAL_RANK_VARIABLE, _WORLD_SIZE_VARIABLE = "RANK", "LOCAL_RANK", "WORLD_SIZE"


def is_launched() -> bool:
    """Whether a launcher has started this process."""
    return _WORLD_SIZE_VARIABLE in os.environ


def has_other_processes() -> bool:
    """Whether a launcher has started other processes beside this one."""
    return world_size() > 1


def world_size() -> int:
    """How many processes the launcher has started on all machines; 1 without a launcher."""
    return int(os.environ.get(_WORLD_SIZE_VARIABLE, "1"))


def rank() -> int:
    """The number of this process among all of the launcher's; 0 without a launcher."""
    return int(os.environ.get(_RANK_VARIABLE, "0"))


def local_rank() -> int:
    """The number of this process among those of this machine, which is the number of its GPU; 0 without a launcher."""
    return int(os.environ.get(_LOCAL_RANK_VARIABLE, "0"))


def open_store(timeout: datetime.timedelta = datetime.timedelta(minutes=30)) -> Store:
    """The torch store at MASTER_ADDR and MASTER_PORT that the processes of a launcher share; it must live as long as it is used.

    `timeout` is the longest wait for another process, then and later. Raises UserError where the others cannot be reached.
    """
    from torch.distributed import rendezvous

    try:
        store, *_ = next(rendezvous("env://", timeout=timeout))
    except (RuntimeError, ValueError) as error:  # RuntimeError: torch's DistStoreError and DistNetworkError
        raise UserError(f"cannot reach the other processes of the launcher: {error}", where="MASTER_ADDR") from error
    return store


def set_local_rank(new_rank: int) -> None:
    """Make this process `new_rank` of this machine, for helpers that are started without a launcher."""
    os.environ[_LOCAL_RANK_VARIABLE] = str(new_rank)
