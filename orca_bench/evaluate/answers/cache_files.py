"""The files of cached answers of a run: which there are, whether an evaluation has or needs one, and their removal.

Nothing is changed by looking: a lock is only tried, and SQLite reads without locks or files of its own. Its own module because
answer_cache.py is what an evaluation needs of its one file.
"""

from __future__ import annotations

import contextlib
import fcntl
import sqlite3
import time
from pathlib import Path
from typing import BinaryIO

from orca_bench.disk_space import disk_bytes
from orca_bench.errors import UserError
from orca_bench.evaluate.answers.answer_cache import ANSWER_CACHE_FILE_NAME
from orca_bench.files import catch_write_errors

#: The ends of the names of SQLite's own files beside a database.
_COMPANION_SUFFIXES = ("-wal", "-shm", "-journal")
#: An evaluation stores answers within seconds; a file without WAL that was written this recently may be in use.
_RECENT_WRITE_S = 120.0
#: SQLite's locks of a database (https://sqlite.org/src/file/src/os.h): the pending byte, the reserved one, 510 shared ones.
_FIRST_LOCK_BYTE, _LOCK_BYTE_COUNT = 0x40000000, 512
#: The header of a database, https://sqlite.org/fileformat.html: its beginning, and the byte that is 2 in WAL mode.
_HEADER_BYTE_COUNT, _MAGIC_TEXT, _WRITE_VERSION_OFFSET, _WAL_VERSION = 100, b"SQLite format 3\0", 18, 2


def answer_caches(run_folder: Path) -> list[Path]:
    """The files of cached answers in a run's results, those of its exports included."""
    return sorted(path for path in (run_folder / "results").rglob(ANSWER_CACHE_FILE_NAME) if path.is_file())


def answer_cache_bytes(database_path: Path) -> int:
    """The size in bytes of a file of cached answers with SQLite's own files beside it."""
    return sum(disk_bytes(path) for path in (database_path, *_companions(database_path)) if path.exists())


def is_in_use(database_path: Path) -> bool:
    """Whether another process has a file of cached answers open; this process must not, it would lose its own locks.

    In WAL mode each connection holds a lock as long as it is open. On a file system without WAL a file counts as in use for
    two minutes after it was written. A file that is no database is in nobody's use.
    """
    try:
        with open(database_path, "rb") as database_file:
            header = database_file.read(_HEADER_BYTE_COUNT)
        if not header.startswith(_MAGIC_TEXT):
            return False
        with open(database_path, "r+b") as database_file:  # closing it gives the lock up
            is_lockable = _try_lock(database_file)
    except OSError:  # a file that may not be opened, or a file system without locks
        return _is_recent(database_path)
    if header[_WRITE_VERSION_OFFSET] == _WAL_VERSION:
        return not is_lockable
    return not is_lockable or _is_recent(database_path)


def has_unfinished_evaluation(database_path: Path) -> bool:
    """Whether an evaluation was stopped that would continue from a file of cached answers, which no process has open.

    Where SQLite's own file beside it has content, a process was killed while it had the file open.
    """
    if any(path.is_file() and path.stat().st_size for path in _companions(database_path, ("-wal", "-journal"))):
        return True
    with contextlib.suppress(sqlite3.DatabaseError):  # no database, or one of a version that did not write this
        database_uri = f"{database_path.resolve().as_uri()}?immutable=1"
        with contextlib.closing(sqlite3.connect(database_uri, uri=True)) as connection:
            return connection.execute("SELECT 1 FROM unfinished").fetchone() is not None
    return False


def remove_answer_cache(database_path: Path) -> None:
    """Remove a file of cached answers; raises UserError where an evaluation has it open or needs it, or it cannot be removed."""
    if is_in_use(database_path):
        raise UserError("an evaluation is writing it", where=database_path)
    if has_unfinished_evaluation(database_path):
        raise UserError("an unfinished evaluation continues from it", where=database_path)
    for path in (database_path, *_companions(database_path)):
        with catch_write_errors(path):
            path.unlink(missing_ok=True)


def _try_lock(database_file: BinaryIO) -> bool:
    """Whether no process has one of SQLite's locks of a file; raises OSError where a file system has no locks."""
    try:
        fcntl.lockf(database_file, fcntl.LOCK_EX | fcntl.LOCK_NB, _LOCK_BYTE_COUNT, _FIRST_LOCK_BYTE)
    except (BlockingIOError, PermissionError):  # POSIX allows either
        return False
    return True


def _is_recent(database_path: Path) -> bool:
    return time.time() - database_path.stat().st_mtime < _RECENT_WRITE_S


def _companions(database_path: Path, suffixes: tuple[str, ...] = _COMPANION_SUFFIXES) -> list[Path]:
    return [database_path.with_name(database_path.name + suffix) for suffix in suffixes]
