"""Files of a model in another format in, the folder in the user's cache that is written from them out, and what it says of them.

Each format has a folder of its own in the cache, and in it one for each key: what the files are, and when they changed. Its own
module because GGUF files and GPTQ folders are kept in the same way, and neither format should stand on the other's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from orca_bench.files import make_writable_folder, read_json

_KEY_LENGTH = 16


def cache_key(facts: Sequence[str | int], path_by_name: Mapping[str, Path]) -> str:
    """16 hexadecimal digits of SHA-256 over facts, and over the name, size and time of change of each file."""
    key_facts = list(facts)
    for name, path in path_by_name.items():
        status = path.stat()
        key_facts += [name, status.st_size, status.st_mtime_ns]
    return hashlib.sha256(repr(key_facts).encode()).hexdigest()[:_KEY_LENGTH]


def write_once(folder: Path, origin_file_name: str, write_folder: Callable[[Path], None]) -> Path:
    """The folder; `write_folder` writes it where it lacks the file that says what it was written from.

    Raises UserError where the cache is not writable.
    """
    if not (folder / origin_file_name).is_file():
        make_writable_folder(folder.parent)
        write_folder(folder)
    return folder


def origin_bits_per_weight(origin_file: Path) -> float | None:
    """The `bits_per_weight` of a file that says what a folder was written from; None where it is absent, or says no number."""
    bits = _read_origin(origin_file).get("bits_per_weight")
    return float(bits) if isinstance(bits, int | float) and not isinstance(bits, bool) and 0 < bits <= 64 else None


def origin_sha256(origin_file: Path) -> str | None:
    """The `sha256` of a file that says what a folder was written from; None where it is absent, or says no hash."""
    sha256 = _read_origin(origin_file).get("sha256")
    return sha256 if isinstance(sha256, str) and sha256 else None


def _read_origin(origin_file: Path) -> dict[str, Any]:
    origin = read_json(origin_file) if origin_file.is_file() else None
    return origin if isinstance(origin, dict) else {}
