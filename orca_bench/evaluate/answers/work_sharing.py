"""Work items shared by processes: whoever is free takes the next item, so that none is idle before the end.

The first process has the items, the answers and their cache. The others, the helpers, have an engine, and answer the items that
come over a connection. `start_workers` starts helpers on this machine, over pipes that no other process can open. A launcher
such as torchrun may have started them already; `launched_workers` then connects the processes through torch's TCPStore, in
JSON. Its own module because it knows processes and neither models nor requests.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Protocol

from orca_bench import child_processes, launcher_environment, library_settings
from orca_bench.errors import NotFinite, OutOfTime, UserError, one_line

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess

    from torch.distributed import Store

_HELPER_WAIT_TIMEOUT = datetime.timedelta(days=2)  # helpers wait while the first process loads, counts and scores
_POLL_INTERVAL_S = 0.02
_HELPER_EXIT_TIMEOUT_S = 30.0  # how long a helper that closed its connection may take to end

#: What a helper needs to compute some answers: a JSON value.
WorkItem = list[Any]
#: Answers to a work item, in order: JSON values.
Answers = list[Any]


class Connection(Protocol):
    """One end of a connection between the first process and a helper; JSON values go over it."""

    def send(self, json_value: Any) -> None:
        """Send a value; raises OSError where the other end is gone."""

    def recv(self) -> Any:
        """Wait for a value; raises OSError or EOFError where the other end is gone."""


class Work(Protocol):
    """Some work items, by number from 0."""

    def __len__(self) -> int:
        """How many."""

    def cached(self, item_index: int) -> Answers | None:
        """The answers to an item that an earlier run has cached; None where there are none."""

    def work_item(self, item_index: int) -> WorkItem:
        """What a helper needs to compute an item."""

    def compute(self, item_index: int) -> Answers:
        """Compute an item in this process; raises UserError, as `name_error` gives it."""

    def save(self, item_index: int, answers: Answers) -> None:
        """Called with the answers to an item that was computed in this process."""

    def receive(self, item_index: int, answers: Answers) -> None:
        """Called with the answers to an item that a helper has computed."""

    def name_error(self, item_index: int, error: UserError) -> UserError:
        """A helper's error about an item, with the request named that it is about."""


@dataclass(eq=False)
class Helper:
    """A helper as the first process sees it; `process` is None where a launcher started it."""

    connection: Connection
    process: SpawnProcess | None = None

    def ending_phrase(self) -> str:
        """How its process ended, as the predicate of a sentence."""
        if self.process is None:
            return "ended"
        self.process.join(_HELPER_EXIT_TIMEOUT_S)
        exit_code = self.process.exitcode
        return (
            f"was ended by signal {-exit_code}"
            if exit_code is not None and exit_code < 0
            else f"ended with exit code {exit_code}"
        )


class WorkerPool:
    """The first process and its helpers, of which there may be none.

    `show_message` is called with a sentence for the user about a helper that has ended or failed. `is_expired` says whether no
    further item is to be begun. `has_computed_item` is whether an item was computed: each command computes one at least, so
    that a command with a short time limit that is repeated comes to an end.
    """

    def __init__(self, helpers: Sequence[Helper] = ()):
        self.helpers: list[Helper] = []
        self.process_count = 1  # processes, this one included, also where some have ended
        for helper in helpers:
            self.add(helper)
        self.show_message: Callable[[str], None] = lambda line: None
        self.is_expired: Callable[[], bool] = lambda: False
        self.has_computed_item = False
        self._threads: list[threading.Thread] = []

    def add(self, helper: Helper) -> None:
        """One more helper."""
        self.helpers.append(helper)
        self.process_count += 1

    def start_thread(self, thread_function: Callable[[Helper], None], helper: Helper) -> None:
        """Run `thread_function(helper)` beside this thread; see `join_threads`."""
        thread = threading.Thread(target=thread_function, args=(helper,), daemon=True)
        self._threads.append(thread)
        thread.start()

    def join_threads(self) -> None:
        """Wait for the threads, once all helpers have ended or their connections are closed.

        A thread that is still inside a library when Python ends may abort the process (torch 2.13 with Python 3.11).
        """
        for thread in self._threads:
            thread.join(_HELPER_EXIT_TIMEOUT_S)

    def share(self, work: Work) -> list[Answers]:
        """The answers to all items, in order.

        Where a helper ends or fails, the others do its share. Raises the error of an item, and OutOfTime once `is_expired`, when
        the items that were begun have been answered; the pool's first item is computed even then.
        """
        return _SharedComputation(self, work).answers()


