"""Under a launcher (torchrun, deepspeed) the first process prepares the run, and the other processes wait until it has.

They may be on several machines. At the start they compare their versions and recipes (process_comparison.py) and see whether all
have the same folder of runs. From then on each notices when another is lost (peer_watch.py). They exchange messages through the
torch store at MASTER_ADDR and MASTER_PORT. Its own module because only a launched command needs it.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from orca_bench import child_processes, launcher_environment
from orca_bench.errors import UserError, join_names
from orca_bench.files import make_writable_folder, write_text
from orca_bench.recipe import Recipe
from orca_bench.train import process_comparison
from orca_bench.train.peer_watch import Failure, PeerWatch, watch_peers
from orca_bench.train.run_folder import Run

if TYPE_CHECKING:
    from torch.distributed import Store

_PREPARED_KEY, _TOKEN_KEY, _READER_KEY = "prepared", "folder_token", "folder_token_reader_{}"
_JOIN_TIMEOUT = datetime.timedelta(minutes=10)  # from the first process to the last; that of torchrun's own rendezvous
_PREPARATION_TIMEOUT = datetime.timedelta(hours=6)  # what encoding of the largest record files may take
_FILES_TIMEOUT_S = 60.0  # network file systems show new files late
_CAUSE_TIMEOUT_S = (
    2.0  # in which another process's end is known that has broken the store, or let the launcher end this one
)
_STATUS_TIMEOUT_S = 3.0  # for the status of the run, which a dead file system may not take
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
        is_one_machine = launcher_environment.local_world_size() == world_size  # where who stops a process knows it
        watch = watch_peers(
            store, rank, world_size, host, functools.partial(_end_process, run), notices_stopped=not is_one_machine
        )
        _check_shared_folder(store, rank, world_size, watch, run)
        yield LaunchedRanks(store, watch)
    except BaseException as error:
        cause: BaseException = error
        if watch is not None:
            # The launcher ends this process, and torch's store breaks, because another process has ended.
            is_consequence = isinstance(error, (KeyboardInterrupt, RuntimeError))
            if is_consequence and (failure := watch.wait_for_failure(_CAUSE_TIMEOUT_S)):
                cause = failure.error()
            reason = "interrupted" if isinstance(cause, KeyboardInterrupt) else str(cause) or type(cause).__name__
            watch.close(Failure(reason, _exit_code(cause)))
        if isinstance(cause, Exception) and not launcher_environment.is_first_of_machine():
            raise SystemExit(_exit_code(cause)) from error
        if cause is error:
            raise
        raise cause from error
    else:
        watch.close()


def _exit_code(error: BaseException) -> int:
    return 2 if isinstance(error, UserError) else 1


def _end_process(run: Run, failure: Failure) -> None:
    """End this process, whose training waits for a process that is lost; the first one says so in the run's manifest."""
    if launcher_environment.is_first_of_machine():
        line_end = "\n\x1b[?25h" if sys.stderr.isatty() else ""  # a display of progress hides the cursor
        line = f"{'error' if failure.exit_code == 2 else 'failed'}: {failure.message}"
        print(f"{line_end}{line}", file=sys.stderr, flush=True)
    if launcher_environment.rank() == 0:
        thread = threading.Thread(target=_write_failed_status, args=(run,), daemon=True)
        thread.start()
        thread.join(_STATUS_TIMEOUT_S)
    child_processes.end_with_children(failure.exit_code)


def _write_failed_status(run: Run) -> None:
    with contextlib.suppress(UserError):
        if run.status == "prepared":
            run.update_manifest(status="failed")


def _check_shared_folder(store: Store, rank: int, world_size: int, watch: PeerWatch, run: Run) -> None:
    """Raise UserError, on all processes, where one does not see the file that the first one writes beside the run's folder."""
    token_file = run.folder.with_name(f".{run.folder.name}.token")
    if rank != 0:
        _wait_for_text(token_file, store.get(_TOKEN_KEY).decode(), run.folder.parent)
        store.set(_READER_KEY.format(rank), "")
        return
    token, missing_ranks = secrets.token_hex(16), list(range(1, world_size))
    write_text(make_writable_folder(token_file.parent) / token_file.name, token)
    deadline_s = time.monotonic() + 2 * _FILES_TIMEOUT_S
    try:
        store.set(_TOKEN_KEY, token)
        while missing_ranks := [rank for rank in missing_ranks if not store.check([_READER_KEY.format(rank)])]:
            if failure := watch.wait_for_failure(_POLL_INTERVAL_S):
                raise failure.error()
            if time.monotonic() > deadline_s:
                raise UserError(
                    f"rank {join_names([*map(str, missing_ranks)], 8)} has not answered whether it sees what is written there",
                    where=run.folder.parent,
                    hint="the shared file system may hang on its machine",
                )
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
