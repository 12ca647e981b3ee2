"""SQL statements from many tasks in, one transaction with one fsync for all that waited, out.

A commit that waits for the disk takes milliseconds, and a ledger needs two for each request. A thread writes: while it waits for
the disk, the event loop goes on, and all statements that come meanwhile are written by the next commit. Its own module because it
knows threads and the event loop, and nothing of what it writes.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from orca_bench.errors import UserError

#: A statement with its parameters.
Statement = tuple[str, Sequence[Any]]


@dataclass(frozen=True)
class _Submission:
    statements: Sequence[Statement]
    loop: asyncio.AbstractEventLoop
    committed: asyncio.Future[None]


class GroupCommitter:
    """The one writer of `database`, a connection of `isolation_level=None` that may be used by several threads.

    `connection_lock` is held for each transaction; who reads by the connection holds it too. `explain_error` makes the error for
    the user of one of SQLite or Python. After the first error nothing more is written, and every `commit` raises that error.
    """

    def __init__(
        self,
        database: sqlite3.Connection,
        connection_lock: threading.Lock,
        explain_error: Callable[[Exception], UserError],
    ):
        self._database, self._connection_lock, self._explain_error = database, connection_lock, explain_error
        self._submissions: queue.SimpleQueue[_Submission | None] = queue.SimpleQueue()
        self.error: UserError | None = None
        self._thread = threading.Thread(target=self._write_groups, name="ledger", daemon=True)
        self._thread.start()

    def submit(self, statements: Sequence[Statement]) -> asyncio.Future[None]:
        """Hand over statements, which are written in the order of the calls; the future is done when the disk has them.

        Cancelling the future does not take them back.
        """
        loop = asyncio.get_running_loop()
        submission = _Submission(statements, loop, loop.create_future())
        self._submissions.put(submission)
        return submission.committed

    def close(self) -> None:
        """Write what was submitted and end the thread."""
        self._submissions.put(None)
        self._thread.join()

    def _write_groups(self) -> None:
        is_open = True
        while is_open:
            group = [self._submissions.get()]
            while True:
                try:
                    group.append(self._submissions.get_nowait())
                except queue.Empty:
                    break
            submissions = [submission for submission in group if submission is not None]
            is_open = len(submissions) == len(group)
            if submissions:
                self._write_group(submissions)

    def _write_group(self, submissions: Sequence[_Submission]) -> None:
        if self.error is None:
            try:
                with self._connection_lock:
                    self._execute(submissions)
            except Exception as error:  # of whatever kind: the tasks wait for this thread
                self.error = self._explain_error(error)
        for loop in {submission.loop for submission in submissions}:
            futures = [submission.committed for submission in submissions if submission.loop is loop]
            if not loop.is_closed():
                loop.call_soon_threadsafe(_resolve, futures, self.error)

    def _execute(self, submissions: Sequence[_Submission]) -> None:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            for submission in submissions:
                for sql_statement, parameters in submission.statements:
                    self._database.execute(sql_statement, parameters)
            self._database.execute("COMMIT")
        except Exception:
            if self._database.in_transaction:  # SQLite ends it by itself after some errors
                self._database.execute("ROLLBACK")
            raise


def _resolve(futures: Sequence[asyncio.Future[None]], error: UserError | None) -> None:
    for future in futures:
        if future.done():  # cancelled
            continue
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)
