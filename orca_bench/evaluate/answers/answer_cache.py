"""Answers on disk as they are computed, so that an evaluation that was stopped continues where it was.

What is cached are *portions*: the answers to some requests that are computed together, some seconds' work. A portion's key is a
hash of everything that its answers depend on: model, dtype, device, libraries, and the token ids of all its requests. So answers
of another model, tokenizer, protocol or dtype are never returned, and an evaluation that continues computes the rest in the very
portions in which it would have been computed, which gives the very same numbers.

SQLite in WAL mode: a kill at any instant loses at most the portion that was being computed, and several processes may share
one file. WAL needs memory that all processes share, which a network file system does not give (https://sqlite.org/wal.html);
there a rollback journal is used, which is as safe and waits for the disk at each portion. Its own module because it is the only
one that knows SQLite.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import psutil

from orca_bench.errors import UserError

#: A JSON value.
Json = Any

#: The name of the file, beside the results, that caches answers as they are computed.
ANSWER_CACHE_FILE_NAME = "answers.sqlite"
#: Part of every key: answers of another form, or under keys that cover less, are never found. Raise it with either.
KEY_FORMAT = "orca-bench answers 3"
_CREATE_TABLE_STATEMENTS = (
    "CREATE TABLE IF NOT EXISTS portions (key BLOB PRIMARY KEY, answers TEXT NOT NULL) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS probes (identity BLOB, value REAL, PRIMARY KEY (identity, value)) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS unfinished (evaluation BLOB PRIMARY KEY) WITHOUT ROWID",
)
_RETRY_INTERVAL_S = 0.02
_PROBE_TOLERANCE_NATS = (
    0.05  # of one model's answers to one question, asked alone: the noise of 16-bit arithmetic is below it
)
#: How the names of file systems begin whose files may be open on several machines, or that map no shared memory.
_NETWORK_FILE_SYSTEM_PREFIXES: tuple[str, ...] = (
    *("nfs", "cifs", "smb", "fuse", "9p", "afs", "ceph", "lustre", "gpfs", "beegfs", "glusterfs", "panfs", "vboxsf"),
    *("virtiofs", "ocfs2", "gfs2", "orangefs", "davfs"),
)


class Partition(Protocol):
    """A mounted file system, as psutil.disk_partitions lists it: where, and of which type."""

    mountpoint: str
    fstype: str


class AnswerCache:
    """The portions in a SQLite file, for one identity: a JSON value of all that answers depend on besides the requests.

    With `ignores_cached_answers` it returns no answers. `probe_log_probability` is the log-probability in nats of a fixed
    request to a model whose weights are not known; it belongs to the identity, up to the noise of 16-bit arithmetic.
    `journal_note` is a sentence for the user that says why the file is written more slowly than usual, None where it is not.
    `partitions` are the mounted file systems, as psutil lists them. A process waits `max_lock_wait_s` seconds for another that
    is writing. Every method raises UserError where the file is not such a cache, is damaged or locked, or the disk does not
    take an answer; nothing is deleted.
    """

    def __init__(
        self,
        database_path: Path,
        cache_identity: Json,
        ignores_cached_answers: bool = False,
        probe_log_probability: float | None = None,
        partitions: Sequence[Partition] | None = None,
        max_lock_wait_s: float = 60,
    ):
        self.database_path, self.ignores_cached_answers, self._max_lock_wait_s = (
            database_path,
            ignores_cached_answers,
            max_lock_wait_s,
        )
        self._identity_json = json.dumps([KEY_FORMAT, cache_identity], sort_keys=True).encode()
        with self._explain_errors():
            self._database = sqlite3.connect(database_path, timeout=max_lock_wait_s, isolation_level=None)
            self.journal_note = self._prepare_database(file_system_type(database_path, partitions))
        if probe_log_probability is not None:
            self._identity_json += json.dumps(self._nearest_probe(probe_log_probability)).encode()

    def _prepare_database(self, file_system_type_name: str | None) -> str | None:
        """Choose the journal and make the tables; returns why WAL mode cannot be had, None where it can.

        SQLite gives up at once, whatever its timeout, where two processes change the journal of a new file at one time
        (SQLITE_BUSY, seen in 3.40): so this is tried again until `max_lock_wait_s` is over.
        """
        deadline_s = time.monotonic() + self._max_lock_wait_s
        while True:
            try:
                journal_note = self._choose_journal(file_system_type_name)
                # A kill loses nothing; a power cut the last portions.
                self._database.execute("PRAGMA synchronous=NORMAL")
                for create_statement in _CREATE_TABLE_STATEMENTS:
                    self._database.execute(create_statement)
                return journal_note
            except sqlite3.OperationalError as error:
                if not _is_busy(error) or time.monotonic() >= deadline_s:
                    raise
            time.sleep(_RETRY_INTERVAL_S)

    def _choose_journal(self, file_system_type_name: str | None) -> str | None:
        """Set WAL mode where it can be had, else a rollback journal; returns why not."""
        no_wal_reason = f"it lies on a {file_system_type_name} file system"
        if not (file_system_type_name or "").startswith(_NETWORK_FILE_SYSTEM_PREFIXES):
            if self._set_journal_mode("WAL") == "wal":
                return None
            no_wal_reason = "SQLite has no WAL mode there"
        self._set_journal_mode("DELETE")
        return f"{self.database_path} is written with a rollback journal, because {no_wal_reason}: portions wait for the disk"

    def _set_journal_mode(self, journal_mode: str) -> str:
        return self._database.execute(f"PRAGMA journal_mode={journal_mode}").fetchone()[0]

    def _nearest_probe(self, log_probability: float) -> float:
        """The cached probe that differs from `log_probability` by noise only; that itself where there is none yet."""
        identity_digest = hashlib.sha256(self._identity_json).digest()
        with self._explain_errors():
            sql_query = "SELECT value FROM probes WHERE identity = ? AND abs(value - ?) <= ? ORDER BY abs(value - ?)"
            nearest_probe_record = self._database.execute(
                sql_query, (identity_digest, log_probability, _PROBE_TOLERANCE_NATS, log_probability)
            ).fetchone()
            if nearest_probe_record is None:
                self._database.execute("INSERT OR IGNORE INTO probes VALUES (?, ?)", (identity_digest, log_probability))
        return log_probability if nearest_probe_record is None else nearest_probe_record[0]

    def has(self, portion_key: Json) -> bool:
        """Whether a portion's answers are cached; `portion_key` is the hash of its requests, `Portion.key`."""
        if self.ignores_cached_answers:
            return False
        with self._explain_errors():
            sql_query = "SELECT 1 FROM portions WHERE key = ?"
            return self._database.execute(sql_query, (self._database_key(portion_key),)).fetchone() is not None

    def get(self, portion_key: Json) -> list[Any] | None:
        """The answers to a portion, None where they are not cached; `portion_key` as in `has`."""
        if self.ignores_cached_answers:
            return None
        with self._explain_errors():
            sql_query = "SELECT answers FROM portions WHERE key = ?"
            cache_record = self._database.execute(sql_query, (self._database_key(portion_key),)).fetchone()
            return None if cache_record is None else json.loads(cache_record[0])

    def put(self, portion_key: Json, answers: list[Any]) -> None:
        """Write the answers to a portion; `portion_key` as in `has`."""
        cache_record = (self._database_key(portion_key), json.dumps(answers))
        with self._explain_errors():
            self._database.execute("INSERT OR REPLACE INTO portions VALUES (?, ?)", cache_record)

    def begin_evaluation(self, evaluation_key: Json) -> None:
        """Write that an evaluation needs this file; `evaluation_key` is what distinguishes it from others of this identity."""
        with self._explain_errors():
            sql_statement = "INSERT OR IGNORE INTO unfinished VALUES (?)"
            self._database.execute(sql_statement, (self._database_key(evaluation_key),))

    def finish_evaluation(self, evaluation_key: Json) -> None:
        """Write that an evaluation has all its answers; `evaluation_key` as in `begin_evaluation`."""
        with self._explain_errors():
            sql_statement = "DELETE FROM unfinished WHERE evaluation = ?"
            self._database.execute(sql_statement, (self._database_key(evaluation_key),))

    def close(self) -> None:
        """Close the file."""
        with self._explain_errors():
            self._database.close()

    def _database_key(self, portion_key: Json) -> bytes:
        return hashlib.sha256(self._identity_json + json.dumps(portion_key).encode()).digest()

    @contextlib.contextmanager
    def _explain_errors(self) -> Iterator[None]:
        """Turn what SQLite raises into a UserError that says what would help."""
        try:
            yield
        except sqlite3.Error as error:
            problem, hint = _explain_sqlite_error(error, self.database_path, self._max_lock_wait_s)
            raise UserError(problem, where=self.database_path, hint=hint) from error
        except (ValueError, TypeError) as error:  # the file has an answer that is not JSON text
            raise UserError(
                "the cached answers are damaged", where=self.database_path, hint=_move_hint(self.database_path)
            ) from error


