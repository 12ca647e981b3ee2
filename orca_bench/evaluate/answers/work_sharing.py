"""Work in pieces, shared by processes: whoever is free takes the next piece, so that nobody idles at the end.

The first process has the pieces, the answers and the store of answers; the others, the helpers, have an engine, and answer the
pieces that come over a connection. `helpers` starts them on this machine, over pipes that no other process can open. A
launcher such as torchrun may start them too (`launched`): they then talk through its own TCPStore, in JSON.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Protocol as Interface

from orca_bench import child_processes, library_settings
from orca_bench.errors import NotFinite, OutOfTime, UserError

_PATIENCE = datetime.timedelta(days=2)  # helpers wait while the first process loads, counts and scores
_POLL_S = 0.02
_EXIT_S = 5  # how long a helper that closed its connection may take to end

#: What a helper computes its answer to: a JSON value.
WorkItem = list


class Connection(Interface):
    """One end of a connection between the first process and a helper; JSON values go over it."""

    def send(self, value: object) -> None:
        """Send a value; raises OSError where the other end is gone."""

    def recv(self) -> object:
        """Wait for a value; raises OSError or EOFError where the other end is gone."""


class Work(Interface):
    """Some pieces, by number."""

    def __len__(self) -> int:
        """How many."""

    def cached(self, number: int) -> list | None:
        """The answers to a piece that an earlier run kept."""

    def work_item(self, number: int) -> WorkItem:
        """What a helper needs to compute a piece."""

    def compute(self, number: int) -> list:
        """The answers to a piece, JSON values."""

    def save(self, number: int, answers: list) -> None:
        """Be told of the answers to a piece, computed here."""

    def receive(self, number: int, answers: list) -> None:
        """Be told of the answers to a piece, computed elsewhere."""

    def name_error(self, number: int, error: UserError) -> UserError:
        """An error of a piece, with the request named that it is about."""


@dataclass(eq=False)
class Helper:
    """A helper as the first process sees it; `process` is None where a launcher started it."""

    connection: Connection
    process: object | None = None

    def ending(self) -> str:
        """How its process ended."""
        if self.process is None:
            return "ended"
        self.process.join(_EXIT_S)
        code = self.process.exitcode
        return f"was ended by signal {-code}" if code is not None and code < 0 else f"ended with exit code {code}"


class WorkerPool:
    """The first process and its helpers, of which there may be none."""

    def __init__(self, helpers: Sequence[Helper] = ()):
        self.helpers = list(helpers)
        self.size = 1 + len(self.helpers)
        #: Told of a helper that has ended or failed.
        self.say: Callable[[str], None] = lambda line: None
        #: Whether no further piece is to be begun.
        self.expired: Callable[[], bool] = lambda: False
        #: Whether a piece was computed: each command is to compute one at least, so that repeated ones come to an end.
        self.begun = False

    def share(self, work: Work) -> list[list]:
        """The answers to all pieces, in order.

        Where a helper ends or fails, the others do its share. Raises what is wrong with a piece, and OutOfTime once
        `expired`, with all answers kept that were begun; the team's first piece is computed even then.
        """
        return _Share(self, work).answers()


class _Share:
    """One call of `share`: the pieces that wait, the helpers at work, the answers so far."""

    def __init__(self, workers: WorkerPool, work: Work):
        self._workers, self._work = workers, work
        self._answers = {n: kept for n in range(len(work)) if (kept := work.cached(n)) is not None}
        self._waiting = deque(n for n in range(len(work)) if n not in self._answers)
        #: (helper, number of the piece or None where the helper gets no more, reply or None where the helper has ended)
        self._replies: SimpleQueue[tuple[Helper, int | None, dict | None]] = SimpleQueue()
        # The last piece is always computed here.
        self._at_work = set(workers.helpers[: max(0, len(self._waiting) - 1)])

    def answers(self) -> list[list]:
        self._stop_where_expired()
        for helper in self._at_work:
            threading.Thread(target=self._send_pieces, args=(helper,), daemon=True).start()
        while len(self._answers) < len(self._work):
            self._stop_where_expired()
            number = self._next()
            if number is not None:
                answers = self._work.compute(number)
                self._work.save(number, answers)
                self._answers[number] = answers
            elif self._at_work:
                self._receive(*self._replies.get())
            else:
                raise OutOfTime
            self._workers.begun = True
            while not self._replies.empty():
                self._receive(*self._replies.get())
        return [self._answers[number] for number in range(len(self._work))]

    def _stop_where_expired(self) -> None:
        if self._workers.begun and self._workers.expired():
            self._waiting.clear()

    def _next(self) -> int | None:
        """The piece that falls to whoever asks, or None where none waits."""
        with contextlib.suppress(IndexError):
            return self._waiting.popleft()
        return None

    def _send_pieces(self, helper: Helper) -> None:
        """In a thread: give a helper piece after piece, each when it has answered the one before."""
        while (number := self._next()) is not None:
            try:
                helper.connection.send(self._work.work_item(number))
                reply = helper.connection.recv()
            except (OSError, EOFError):
                reply = None
            self._replies.put((helper, number, reply))
            if reply is None or "answers" not in reply:
                break
        self._replies.put((helper, None, None))

    def _receive(self, helper: Helper, number: int | None, reply: dict | None) -> None:
        if number is None:
            self._at_work.remove(helper)
        elif reply is not None and "answers" in reply:
            self._answers[number] = reply["answers"]
            self._work.receive(number, reply["answers"])
        elif reply is not None and "error" in reply:
            raise self._work.name_error(number, _read_error(reply["error"]))
        else:
            self._waiting.appendleft(number)
            self._workers.helpers.remove(helper)
            ending = helper.ending() if reply is None else f"failed ({reply['failure']})"
            self._workers.say(f"a helper process {ending}; the others do its share")


def answer(connection: Connection, compute: Callable[[WorkItem], list]) -> None:
    """In a helper: answer the pieces that come over a connection, until it closes or None comes."""
    with contextlib.suppress(OSError, EOFError):
        while (piece := connection.recv()) is not None:
            with replying_errors(connection):
                connection.send({"answers": compute(piece)})


@contextlib.contextmanager
def replying_errors(connection: Connection) -> Iterator[None]:
    """Send what goes wrong in the block to the first process, in the place of answers."""
    try:
        yield
    except UserError as error:
        number, value = (error.number, error.value) if isinstance(error, NotFinite) else (None, None)
        where = None if error.where is None else str(error.where)
        connection.send({"error": [error.what, where, error.hint, number, value]})
    except (OSError, EOFError):
        raise
    except Exception as error:  # the first process says it, and does the piece itself
        connection.send({"failure": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"})


def _read_error(fields: list) -> UserError:
    what, where, hint, number, value = fields
    return UserError(what, where=where, hint=hint) if number is None else NotFinite(number, value)


# --- helpers that are started here ----------------------------------------------------------------------------------


@contextlib.contextmanager
def helpers(count: int, order: object) -> Iterator[WorkerPool]:
    """A team of this process and `count` − 1 that are started here for the same order, and end with the block."""
    if count == 1:
        yield WorkerPool()
        return
    import multiprocessing

    context = multiprocessing.get_context("spawn")  # torch's threads and devices do not survive a fork
    members: list[Helper] = []
    try:
        with _without_interrupts():
            for rank in range(1, count):
                ours, theirs = context.Pipe()
                process = context.Process(target=_help, args=(rank, count, theirs, order), daemon=True)
                process.start()
                theirs.close()  # so that the connection closes with the helper
                members.append(Helper(ours, process))
        yield WorkerPool(members)
    finally:
        for member in members:
            member.process.kill()
        for member in members:
            member.process.join()


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """What is started in the block ignores Ctrl-C, which then reaches the first process alone."""
    if threading.current_thread() is not threading.main_thread():  # signals cannot be set there
        yield
        return
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def _help(rank: int, size: int, connection: Connection, order: object) -> None:
    """The whole of a helper that `helpers` started."""
    import warnings

    child_processes.follow_parent()
    os.environ["LOCAL_RANK"] = str(rank)
    warnings.simplefilter("ignore")  # the first process gives the same
    library_settings.prepare()

    from orca_bench.evaluate import evaluation

    evaluation.run_helper(order, connection, size)


# --- helpers that a launcher started --------------------------------------------------------------------------------


def launched() -> bool:
    """Whether a launcher started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


