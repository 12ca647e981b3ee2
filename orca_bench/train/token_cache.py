"""Tokens in the user's cache: encoded at most once for the same texts, tokenizer and length, whichever run or process asks.

Its own module because it settles who writes, what a damaged entry is worth, and what is done where the cache cannot be written;
token_files.py has the files. The cache is the folder `tokens` in $ORCA_BENCH_CACHE, or in orca-bench in the user's cache folder.
It may be removed at any time.
"""

from __future__ import annotations

import atexit
import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from orca_bench.errors import UserError, WriteError
from orca_bench.files import cache_folder, catch_write_errors, make_writable_folder
from orca_bench.hub import ShowMessage
from orca_bench.train.token_files import StoredExamples, load_token_files


def stored_examples(
    key: str,
    write_files: Callable[[Path], object],
    show_message: ShowMessage,
    run_tokens_folder: Path | None = None,
    substitute_folder: Path | None = None,
) -> StoredExamples:
    """The examples of a key: from the cache, or the run's own folder of tokens, else written by `write_files(folder)`.

    A cache that cannot be written, or is full, is reported, and `substitute_folder` takes its place until this process ends:
    without one a new folder among the system's temporary files, which may be in memory. Raises what `write_files` raises.
    """
    cache_entry = cache_folder("tokens") / key
    substitute_entry = None if substitute_folder is None else substitute_folder / key  # of a command that was killed
    for folder in (cache_entry, run_tokens_folder, substitute_entry):
        if folder is not None and (stored := load_token_files(folder, key, checks_content=True)) is not None:
            return stored
    try:
        make_writable_folder(cache_entry.parent)
        with _locked(cache_entry, show_message):
            # Another process may have written the entry meanwhile.
            stored = load_token_files(cache_entry, key, checks_content=True)
            return stored or _write(cache_entry, key, write_files, show_message)
    except WriteError as error:
        show_message(f"the cache of tokens cannot be used ({error}): these are encoded for this run alone")
    if substitute_folder is None:
        substitute_folder = Path(tempfile.mkdtemp(prefix="orca-bench-"))
    atexit.register(shutil.rmtree, substitute_folder, ignore_errors=True)
    return _write(substitute_folder / key, key, write_files, show_message)


def _write(folder: Path, key: str, write_files: Callable[[Path], object], show_message: ShowMessage) -> StoredExamples:
    if folder.exists():
        show_message(f"{folder}: these tokens are damaged, and are encoded again")
    write_files(folder)
    stored = load_token_files(folder, key)
    if stored is None:
        raise UserError("the tokens that were written cannot be read", where=folder)
    return stored


@contextlib.contextmanager
def _locked(cache_entry: Path, show_message: ShowMessage) -> Iterator[None]:
    """Make this process the only one that writes the entry; removes what a killed one left half-written."""
    lock = FileLock(cache_entry.with_name(f".{cache_entry.name}.lock"), timeout=0)
    with catch_write_errors(cache_entry):
        try:
            lock.acquire()
        except Timeout:
            show_message("another process encodes these records; this one waits for it")
            lock.acquire(timeout=-1)
    try:
        for temporary_folder in cache_entry.parent.glob(f".{cache_entry.name}.*.tmp"):
            shutil.rmtree(temporary_folder, ignore_errors=True)
        yield
    finally:
        lock.release()
