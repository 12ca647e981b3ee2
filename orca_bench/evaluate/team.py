"""Work in pieces, handed out over processes: whoever is free takes the next piece, so that nobody idles at the end.

Every process runs the same evaluation and so has the same pieces in the same order. They meet in torch's TCPStore, which
counts what was handed out and passes answers to the first process, the only one that keeps and scores them. The others are
helpers: started here by `helpers`, or by a launcher such as torchrun (`from_environment`).
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol as Interface

from orca_bench import libraries
from orca_bench.errors import UserError

_PATIENCE = datetime.timedelta(days=2)  # the others wait while the first scores and loads
_POLL_S = 0.02


class Work(Interface):
    """Some pieces, by number."""

    def __len__(self) -> int:
        """How many."""

    def kept(self, place: int) -> list | None:
        """The answers to a piece that an earlier run kept."""

    def compute(self, place: int) -> list:
        """The answers to a piece, JSON values."""

    def keep(self, place: int, answers: list) -> None:
        """Be told of the answers to a piece, computed here."""

    def receive(self, place: int, answers: list) -> None:
        """Be told of the answers to a piece, computed elsewhere."""


class Alone:
    """One process does everything."""

    first, size = True, 1

    def share(self, work: Work) -> list[list]:
        """The answers to all pieces, in order."""
        answers = []
        for place in range(len(work)):
            found = work.kept(place)
            if found is None:
                found = work.compute(place)
                work.keep(place, found)
            answers.append(found)
        return answers


class Team:
    """One of `size` processes around a TCPStore; rank 0 is the first."""

    def __init__(self, store, rank: int, size: int, processes: Sequence[subprocess.Popen] = ()):
        self._store, self.rank, self.size, self._processes = store, rank, size, list(processes)
        self.first = rank == 0
        #: Told of a helper that has died.
        self.say: Callable[[str], None] = lambda line: None
        self._round, self._mourned = 0, set()

    def share(self, work: Work) -> list[list] | None:
        """The answers to all pieces, in order; None in a helper.

        Raises what a helper could not do, in the first process.
        """
        self._round += 1
        return self._lead(work) if self.first else self._help(work)

    def _lead(self, work: Work) -> list[list]:
        answers = {place: found for place in range(len(work)) if (found := work.kept(place)) is not None}
        wanted = [place for place in range(len(work)) if place not in answers]
        self._store.set(self._key("wanted"), json.dumps(wanted))
        for place in self._claims(wanted):
            answers[place] = work.compute(place)
            work.keep(place, answers[place])
            self._collect(work, wanted, answers)
        while missing := [place for place in wanted if place not in answers]:
            self._collect(work, wanted, answers)
            if self._bereaved():
                place = missing[-1]  # held by a helper that has died, or by one that still works on it
                answers[place] = work.compute(place)
                work.keep(place, answers[place])
            time.sleep(_POLL_S)
        return [answers[place] for place in range(len(work))]

    def _bereaved(self) -> bool:
        """Whether a helper that was started here has died; said once of each."""
        dead = [process for process in self._processes if process.poll() not in (None, 0)]
        for process in dead:
            if process.pid not in self._mourned:
                self._mourned.add(process.pid)
                self.say(f"a helper process ended with exit code {process.returncode}; the others do its share")
        return bool(dead)

    def _help(self, work: Work) -> None:
        for place in self._claims(json.loads(self._store.get(self._key("wanted")))):
            try:
                said = {"answers": work.compute(place)}
            except UserError as error:
                said = {"error": [error.what, str(error.where or "") or None, error.hint]}
            self._store.set(self._key(place), json.dumps(said))
            if "error" in said:
                return

    def _claims(self, wanted: list[int]) -> Iterator[int]:
        """The pieces that fall to this process, each when it asks for it."""
        while (taken := self._store.add(self._key("taken"), 1)) <= len(wanted):
            yield wanted[taken - 1]

    def _collect(self, work: Work, wanted: list[int], answers: dict[int, list]) -> None:
        taken = self._store.add(self._key("taken"), 0)
        for place in wanted[:taken]:
            if place in answers or not self._store.check([self._key(place)]):
                continue
            said = json.loads(self._store.get(self._key(place)))
            self._store.delete_key(self._key(place))
            if "error" in said:
                what, where, hint = said["error"]
                raise UserError(what, where=where, hint=hint)
            answers[place] = said["answers"]
            work.receive(place, answers[place])

    def _key(self, name: object) -> str:
        return f"orca-bench/{self._round}/{name}"


@contextlib.contextmanager
def helpers(count: int, order: object) -> Iterator[Alone | Team]:
    """A team of this process and `count` − 1 that are started here for the same order, and end with the block."""
    if count == 1:
        yield Alone()
        return
    from torch.distributed import TCPStore

    store = TCPStore("127.0.0.1", 0, count, is_master=True, timeout=_PATIENCE, wait_for_workers=False)
    processes = [_start(rank, count, store.port, order) for rank in range(1, count)]
    try:
        yield Team(store, 0, count, processes)
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.wait()


def launched() -> bool:
    """Whether a launcher started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def from_environment() -> Team:
    """The team of the processes that a launcher started, by RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT."""
    from torch.distributed import rendezvous

    store, rank, size = next(rendezvous("env://", timeout=_PATIENCE))
    return Team(store, rank, size)


def local_rank() -> int:
    """Which of this machine's processes this one is: the number of its GPU."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def _start(rank: int, size: int, port: int, order: object) -> subprocess.Popen:
    package = str(Path(__file__).resolve().parents[2])
    paths = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH", "")]))
    environment = os.environ | {
        "LOCAL_RANK": str(rank),
        "ORCA_BENCH_TEAM": f"{rank} {size} {port}",
        "PYTHONPATH": paths,
        "PYTHONWARNINGS": "ignore",
    }
    # In a session of its own: Ctrl-C reaches the first process alone, which then ends the others.
    process = subprocess.Popen(
        [sys.executable, "-m", __name__], stdin=subprocess.PIPE, env=environment, start_new_session=True
    )
    with contextlib.suppress(BrokenPipeError):  # it has died at once; the first process will notice
        process.stdin.write(pickle.dumps(order))
        process.stdin.close()
    return process


def main() -> None:
    """A helper that `helpers` started: its order comes through standard input, and it says nothing but errors."""
    libraries.prepare()
    from torch.distributed import TCPStore

    from orca_bench.evaluate import job

    rank, size, port = map(int, os.environ["ORCA_BENCH_TEAM"].split())
    order = pickle.load(sys.stdin.buffer)
    store = TCPStore("127.0.0.1", port, size, is_master=False, timeout=_PATIENCE)
    job.assist(order, Team(store, rank, size))


if __name__ == "__main__":
    main()