def file_system_type(path: Path, partitions: Sequence[Partition] | None = None) -> str | None:
    """The name of the file system that a path lies on; None where that is not known."""
    if partitions is None:
        try:
            partitions = psutil.disk_partitions(all=True)
        except OSError:  # psutil 7 where /proc is not mounted
            return None
    resolved_path = path.resolve()
    # Of two that are mounted on one folder the later one is visible.
    containing_partitions = [
        (len(Path(partition.mountpoint).parts), index)
        for index, partition in enumerate(partitions)
        if resolved_path.is_relative_to(partition.mountpoint)
    ]
    return partitions[max(containing_partitions)[1]].fstype if containing_partitions else None


def _is_busy(error: sqlite3.Error) -> bool:
    """Whether another process has the file."""
    return (getattr(error, "sqlite_errorname", None) or "").startswith(("SQLITE_BUSY", "SQLITE_LOCKED"))


def _explain_sqlite_error(error: sqlite3.Error, database_path: Path, max_lock_wait_s: float) -> tuple[str, str]:
    """What is wrong, and what would help."""
    error_name = getattr(error, "sqlite_errorname", None) or ""
    if _is_busy(error):
        problem = f"another process has been writing the cached answers for {max_lock_wait_s:.0f} s"
        return problem, "wait until it has ended, or write the result to another folder with --out"
    if error_name.startswith("SQLITE_NOTADB"):
        return "this is not a file of cached answers", _move_hint(database_path)
    if error_name.startswith(("SQLITE_CORRUPT", "SQLITE_ERROR")):
        return f"the cached answers are damaged ({error})", _move_hint(database_path)
    return f"cannot cache answers: {error}", "free space, make the folder writable, or choose another one with --out"


def _move_hint(database_path: Path) -> str:
    return f"move it away (mv {database_path.name} {database_path.name}.damaged), and its answers are computed again"
