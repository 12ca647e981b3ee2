"""The ledger of a build: every request, every attempt with its price, and every answer, in one SQLite file with one writer.

An attempt is on disk with the most it can cost before it is sent, and its answer is on disk before anybody is told of it. So a
kill at any instant loses no answer: an attempt that was in flight is listed as `unknown, possibly paid` when the file is opened
again, and its request is asked again. Prices are integers in millionths of a millionth of a dollar, so that sums are exact. Its
own module because the tables are here; that of batches, whose requests stay at a server between two builds, is `batch_ledger`'s.
What only reads is in `ledger_reading`.

Price: one fsync for all that is written meanwhile (`group_commit`). WAL mode with SQLite's exclusive locking needs no memory that
processes share (https://sqlite.org/wal.html), so that the file may lie on a network file system; no second process can read it
while a build runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from orca_bench.data.build.answers import IN_BATCH_STATE, IN_FLIGHT_STATE, UNKNOWN_STATE, Answer, AttemptState
from orca_bench.data.build.group_commit import GroupCommitter, Statement
from orca_bench.data.build.ledger_reading import APPLICATION_ID, SCHEMA_VERSION, LedgerReader, builder_lock_path
from orca_bench.data.build.teacher_requests import TeacherRequest
from orca_bench.errors import UserError, WriteError
from orca_bench.files import make_writable_folder

_CREATE_STATEMENTS = (
    "CREATE TABLE requests (request_id TEXT PRIMARY KEY, source TEXT NOT NULL, row_number INTEGER NOT NULL) WITHOUT ROWID",
    """CREATE TABLE attempts (attempt INTEGER PRIMARY KEY, request_id TEXT NOT NULL, state TEXT NOT NULL,
        worst_case_picodollars INTEGER NOT NULL, picodollars INTEGER, prompt_tokens INTEGER, completion_tokens INTEGER,
        reason TEXT, sent_at TEXT NOT NULL)""",
    """CREATE TABLE answers (request_id TEXT PRIMARY KEY, attempt INTEGER NOT NULL, outcome TEXT NOT NULL, text TEXT NOT NULL,
        reasoning TEXT, finish_reason TEXT, model TEXT, error TEXT) WITHOUT ROWID""",
    f"CREATE INDEX attempts_in_flight ON attempts (attempt) WHERE state = '{IN_FLIGHT_STATE}'",
    f"PRAGMA application_id = {APPLICATION_ID}",
)
#: What version 2 has besides version 1, which `batch_ledger` reads and writes; and version 3 besides version 2.
_ADDED_STATEMENTS = (
    """CREATE TABLE batches (batch_key TEXT PRIMARY KEY, state TEXT NOT NULL, base_url TEXT NOT NULL,
        first_attempt INTEGER NOT NULL, request_count INTEGER NOT NULL, file_sha256 TEXT NOT NULL, file_id TEXT, batch_id TEXT,
        reason TEXT, begun_at TEXT NOT NULL) WITHOUT ROWID""",
    "CREATE TABLE records_files (sha256 TEXT PRIMARY KEY) WITHOUT ROWID",
)


@contextlib.contextmanager
def open_ledger(path: Path) -> Iterator[Ledger]:
    """Open the ledger at `path` for the one builder that writes it; a new file is made where there is none.

    Raises UserError where another builder has it, and where the file is no ledger, is damaged or cannot be written.
    """
    make_writable_folder(path.parent)
    builder_lock = FileLock(builder_lock_path(path), timeout=0)
    try:
        builder_lock.acquire()
    except Timeout:  # an OSError too
        raise UserError(
            "another build is writing this ledger", where=path, hint="wait for it, or choose another output"
        ) from None
    except OSError as error:
        raise WriteError(f"cannot write: {error.strerror or error}", where=builder_lock.lock_file) from None
    try:
        ledger = Ledger(path)
        try:
            yield ledger
        finally:
            ledger.close()
    finally:
        builder_lock.release()


class Ledger(LedgerReader):
    """An open ledger that is written; `open_ledger` makes one. Every method raises UserError where that fails.

    `begin_attempt`, `end_attempt` and `abandon_attempts` are called in one event loop; the methods that read, anywhere.
    """

    def __init__(self, path: Path):
        try:
            database = sqlite3.connect(path, timeout=5, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as error:
            raise WriteError(f"cannot open the ledger: {error}", where=path) from None
        super().__init__(path, database)
        try:
            with self.explain_errors():
                self._prepare_database()
        except BaseException:
            self._database.close()
            raise
        self._committer = GroupCommitter(self._database, self._connection_lock, self.explain_error)

    def _prepare_database(self) -> None:
        execute = self._database.execute
        execute("PRAGMA locking_mode = EXCLUSIVE")
        execute("PRAGMA journal_mode = WAL")
        execute("PRAGMA synchronous = FULL")  # each commit waits for the disk: no power cut loses an answer either
        execute("BEGIN IMMEDIATE")
        version = self.check_format()
        for create_statement in (*(() if version else _CREATE_STATEMENTS), *_ADDED_STATEMENTS[max(version - 1, 0) :]):
            execute(create_statement)
        if version != SCHEMA_VERSION:
            execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        execute(*_abandon_statement("the build was killed"))
        self._next_attempt = execute("SELECT coalesce(max(attempt), 0) + 1 FROM attempts").fetchone()[0]
        self.picodollars_paid, self.picodollars_unknown = execute(
            "SELECT coalesce(sum(picodollars), 0), coalesce(sum(worst_case_picodollars) FILTER (WHERE state = ?), 0) "
            "FROM attempts",
            (UNKNOWN_STATE,),
        ).fetchone()
        self._worst_case_by_batch_attempt: dict[int, int] = dict(
            execute(
                "SELECT attempt, worst_case_picodollars FROM attempts WHERE state = ?", (IN_BATCH_STATE,)
            ).fetchall()
        )
        self.picodollars_in_batches = sum(self._worst_case_by_batch_attempt.values())
        execute("COMMIT")
        self._worst_case_by_attempt: dict[int, int] = {}
        self.picodollars_in_flight = 0

    def close(self) -> None:
        """Write what is submitted, list what is in flight as unknown, and close the file."""
        self._committer.close()
        try:
            if self._committer.error is None:
                with self.explain_errors():
                    self._database.execute(*_abandon_statement("the build was stopped"))
        finally:
            with contextlib.suppress(sqlite3.Error):
                self._database.close()

    @property
    def is_writable(self) -> bool:
        """Whether everything that was submitted was written."""
        return self._committer.error is None

    @property
    def committed_picodollars(self) -> int:
        """What was paid, with the worst case of all that is in flight, in a batch or unknown: a budget is compared with it."""
        return (
            self.picodollars_paid + self.picodollars_unknown + self.picodollars_in_flight + self.picodollars_in_batches
        )

    async def begin_attempt(self, request: TeacherRequest, worst_case_picodollars: int) -> int:
        """Write that a request is about to be sent; returns the attempt's number when the disk has it.

        `committed_picodollars` includes the worst case from the call on.
        """
        attempt, self._next_attempt = self._next_attempt, self._next_attempt + 1
        self._worst_case_by_attempt[attempt] = worst_case_picodollars
        self.picodollars_in_flight += worst_case_picodollars
        await self.submit(_begin_statements(attempt, request, IN_FLIGHT_STATE, worst_case_picodollars))
        return attempt

    async def begin_batch_attempts(
        self, worst_cases: Sequence[tuple[TeacherRequest, int]], batch_statement_of: Callable[[int], Statement]
    ) -> int:
        """Write a batch of requests, each with its worst case; returns the number of its first attempt, which others follow.

        `batch_statement_of` gives the statement that writes the batch itself, by this number. The disk has all or nothing.
        """
        first_attempt = self._next_attempt
        self._next_attempt += len(worst_cases)
        statements = [batch_statement_of(first_attempt)]
        for attempt, (request, worst_case_picodollars) in enumerate(worst_cases, first_attempt):
            self._worst_case_by_batch_attempt[attempt] = worst_case_picodollars
            self.picodollars_in_batches += worst_case_picodollars
            statements += _begin_statements(attempt, request, IN_BATCH_STATE, worst_case_picodollars)
        await self.submit(statements)
        return first_attempt

    def worst_case_of(self, attempt: int) -> int:
        """The most that an attempt which has not ended can cost."""
        if attempt in self._worst_case_by_batch_attempt:
            return self._worst_case_by_batch_attempt[attempt]
        return self._worst_case_by_attempt[attempt]

    async def end_attempt(
        self,
        attempt: int,
        request_id: str,
        state: AttemptState,
        picodollars: int | None = None,
        prompt_tokens: int | None = None,
        completion_tokens: int | None = None,
        reason: str | None = None,
        answer: Answer | None = None,
    ) -> None:
        """Write how an attempt ended, and the request's answer where it has one; returns when the disk has both.

        `picodollars` is its price: None of an unknown one, and of one that was answered without a count of tokens, for which
        its worst case is written.
        """
        if attempt in self._worst_case_by_batch_attempt:
            worst_case_picodollars = self._worst_case_by_batch_attempt.pop(attempt)
            self.picodollars_in_batches -= worst_case_picodollars
        else:
            worst_case_picodollars = self._worst_case_by_attempt.pop(attempt)
            self.picodollars_in_flight -= worst_case_picodollars
        if state == UNKNOWN_STATE:
            self.picodollars_unknown += worst_case_picodollars
        else:
            picodollars = worst_case_picodollars if picodollars is None else picodollars
            self.picodollars_paid += picodollars
        statements: list[Statement] = [
            (
                "UPDATE attempts SET state = ?, picodollars = ?, prompt_tokens = ?, completion_tokens = ?, reason = ? "
                "WHERE attempt = ?",
                (state, picodollars, prompt_tokens, completion_tokens, reason, attempt),
            )
        ]
        if answer is not None:
            statements.append(
                (
                    "INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        request_id,
                        attempt,
                        answer.outcome,
                        answer.text,
                        answer.reasoning,
                        answer.finish_reason,
                        answer.model,
                        answer.error,
                    ),
                )
            )
        await self.submit(statements)

    async def abandon_attempts(self, reason: str) -> None:
        """List what is in flight as unknown: nobody waits for its replies any more."""
        self.picodollars_unknown += self.picodollars_in_flight
        self.picodollars_in_flight = 0
        self._worst_case_by_attempt.clear()
        await self.submit([_abandon_statement(reason)])

    def add_records_hash(self, sha256: str) -> None:
        """Write that a file of records with this SHA-256 is the builder's own; the disk has it on return."""
        with self.explain_errors(), self._connection_lock:
            self._database.execute("INSERT OR IGNORE INTO records_files VALUES (?)", [sha256])

    def submit(self, statements: Sequence[Statement]) -> asyncio.Future[None]:
        """Hand over statements; the future is done when the disk has them, all together."""
        return self._committer.submit(statements)


def _begin_statements(
    attempt: int, request: TeacherRequest, state: AttemptState, worst_case_picodollars: int
) -> list[Statement]:
    sent_at = datetime.now(UTC).isoformat(timespec="seconds")  # for a reader: nothing is computed from it
    return [
        (
            "INSERT OR IGNORE INTO requests VALUES (?, ?, ?)",
            (request.request_id, request.source, request.row_number),
        ),
        (
            "INSERT INTO attempts (attempt, request_id, state, worst_case_picodollars, sent_at) VALUES (?, ?, ?, ?, ?)",
            (attempt, request.request_id, state, worst_case_picodollars, sent_at),
        ),
    ]


def _abandon_statement(reason: str) -> Statement:
    return (
        # Not a parameter: SQLite uses the index where the text of the condition is the index's own.
        f"UPDATE attempts SET state = ?, reason = ? WHERE state = '{IN_FLIGHT_STATE}'",
        (UNKNOWN_STATE, reason),
    )