class _SharedComputation:
    """One call of `share`: the items that wait, the helpers at work, the answers so far."""

    def __init__(self, workers: WorkerPool, work: Work):
        self._workers, self._work = workers, work
        self._answers_by_index = {i: answers for i in range(len(work)) if (answers := work.cached(i)) is not None}
        self._waiting_item_indices = deque(i for i in range(len(work)) if i not in self._answers_by_index)
        #: (helper, number of the item or None where the helper gets no more, reply or None where the helper has ended)
        self._reply_queue: SimpleQueue[tuple[Helper, int | None, dict[str, Any] | None]] = SimpleQueue()
        # The last item is always computed here.
        self._active_helpers = set(workers.helpers[: max(0, len(self._waiting_item_indices) - 1)])

    def answers(self) -> list[Answers]:
        self._drop_waiting_items_if_expired()
        for helper in self._active_helpers:
            self._workers.start_thread(self._send_items, helper)
        while len(self._answers_by_index) < len(self._work):
            self._drop_waiting_items_if_expired()
            item_index = self._next_index()
            if item_index is not None:
                answers = self._work.compute(item_index)
                self._work.save(item_index, answers)
                self._answers_by_index[item_index] = answers
            elif self._active_helpers:
                self._take_reply(*self._reply_queue.get())
            else:
                raise OutOfTime
            self._workers.has_computed_item = True
            while not self._reply_queue.empty():
                self._take_reply(*self._reply_queue.get())
        return [self._answers_by_index[item_index] for item_index in range(len(self._work))]

    def _drop_waiting_items_if_expired(self) -> None:
        if self._workers.has_computed_item and self._workers.is_expired():
            self._waiting_item_indices.clear()

    def _next_index(self) -> int | None:
        """The next item for the caller, a thread of this process; None where none waits."""
        with contextlib.suppress(IndexError):
            return self._waiting_item_indices.popleft()
        return None

    def _send_items(self, helper: Helper) -> None:
        """In a thread: send a helper item after item, each when it has answered the one before."""
        while (item_index := self._next_index()) is not None:
            try:
                helper.connection.send(self._work.work_item(item_index))
                reply = helper.connection.recv()
            except (OSError, EOFError):
                reply = None
            self._reply_queue.put((helper, item_index, reply))
            if reply is None or "answers" not in reply:
                break
        self._reply_queue.put((helper, None, None))

    def _take_reply(self, helper: Helper, item_index: int | None, reply: dict[str, Any] | None) -> None:
        if item_index is None:
            self._active_helpers.remove(helper)
        elif reply is not None and "answers" in reply:
            self._answers_by_index[item_index] = reply["answers"]
            self._work.receive(item_index, reply["answers"])
        elif reply is not None and "error" in reply:
            raise self._work.name_error(item_index, _error_from_fields(reply["error"]))
        else:
            self._waiting_item_indices.appendleft(item_index)
            self._workers.helpers.remove(helper)
            helper_ending = helper.ending_phrase() if reply is None else f"failed ({reply['failure']})"
            self._workers.show_message(f"a helper process {helper_ending}; the others do its share")


def answer_work_items(connection: Connection, compute: Callable[[WorkItem], Answers]) -> None:
    """In a helper: answer the items that come over a connection, until it closes or None comes."""
    with contextlib.suppress(OSError, EOFError):
        while (work_item := connection.recv()) is not None:
            with reply_with_errors(connection):
                connection.send({"answers": compute(work_item)})


@contextlib.contextmanager
def reply_with_errors(connection: Connection) -> Iterator[None]:
    """Send an error that the block raises to the first process, in the place of answers."""
    try:
        yield
    except UserError as error:
        request_index, invalid_value = (
            (error.request_number, error.value) if isinstance(error, NotFinite) else (None, None)
        )
        where = None if error.where is None else str(error.where)
        connection.send({"error": [error.problem, where, error.hint, request_index, invalid_value]})
    except (OSError, EOFError):
        raise
    except Exception as error:  # the first process says it, and computes the item itself
        connection.send({"failure": f"{type(error).__name__}: {one_line(error, 300)}"})


def _error_from_fields(error_fields: list[Any]) -> UserError:
    problem, location, hint, request_index, invalid_value = error_fields
    return (
        UserError(problem, where=location, hint=hint)
        if request_index is None
        else NotFinite(request_index, invalid_value)
    )


# --- helpers that are started here ----------------------------------------------------------------------------------


