"""The files of kept answers of a run: which there are, whether an evaluation has one open, and their removal.

Its own module because answer_cache.py is what an evaluation needs of its one file.
"""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

from orca_bench.disk_space import disk_bytes
from orca_bench.errors import UserError
from orca_bench.evaluate.answers.answer_cache import ANSWER_CACHE_FILE_NAME
from orca_bench.files import catch_write_errors

#: The ends of the names of SQLite's own files beside a database.
_COMPANION_SUFFIXES = ("-wal", "-shm", "-journal")
#: An evaluation stores answers within seconds; a file without WAL that was written this recently may be in use.
_RECENT_WRITE_S = 120.0


def answer_caches(run_folder: Path) -> list[Path]:
    """The files of kept answers in a run's results, those of its exports included."""
    return sorted((run_folder / "results").rglob(ANSWER_CACHE_FILE_NAME))


def answer_cache_bytes(database_path: Path) -> int:
    """The size in bytes of a file of kept answers with SQLite's own files beside it."""
    return sum(disk_bytes(path) for path in (database_path, *_companions(database_path)) if path.exists())


def is_in_use(database_path: Path) -> bool:
    """Whether another process has a file of kept answers open.

    In WAL mode SQLite says so: no connection can leave that mode while there is another one. On a file system without WAL
    a file counts as in use for two minutes after it was written. A file that SQLite cannot open is in nobody's use.
    """
    try:
        connection = sqlite3.connect(database_path, timeout=0, isolation_level=None)
        try:
            (journal_mode,) = connection.execute("PRAGMA journal_mode").fetchone()
            if journal_mode == "wal":
                connection.execute("PRAGMA journal_mode=DELETE")
                connection.execute("PRAGMA journal_mode=WAL")
                return False
            connection.execute("BEGIN EXCLUSIVE")
            connection.execute("ROLLBACK")
        finally:
            connection.close()
    except sqlite3.OperationalError as error:
        return "locked" in str(error) or "busy" in str(error)
    except sqlite3.DatabaseError:  # no database
        return False
    return time.time() - database_path.stat().st_mtime < _RECENT_WRITE_S


def remove_answer_cache(database_path: Path) -> None:
    """Remove a file of kept answers; raises UserError where another process has it open or it cannot be removed."""
    if is_in_use(database_path):
        raise UserError("an evaluation is writing it", where=database_path)
    for path in (database_path, *_companions(database_path)):
        with catch_write_errors(path):
            path.unlink(missing_ok=True)


def _companions(database_path: Path) -> list[Path]:
    return [database_path.with_name(database_path.name + suffix) for suffix in _COMPANION_SUFFIXES]
