"""Files and folders in, how much disk they take out, in bytes and in words; and whether the disk is full.

Its own module because several rooms list and remove what a run holds.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

_UNITS = ("B", "kB", "MB", "GB", "TB")
_FULL_DISK_BYTES = 64 * 2**20  # with less free space, a failure is put down to the full disk


def disk_bytes(file_or_folder: Path) -> int:
    """The size in bytes of a file, or of all files below a folder; links are not followed, and what vanishes counts as none."""
    try:
        if file_or_folder.is_symlink() or not file_or_folder.is_dir():
            return file_or_folder.lstat().st_size
        with os.scandir(file_or_folder) as entries:
            return sum(disk_bytes(Path(entry.path)) for entry in entries)
    except OSError:
        return 0


def full_disk_message(folder: Path) -> str | None:
    """The message where the disk of a folder is full, else None. Libraries raise many kinds of errors then."""
    if shutil.disk_usage(folder).free >= _FULL_DISK_BYTES:
        return None
    return f"{folder}: the disk is full; what was saved before is kept, free space and run again"


def size_text(byte_count: float) -> str:
    """A size as people write it, of three digits: `980 B`, `1.25 MB`, `26.0 GB` (1 kB is 1000 bytes)."""
    for unit in _UNITS:
        if byte_count < 999.5 or unit == _UNITS[-1]:
            break
        byte_count /= 1000
    if unit == "B" or byte_count >= 99.95:
        return f"{byte_count:.0f} {unit}"
    return f"{byte_count:.1f} {unit}" if byte_count >= 9.995 else f"{byte_count:.2f} {unit}"