@contextlib.contextmanager
def start_workers(process_count: int, run_helper: Callable[[Connection, int], None]) -> Iterator[WorkerPool]:
    """A pool of this process and `process_count` − 1 helpers that are started here, and end with the block.

    Each helper calls `run_helper(connection to this process, process_count)`, which must be picklable.
    """
    if process_count == 1:
        yield WorkerPool()
        return
    import multiprocessing

    spawn_context = multiprocessing.get_context("spawn")  # torch's threads and devices do not survive a fork
    helper_processes: list[SpawnProcess] = []
    worker_pool = WorkerPool()
    try:
        with _without_interrupts():
            for rank in range(1, process_count):
                parent_end, child_end = spawn_context.Pipe()
                process = spawn_context.Process(
                    target=_run_helper_process, args=(rank, process_count, child_end, run_helper), daemon=True
                )
                process.start()
                helper_processes.append(process)
                child_end.close()  # so that the connection closes with the helper
                worker_pool.add(Helper(parent_end, process))
        yield worker_pool
    finally:
        for process in helper_processes:
            process.kill()
        for process in helper_processes:
            process.join()
        worker_pool.join_threads()


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """Processes that are started in the block ignore Ctrl-C, which then reaches the first process alone."""
    if threading.current_thread() is not threading.main_thread():  # signals cannot be set there
        yield
        return
    previous_handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous_handler)


def _run_helper_process(
    rank: int, process_count: int, connection: Connection, run_helper: Callable[[Connection, int], None]
) -> None:
    """The whole of a helper that `start_workers` started: number `rank` of `process_count` processes."""
    import warnings

    child_processes.end_with_parent()
    launcher_environment.set_local_rank(rank)
    warnings.simplefilter("ignore")  # the first process gives the same
    library_settings.prepare_libraries()
    run_helper(connection, process_count)


# --- helpers that a launcher started --------------------------------------------------------------------------------


class StoreConnection:
    """A connection of two processes through a torch store: values as JSON, under numbered keys."""

    def __init__(self, store: Store, outgoing_name: str, incoming_name: str):
        self._store, self._outgoing_name, self._incoming_name = store, outgoing_name, incoming_name
        self._sent_count = self._received_count = 0
        self._is_closed = False

    def send(self, json_value: Any) -> None:
        """Send a value; raises ConnectionError where the store's process has ended."""
        self._sent_count += 1
        with _store_errors_as_connection_error():
            self._store.set(f"orca-bench/{self._outgoing_name}/{self._sent_count}", json.dumps(json_value))

    def recv(self) -> Any:
        """Wait for a value; raises ConnectionError where the store's process has ended, or after `close`."""
        self._received_count += 1
        key = f"orca-bench/{self._incoming_name}/{self._received_count}"
        with _store_errors_as_connection_error():
            while not self._store.check([key]):
                if self._is_closed:
                    raise ConnectionError("the connection was closed here")
                time.sleep(_POLL_INTERVAL_S)
            json_value = json.loads(self._store.get(key))
            self._store.delete_key(key)
        return json_value

    def close(self) -> None:
        """Let a `recv` that waits in another thread raise ConnectionError."""
        self._is_closed = True


@contextlib.contextmanager
def _store_errors_as_connection_error() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # torch 2.13's DistStoreError and DistNetworkError: the store's process has ended
        raise ConnectionError(str(error)) from None


@contextlib.contextmanager
def launched_workers() -> Iterator[tuple[WorkerPool | None, Connection | None, int]]:
    """This process's part among those that a launcher started (RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT).

    (pool, None, number of processes) in the first process; (None, connection to the first, number of processes) in a helper.
    The helpers end with the block of the first. Raises UserError where the others cannot be reached.
    """
    store = launcher_environment.open_store(_HELPER_WAIT_TIMEOUT)
    rank, process_count = launcher_environment.rank(), launcher_environment.world_size()
    if rank:
        yield None, StoreConnection(store, f"{rank}/answers", f"{rank}/pieces"), process_count
        return
    store_connections = [
        StoreConnection(store, f"{helper_rank}/pieces", f"{helper_rank}/answers")
        for helper_rank in range(1, process_count)
    ]
    worker_pool = WorkerPool([Helper(store_connection) for store_connection in store_connections])
    try:
        yield worker_pool, None, process_count
    finally:
        for store_connection in store_connections:
            with contextlib.suppress(OSError):
                store_connection.send(None)
            store_connection.close()
        worker_pool.join_threads()
