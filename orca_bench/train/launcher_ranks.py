"""Under a launcher (torchrun, deepspeed) the first process prepares the run, and the other processes wait until it has.

They may be on several machines. At the start they compare their versions and recipes (process_comparison.py) and see whether all
have the same folder of runs. From then on each notices when another is lost (peer_watch.py). They exchange messages through the
torch store at MASTER_ADDR and MASTER_PORT. Its own module because only a launched command needs it.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import secrets
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from orca_bench import child_processes, launcher_environment
from orca_bench.errors import UserError
from orca_bench.files import make_writable_folder, write_text
from orca_bench.recipe import Recipe
from orca_bench.train import process_comparison
from orca_bench.train.peer_watch import Failure, PeerWatch, watch_peers
from orca_bench.train.run_folder import Run

if TYPE_CHECKING:
    from torch.distributed import Store

_PREPARED_KEY, _TOKEN_KEY, _READER_COUNT_KEY = "prepared", "folder_token", "folder_token_readers"
_JOIN_TIMEOUT = datetime.timedelta(minutes=10)  # from the first process to the last; that of torchrun's own rendezvous
_PREPARATION_TIMEOUT = datetime.timedelta(hours=6)  # what encoding of the largest record files may take
_FILES_TIMEOUT_S = 60.0  # network file systems show new files late
_CAUSE_TIMEOUT_S = 5.0  # in which the cause of a broken store is known
_POLL_INTERVAL_S = 0.2


class LaunchedRanks:
    """This process among those of a launcher: the `store` that they share, and the `watch` over the others."""

    def __init__(self, store: Store, watch: PeerWatch) -> None:
        self.store, self.watch = store, watch

    def announce_prepared_run(self, run: Run) -> None:
        """On the first process: announce that the run is prepared, or was finished before."""
        self.store.set(_PREPARED_KEY, run.manifest_file.read_text(encoding="utf-8"))

    def wait_for_prepared_run(self, run: Run) -> None:
        """On the others: wait until the run is prepared, and see its files.

        Raises UserError where the first process ends before, and where this machine does not see what it has written.
        """
        try:
            self.store.wait([_PREPARED_KEY], _PREPARATION_TIMEOUT)
            announced_manifest_text = self.store.get(_PREPARED_KEY).decode("utf-8")
        except RuntimeError as error:  # torch's DistStoreError and DistNetworkError
            if failure := self.watch.wait_for_failure(_CAUSE_TIMEOUT_S):
                raise failure.error() from error
            raise UserError(
                "the launcher's first process has ended, or prepared nothing in hours", where=run.folder
            ) from error
        _wait_for_text(run.manifest_file, announced_manifest_text, run.folder)


@contextlib.contextmanager
def join_ranks(run: Run, recipe: Recipe, show_message: Callable[[str], None]) -> Iterator[LaunchedRanks]:
    """Meet the other processes of the launcher; what ends the block with an error is passed on to them.

    The first process of each machine raises the error of the block; the others end with its exit code and without a message.
    Raises UserError where a process does not come, has other versions or another recipe, or does not see the folder of runs.
    """
    from torch.distributed import PrefixStore

    rank, world_size, host = launcher_environment.rank(), launcher_environment.world_size(), socket.gethostname()
    watch: PeerWatch | None = None
    try:
        launchers_store = launcher_environment.open_store(_JOIN_TIMEOUT, waits_for_all=False)
        # torchrun's store outlives processes that it starts anew.
        store = PrefixStore(f"orca-bench/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", launchers_store)
        process_comparison.check_same_in_all(
            store, rank, world_size, host, process_comparison.own_facts(recipe), _JOIN_TIMEOUT, show_message
        )
        watch = watch_peers(store, rank, world_size, host, _end_process)
        _check_shared_folder(store, rank, world_size, watch, run)
        yield LaunchedRanks(store, watch)
    except BaseException as error:
        exit_code = 2 if isinstance(error, UserError) else 1
        if watch is not None:
            reason = "interrupted" if isinstance(error, KeyboardInterrupt) else str(error) or type(error).__name__
            watch.close(Failure(reason, exit_code))
        if isinstance(error, Exception) and not launcher_environment.is_first_of_machine():
            raise SystemExit(exit_code) from error
        raise
    else:
        watch.close()


def _end_process(failure: Failure) -> None:
    """End this process, whose training waits for a process that is lost."""
    if launcher_environment.is_first_of_machine():
        line_end = "\n\x1b[?25h" if sys.stderr.isatty() else ""  # a display of progress hides the cursor
        print(
            f"{line_end}{'error' if failure.exit_code == 2 else 'failed'}: {failure.message}",
            file=sys.stderr,
            flush=True,
        )
    child_processes.end_with_children(failure.exit_code)


def _check_shared_folder(store: Store, rank: int, world_size: int, watch: PeerWatch, run: Run) -> None:
    """Raise UserError, on all processes, where one does not see the file that the first one writes beside the run's folder."""
    token_file = run.folder.with_name(f".{run.folder.name}.token")
    if rank != 0:
        _wait_for_text(token_file, store.get(_TOKEN_KEY).decode(), run.folder.parent)
        store.add(_READER_COUNT_KEY, 1)
        return
    token = secrets.token_hex(16)
    write_text(make_writable_folder(token_file.parent) / token_file.name, token)
    try:
        store.set(_TOKEN_KEY, token)
        while store.add(_READER_COUNT_KEY, 0) < world_size - 1:
            if failure := watch.wait_for_failure(_POLL_INTERVAL_S):
                raise failure.error()
    finally:
        token_file.unlink(missing_ok=True)


def _wait_for_text(file: Path, text: str, folder: Path) -> None:
    """Wait until this machine sees a file as the first process has written it."""
    deadline_s = time.monotonic() + _FILES_TIMEOUT_S
    while not (file.is_file() and file.read_text(encoding="utf-8") == text):
        if time.monotonic() > deadline_s:
            raise UserError(
                f"{socket.gethostname()} does not see there what the launcher's first process has written",
                where=folder,
                hint="all machines need the same folder: give one on a shared file system with --runs",
            )
        time.sleep(_POLL_INTERVAL_S)
