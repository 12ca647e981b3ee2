"""Locks that a killed training left in the folder of compiled operators: looked for before DeepSpeed compiles, and removed.

torch compiles an operator of DeepSpeed at its first use, for each environment anew (some 30 seconds). While it does, a file
`lock` lies beside the operator, and every other process waits until that file is gone. torch 2.13 (utils/file_baton.py)
removes it when the compilation ends, but not when its process is killed: from then on every training of this user would
wait for ever, without a word.

In: the folder of torch's extensions. Out: the locks that were removed. Compilers run in the operator's folder, so a lock in
whose folder no process of this machine runs for a while belongs to nobody. The price is that while, once after a kill.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

#: How long no process may have run in a lock's folder until the lock is removed, seconds: a process that has just made the
#: lock starts its compiler within this time.
OBSERVATION_S = 30.0
_POLL_S = 0.5


def extensions_folder() -> Path:
    """The folder below which torch keeps compiled operators: TORCH_EXTENSIONS_DIR, or torch's own below ~/.cache."""
    from torch.utils.cpp_extension import get_default_build_root

    return Path(os.environ.get("TORCH_EXTENSIONS_DIR") or get_default_build_root())


def remove_abandoned_locks(folder: Path, observation_s: float = OBSERVATION_S) -> list[Path]:
    """Wait until each lock below `folder` is gone, in use, or abandoned; remove the abandoned ones and return them.

    A lock that a compiler uses is left to torch, which waits for it. On a network's file system the compiler may run on
    another machine and is not seen: if it needs longer than `observation_s`, the operator may be compiled twice.
    """
    observed_since_s_by_lock = {lock: time.monotonic() for lock in _locks(folder)}
    id_by_lock = {lock: _lock_id(lock) for lock in observed_since_s_by_lock}
    removed_locks: list[Path] = []
    while observed_since_s_by_lock:
        for lock, since in list(observed_since_s_by_lock.items()):
            if _lock_id(lock) != id_by_lock[lock] or _is_in_use(lock.parent):
                del observed_since_s_by_lock[lock]  # gone, another process's by now, or at work
            elif time.monotonic() - since >= observation_s:
                lock.unlink(missing_ok=True)
                removed_locks.append(lock)
                del observed_since_s_by_lock[lock]
        if observed_since_s_by_lock:
            time.sleep(_POLL_S)
    return removed_locks


def _locks(folder: Path) -> Iterator[Path]:
    """The locks of operators: ROOT/OPERATOR/lock with TORCH_EXTENSIONS_DIR, else ROOT/PYTHON_DEVICE/OPERATOR/lock."""
    for pattern in ("*/lock", "*/*/lock"):
        yield from folder.glob(pattern)


def _lock_id(lock: Path) -> tuple[int, int] | None:
    """What tells a lock from a later one of the same path: inode and time of change, ns; None where it is gone."""
    try:
        status = lock.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def _is_in_use(folder: Path) -> bool:
    """Whether a process of this machine runs in a folder."""
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()) == folder.resolve():
                return True
        except (psutil.Error, OSError):
            continue
    return False