class Mailbox:
    """A connection of two processes through a torch store: values as JSON, under keys that are numbered."""

    def __init__(self, store, sending: str, receiving: str):
        self._store, self._sending, self._receiving = store, sending, receiving
        self._sent = self._received = 0

    def send(self, value: object) -> None:
        self._sent += 1
        with _as_os_error():
            self._store.set(f"orca-bench/{self._sending}/{self._sent}", json.dumps(value))

    def recv(self) -> object:
        self._received += 1
        key = f"orca-bench/{self._receiving}/{self._received}"
        with _as_os_error():
            while not self._store.check([key]):
                time.sleep(_POLL_S)
            value = json.loads(self._store.get(key))
            self._store.delete_key(key)
        return value


@contextlib.contextmanager
def _as_os_error() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # torch 2.13's DistStoreError and DistNetworkError: the store's process has ended
        raise ConnectionError(str(error)) from None


@contextlib.contextmanager
def from_environment() -> Iterator[tuple[WorkerPool | None, Connection | None, int]]:
    """Of the processes that a launcher started (RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT) this one's part.

    (team, None, processes) in the first process; (None, connection to the first, processes) in a helper. The helpers end with
    the block of the first.
    """
    from torch.distributed import rendezvous

    store, rank, size = next(rendezvous("env://", timeout=_PATIENCE))
    if rank:
        yield None, Mailbox(store, f"{rank}/answers", f"{rank}/pieces"), size
        return
    members = [Helper(Mailbox(store, f"{other}/pieces", f"{other}/answers")) for other in range(1, size)]
    try:
        yield WorkerPool(members), None, size
    finally:
        for member in members:
            with contextlib.suppress(OSError):
                member.connection.send(None)
