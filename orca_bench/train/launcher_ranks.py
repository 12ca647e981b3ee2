"""Under a launcher (torchrun, deepspeed) the first process prepares the run, and the other processes wait until it has.

They exchange one message through the torch store at MASTER_ADDR and MASTER_PORT. So processes on other machines get it too,
and check whether they see the same folder. Its own module because only a launched command needs it.
"""

from __future__ import annotations

import datetime
import socket
import time
from typing import TYPE_CHECKING

from orca_bench.errors import UserError
from orca_bench.train.run_folder import Run

if TYPE_CHECKING:
    from torch.distributed import Store

_PREPARED_KEY = "orca-bench/prepared"
_PREPARATION_TIMEOUT = datetime.timedelta(hours=6)  # what encoding of the largest record files may take
_FILES_TIMEOUT_S = 60.0  # network file systems show new files late


def announce_prepared_run(torch_store: Store, run: Run) -> None:
    """On the first process: announce that the run is prepared."""
    torch_store.set(_PREPARED_KEY, run.manifest_file.read_text(encoding="utf-8"))


def wait_for_prepared_run(torch_store: Store, run: Run) -> None:
    """On the others: wait until the run is prepared, and see its files.

    Raises UserError where the first process ends before, and where this machine does not see what it has written.
    """
    try:
        torch_store.wait([_PREPARED_KEY], _PREPARATION_TIMEOUT)
        announced_manifest_text = torch_store.get(_PREPARED_KEY).decode("utf-8")
    except RuntimeError as error:  # torch's DistStoreError and DistNetworkError
        raise UserError(
            "the launcher's first process has ended, or prepared nothing in hours", where=run.folder
        ) from error
    deadline_s = time.monotonic() + _FILES_TIMEOUT_S
    while not (
        run.manifest_file.is_file() and run.manifest_file.read_text(encoding="utf-8") == announced_manifest_text
    ):
        if time.monotonic() > deadline_s:
            raise UserError(
                f"{socket.gethostname()} does not see there what the launcher's first process has written",
                where=run.folder,
                hint="all machines need the same folder: give one on a shared file system with --runs",
            )
        time.sleep(0.2)
