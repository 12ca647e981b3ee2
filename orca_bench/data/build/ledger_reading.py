"""What a build's ledger knows, for who reads it: answers, outcomes, spending. The builder's own ledger reads by this class too.

Its own module because a dry run reads a ledger that it must not change, also one that a killed build left behind.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from filelock import FileLock, Timeout

from orca_bench.data.build.answers import (
    ANSWERED_STATE,
    IN_BATCH_STATE,
    IN_FLIGHT_STATE,
    RETRYABLE_OUTCOMES,
    UNKNOWN_STATE,
    Answer,
    Spending,
)
from orca_bench.data.build.prices import PICODOLLARS
from orca_bench.errors import UserError, WriteError
from orca_bench.files import catch_read_errors, catch_write_errors

SCHEMA_VERSION = 3
APPLICATION_ID = 0x0BCA_1ED6
_RECORDS_FILE_VERSION = 3  # the first one with a table of the files of records
_LARGEST_QUERY_IDS = 500
#: Of answers that are not asked again.
_FINAL_CONDITION = f"outcome NOT IN ({', '.join(map(repr, RETRYABLE_OUTCOMES))})"


class LedgerReader:
    """The queries of an open ledger. Every method raises UserError where the file cannot be read."""

    def __init__(self, path: Path, database: sqlite3.Connection):
        self.path, self._database = path, database
        self._connection_lock = threading.Lock()

    def check_format(self) -> int:
        """The version of the file's tables, 0 of a file without any; raises UserError where orca-bench does not read it."""
        execute = self._database.execute
        application_id, version = (
            execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
        )
        if not application_id and not execute("SELECT 1 FROM sqlite_master").fetchone():
            return 0
        if application_id != APPLICATION_ID:
            raise UserError("not a ledger of orca-bench data build", where=self.path, hint="choose another output")
        if not 1 <= version <= SCHEMA_VERSION:
            raise UserError(
                f"a ledger of version {version}; this orca-bench reads versions up to {SCHEMA_VERSION}", where=self.path
            )
        return int(version)

    def final_ids(self, request_ids: Sequence[str]) -> set[str]:
        """Which of the requests have an outcome that is not asked again."""
        final_ids: set[str] = set()
        for start in range(0, len(request_ids), _LARGEST_QUERY_IDS):
            ids = request_ids[start : start + _LARGEST_QUERY_IDS]
            placeholders = ",".join("?" * len(ids))
            rows = self.select(
                f"SELECT request_id FROM answers WHERE {_FINAL_CONDITION} AND request_id IN ({placeholders})",
                ids,
            )
            final_ids.update(request_id for (request_id,) in rows)
        return final_ids

    def has_answers(self) -> bool:
        """Whether the teacher has answered any request."""
        return bool(self.select(f"SELECT 1 FROM answers WHERE {_FINAL_CONDITION} LIMIT 1"))

    def answer_of(self, request_id: str) -> Answer | None:
        """What became of a request; None where nothing is known of it yet."""
        rows = self.select(
            "SELECT outcome, text, reasoning, finish_reason, model, prompt_tokens, completion_tokens, picodollars, error "
            "FROM answers JOIN attempts USING (attempt) WHERE answers.request_id = ?",
            [request_id],
        )
        if not rows:
            return None
        outcome, text, reasoning, finish_reason, model, prompt_tokens, completion_tokens, picodollars, error = rows[0]
        dollars = (picodollars or 0) / PICODOLLARS
        return Answer(outcome, text, reasoning, finish_reason, model, prompt_tokens, completion_tokens, dollars, error)

    def spending_by_source(self) -> dict[str, Spending]:
        """What was spent, by source, in the order of the sources' names."""
        spending_by_source: dict[str, Spending] = {}
        for source, outcome, request_count in self.select(
            "SELECT source, outcome, count(*) FROM requests JOIN answers USING (request_id) GROUP BY source, outcome"
        ):
            spending_by_source.setdefault(source, Spending()).requests_by_outcome[outcome] = request_count
        for source, *sums in self.select(
            "SELECT source, coalesce(sum(prompt_tokens), 0), coalesce(sum(completion_tokens), 0), coalesce(sum(picodollars), 0), "
            "count(*) FILTER (WHERE state = ?1), coalesce(sum(worst_case_picodollars) FILTER (WHERE state = ?1), 0), "
            "count(*) FILTER (WHERE state = ?2 AND (prompt_tokens IS NULL OR completion_tokens IS NULL)) "
            "FROM requests JOIN attempts USING (request_id) GROUP BY source",
            [UNKNOWN_STATE, ANSWERED_STATE],
        ):
            spending = spending_by_source.setdefault(source, Spending())
            spending.prompt_tokens, spending.completion_tokens = sums[:2]
            spending.dollars = sums[2] / PICODOLLARS
            spending.unknown_attempts, spending.unknown_dollars = sums[3], sums[4] / PICODOLLARS
            spending.unmetered_answers = sums[5]
        return dict(sorted(spending_by_source.items()))

    def ids_in_batches(self) -> set[str]:
        """The requests that are in a batch at a server."""
        rows = self.select("SELECT request_id FROM attempts WHERE state = ?", [IN_BATCH_STATE])
        return {request_id for (request_id,) in rows}

    def largest_bill_picodollars(self) -> int:
        """What was paid, with the worst case of all that may have been paid or is in a batch."""
        rows = self.select(
            "SELECT coalesce(sum(picodollars), 0) + "
            "coalesce(sum(worst_case_picodollars) FILTER (WHERE state IN (?, ?, ?)), 0) FROM attempts",
            [UNKNOWN_STATE, IN_FLIGHT_STATE, IN_BATCH_STATE],
        )
        return int(rows[0][0])

    def records_hashes(self) -> set[str]:
        """The SHA-256 of every file of records that builds of this ledger have written."""
        if self.select("PRAGMA user_version")[0][0] < _RECORDS_FILE_VERSION:
            return set()
        return {sha256 for (sha256,) in self.select("SELECT sha256 FROM records_files")}

    def select(self, sql_query: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The rows of a query."""
        with self.explain_errors(), self._connection_lock:
            return self._database.execute(sql_query, parameters).fetchall()

    @contextlib.contextmanager
    def explain_errors(self) -> Iterator[None]:
        """A block in which errors of SQLite become errors for the user."""
        try:
            yield
        except sqlite3.Error as error:
            raise self.explain_error(error) from None

    def explain_error(self, error: Exception) -> UserError:
        """The error for the user of one of SQLite."""
        error_name = getattr(error, "sqlite_errorname", None) or ""
        if error_name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            return UserError("another program has this ledger open", where=self.path, hint="close it there")
        if error_name.startswith("SQLITE_NOTADB"):
            return UserError("not a ledger of orca-bench data build", where=self.path, hint="choose another output")
        if error_name.startswith(("SQLITE_CORRUPT", "SQLITE_ERROR")):
            return UserError(f"the ledger is damaged ({error})", where=self.path, hint="choose another output")
        return WriteError(
            f"cannot write the ledger: {error}",
            where=self.path,
            hint="free space or make the folder writable, and run the command again: what was answered before is kept",
        )


@contextlib.contextmanager
def open_ledger_to_read(path: Path, report: Callable[[str], None] = lambda line: None) -> Iterator[LedgerReader | None]:
    """Yield a copy of the ledger at `path` as the last build left it; nothing in its folder changes, and a build may begin.

    Yields None where a build is writing it, and where it has no tables yet. `report` hears of a ledger that cannot be locked:
    its copy may be from the middle of a build. Raises UserError where it is no ledger.
    """
    with TemporaryDirectory() as copy_folder:
        copied_path = Path(copy_folder) / path.name
        try:
            with _hold_builder_lock(path, report):
                _copy_ledger(path, copied_path)
        except Timeout:
            yield None
            return
        try:
            database = sqlite3.connect(copied_path, isolation_level=None)
        except sqlite3.Error as error:
            raise UserError(f"cannot read the ledger: {error}", where=path) from None
        with contextlib.closing(database):
            reader = LedgerReader(path, database)
            with reader.explain_errors():
                version = reader.check_format()
            yield reader if version else None


@contextlib.contextmanager
def _hold_builder_lock(path: Path, report: Callable[[str], None]) -> Iterator[None]:
    """A block in which no build writes the ledger, as far as its lock can be held; raises Timeout where one is writing it."""
    lock_path = builder_lock_path(path)
    with contextlib.ExitStack() as stack:
        try:
            if lock_path.exists():
                stack.enter_context(FileLock(lock_path, timeout=0))
        except Timeout:  # an OSError too
            raise
        except OSError as error:  # another user's, or of a read-only file system
            report(f"{path}: a build may be writing it, its lock cannot be held ({error.strerror or error})")
        yield


def _copy_ledger(path: Path, copied_path: Path) -> None:
    """Copy the ledger with what a killed build wrote last, which SQLite moves into the file that it opens."""
    for suffix in ("", "-wal"):
        source_path, target_path = path.with_name(path.name + suffix), copied_path.with_name(path.name + suffix)
        if not suffix or source_path.exists():
            with catch_read_errors(source_path), catch_write_errors(target_path):
                shutil.copyfile(source_path, target_path)


def builder_lock_path(ledger_path: Path) -> Path:
    """The file that a builder locks while it writes a ledger."""
    return ledger_path.with_name(f".{ledger_path.name}.lock")
