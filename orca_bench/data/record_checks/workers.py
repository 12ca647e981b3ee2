"""Batches in, their checks out in the same order, by several processes that end with this one.

A few batches more than there are workers wait at a time, so that memory does not grow with the number of records. Its own module
because nothing here knows what is checked.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import multiprocessing
import os
import signal
import sys
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from orca_bench.child_processes import end_with_parent
from orca_bench.data.record_checks.batches import BatchCheck, RowBatch, RowChecker
from orca_bench.errors import UserError

_WAITING_BATCHES = 2  # for each worker

_logger = logging.getLogger(__name__)

_worker_checker: RowChecker | None = None


def checked_batches(
    checker: RowChecker, batches: Iterable[RowBatch], worker_count: int
) -> Generator[BatchCheck, None, None]:
    """Check the batches in this many processes; a single batch, and all batches of one worker, are checked in this process.

    So are all where no process can be started.
    Raises UserError where a worker ends before its work. An error or an interrupt ends all workers after their batch.
    """
    batch_iterator = iter(batches)
    first_batches = list(itertools.islice(batch_iterator, 2))
    all_batches = itertools.chain(first_batches, batch_iterator)
    has_work_for_several = worker_count > 1 and len(first_batches) > 1
    executor = _start_executor(checker, worker_count) if has_work_for_several else None
    if executor is None:
        yield from map(checker.check, all_batches)
        return
    waiting: deque[Future[BatchCheck]] = deque()
    try:
        for batch in all_batches:
            with _interrupts_later():  # a call may start a worker
                waiting.append(executor.submit(_check_batch, batch))
            if len(waiting) > worker_count * _WAITING_BATCHES:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool:
        raise UserError(
            "a worker process was killed from outside, most likely because the memory is full",
            where="--workers",
            hint="fewer workers need less memory",
        ) from None
    finally:
        executor.shutdown(cancel_futures=True)


def _start_executor(checker: RowChecker, worker_count: int) -> ProcessPoolExecutor | None:
    """Start worker processes that check batches and return their executor; None where the system refuses a process or thread.

    Linux refuses a fork of a process that has reserved more memory than the machine has, used or not: the fork would reserve it
    again. An interrupt in the meantime ends the workers before it is raised.
    """
    # Forked workers share the index of the benchmarks' rows; macOS' own libraries do not survive a fork.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    executor = ProcessPoolExecutor(worker_count, context, _start_worker, (checker,))
    earlier_children = set(multiprocessing.active_children())
    has_workers = False
    try:
        with _interrupts_later():
            try:
                executor.submit(os.getpid)  # the first call starts the workers
                has_workers = True
            except (
                OSError,
                RuntimeError,
            ) as error:  # Python raises RuntimeError where the executor's thread is refused
                for worker in set(multiprocessing.active_children()) - earlier_children:
                    worker.kill()
                    worker.join()
                _logger.warning("one process checks all records, since no other can be started: %s", error)
    except BaseException:
        if has_workers:
            executor.shutdown(cancel_futures=True)
        raise
    return executor if has_workers else None


@contextlib.contextmanager
def _interrupts_later() -> Iterator[None]:
    """Ctrl-C in the block comes after it, and never to a process that is started in the block: its parent ends it."""
    previous_mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous_mask)


def _start_worker(checker: RowChecker) -> None:
    global _worker_checker
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # each worker has a core; and the library warns of forks otherwise
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    end_with_parent()
    _worker_checker = checker


def _check_batch(batch: RowBatch) -> BatchCheck:
    assert _worker_checker is not None, "`_start_worker` ran"
    return _worker_checker.check(batch)
