"""What a launcher such as torchrun tells each process that it starts: its number, and how many there are.

In: the environment variables RANK, LOCAL_RANK, WORLD_SIZE, LOCAL_WORLD_SIZE, MASTER_ADDR and MASTER_PORT
(https://docs.pytorch.org/docs/stable/elastic/run.html). Out: numbers, and the store through which the processes exchange
messages. Its own module because training, evaluation and the loading of models must agree on how the variables are read; nothing
else reads them.
"""

from __future__ import annotations

import datetime
import os
from typing import TYPE_CHECKING

from orca_bench.errors import UserError

if TYPE_CHECKING:
    from torch.distributed import Store

_RANK_VARIABLE, _LOCAL_RANK_VARIABLE, _WORLD_SIZE_VARIABLE = "RANK", "LOCAL_RANK", "WORLD_SIZE"
_LOCAL_WORLD_SIZE_VARIABLES = ("LOCAL_WORLD_SIZE", "LOCAL_SIZE")  # torchrun's and deepspeed's
#: `True` where torchrun itself has the store, so that no process is to open its port.
_LAUNCHER_HAS_STORE_VARIABLE = "TORCHELASTIC_USE_AGENT_STORE"


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


def local_world_size() -> int:
    """How many processes the launcher has started on this machine; all of them where it does not say."""
    return int(next(filter(None, map(os.environ.get, _LOCAL_WORLD_SIZE_VARIABLES)), world_size()))


def is_first_of_machine() -> bool:
    """Whether this is the process that reports errors for all of this machine."""
    return local_rank() == 0


def master_address() -> tuple[str, int]:
    """The host and port at which the launcher's processes meet; raises UserError where the launcher names none."""
    try:
        return os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    except (KeyError, ValueError) as error:
        raise UserError(
            f"cannot reach the other processes of the launcher: it names no host and port ({error})",
            where="MASTER_ADDR",
        ) from error


def open_store(timeout: datetime.timedelta = datetime.timedelta(minutes=30), waits_for_all: bool = True) -> Store:
    """The torch store at MASTER_ADDR and MASTER_PORT that the processes of a launcher share; it must live as long as it is used.

    The launcher has it, or else rank 0, which waits for the others if `waits_for_all`. `timeout` is the longest wait for another
    process, then and later. Raises UserError where the others cannot be reached.
    """
    from torch.distributed import TCPStore

    host, port = master_address()
    has_store = rank() == 0 and os.environ.get(_LAUNCHER_HAS_STORE_VARIABLE) != str(True)
    try:
        # `multi_tenant`: torch.distributed opens the same port again.
        return TCPStore(host, port, world_size(), has_store, timeout, wait_for_workers=waits_for_all, multi_tenant=True)
    except (RuntimeError, ValueError) as error:  # RuntimeError: torch's DistStoreError and DistNetworkError
        raise UserError(
            f"cannot reach the other processes of the launcher: {error}", where=f"MASTER_ADDR {host}:{port}"
        ) from error


def set_local_rank(new_rank: int) -> None:
    """Make this process `new_rank` of this machine, for helpers that are started without a launcher."""
    os.environ[_LOCAL_RANK_VARIABLE] = str(new_rank)
