"""The training processes of a command in, which of them was the first to end without a message out.

A launcher ends the other processes where one is killed, and these report that a connection is closed, so that what was the
cause and what followed must be told apart. Each process leaves a file with its id while it trains, and removes it at its end,
also after an error; so a process that is gone and whose file is there was killed. Its own module because the process that
waits for the launcher needs it, with any launcher, and the launchers' own reports differ.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass

import psutil

from orca_bench.errors import UserError
from orca_bench.files import write_text
from orca_bench.train.run_folder import Run

_CONSEQUENCE_S = 5.0  # the time after a process is killed in which the errors of the others are taken for what followed


@dataclass(frozen=True)
class LostRank:
    """A training process that was killed: its rank and its process id, and when this was noticed (time.monotonic)."""

    rank: int
    process_id: int
    noticed_s: float


@contextlib.contextmanager
def registered(run: Run, rank: int) -> Iterator[None]:
    """While the block runs, this process is known as that of a rank."""
    rank_file = run.rank_file(rank)
    with contextlib.suppress(UserError):  # a full disk: the training itself reports it
        write_text(rank_file, str(psutil.Process().pid))
    try:
        yield
    finally:
        rank_file.unlink(missing_ok=True)


class RankProcesses:
    """Watches the training processes of one command; to be made before the launcher is started."""

    def __init__(self, run: Run, process_count: int) -> None:
        self._run, self._process_by_rank = run, dict[int, psutil.Process]()
        self._process_count = process_count
        self.lost_rank: LostRank | None = None
        self.remove_files()

    def remove_files(self) -> None:
        """Remove the files of processes that were killed; to be called where none is left."""
        for rank_file in self._run.folder.glob(self._run.rank_file_pattern):
            rank_file.unlink()

    def look(self) -> None:
        """Note a process that has been killed since the last look; to be called several times a second."""
        for rank in range(self._process_count):
            if rank not in self._process_by_rank:
                self._find_process(rank)
            elif self.lost_rank is None and self._is_lost(rank):
                self.lost_rank = LostRank(rank, self._process_by_rank[rank].pid, time.monotonic())

    def _find_process(self, rank: int) -> None:
        with contextlib.suppress(OSError, ValueError, psutil.NoSuchProcess):  # not there yet, or gone again
            self._process_by_rank[rank] = psutil.Process(int(self._run.rank_file(rank).read_text()))

    def _is_lost(self, rank: int) -> bool:
        """Whether a process was killed: it is gone, and its file is not.

        One that goes 5 s or more after another process reported an error does not count: the launcher has ended it.
        """
        process = self._process_by_rank[rank]
        try:
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                return False
        except psutil.NoSuchProcess:
            pass
        if not self._run.rank_file(rank).exists():
            return False
        try:
            return time.time() - self._run.outcome_file.stat().st_mtime < _CONSEQUENCE_S
        except FileNotFoundError:
            return True
