"""Answers on disk as they are computed, so that an evaluation that was stopped goes on where it stood.

What is kept are *portions*: the answers to some requests that are computed together, some seconds' work. A portion's key is
a hash of everything that its answers depend on: model, dtype, device, libraries, and the token ids of all its requests. So
nothing of another model, tokenizer, protocol or dtype is ever found, and an evaluation that goes on computes the rest in the
very portions in which it would have been computed, which gives the very same numbers. SQLite in WAL mode: a kill at any
instant loses at most the portion that was being computed, and several processes may share one file.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from orca_bench.errors import UserError

_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS portions (key BLOB PRIMARY KEY, answers TEXT NOT NULL) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS probes (identity BLOB, value REAL, PRIMARY KEY (identity, value)) WITHOUT ROWID",
)
_SAME_NATS = 0.05  # of one model's answers to one question, asked alone: the noise of 16-bit arithmetic is below it
_WAIT_S = 60  # how long a process waits for another that is writing


class Store:
    """The portions of one file, for one identity: a JSON value of all that answers depend on besides the requests.

    A `fresh` store finds nothing. `probe` is what a model whose weights are not known says to a fixed question, in nats: it
    belongs to the identity, up to the noise of 16-bit arithmetic. Raises UserError where the file is not such a store or the
    disk does not take an answer.
    """

    def __init__(self, path: Path, identity: object, fresh: bool = False, probe: float | None = None):
        self.path, self.fresh = path, fresh
        self._identity = json.dumps(identity, sort_keys=True).encode()
        with self._said():
            self._database = sqlite3.connect(path, timeout=_WAIT_S, isolation_level=None)
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=NORMAL")  # a kill loses nothing; a power cut the last portions
            for table in _SCHEMA:
                self._database.execute(table)
        if probe is not None:
            self._identity += json.dumps(self._known(probe)).encode()

    def _known(self, probe: float) -> float:
        """The probe that is kept of this model, which noise sets apart from `probe`; `probe` where there is none yet."""
        key = hashlib.sha256(self._identity).digest()
        with self._said():
            near = "SELECT value FROM probes WHERE identity = ? AND abs(value - ?) <= ? ORDER BY abs(value - ?)"
            kept = self._database.execute(near, (key, probe, _SAME_NATS, probe)).fetchone()
            if kept is None:
                self._database.execute("INSERT OR IGNORE INTO probes VALUES (?, ?)", (key, probe))
        return probe if kept is None else kept[0]

    def get(self, asked: object) -> list | None:
        """The answers to a portion, or None where it has none; `asked` is a JSON value of all its requests."""
        if self.fresh:
            return None
        with self._said():
            row = self._database.execute("SELECT answers FROM portions WHERE key = ?", (self._key(asked),)).fetchone()
        return None if row is None else json.loads(row[0])

    def put(self, asked: object, answers: list) -> None:
        """Keep the answers to a portion."""
        with self._said():
            self._database.execute(
                "INSERT OR REPLACE INTO portions VALUES (?, ?)", (self._key(asked), json.dumps(answers))
            )

    def close(self) -> None:
        """Close the file."""
        with self._said():
            self._database.close()

    def _key(self, asked: object) -> bytes:
        return hashlib.sha256(self._identity + json.dumps(asked).encode()).digest()

    @contextlib.contextmanager
    def _said(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise UserError(
                f"cannot keep answers: {error}", where=self.path, hint="free space, or move the file away"
            ) from error
