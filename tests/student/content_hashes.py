"""A file or folder in, the SHA-256 of each of its files out: by these a stage's inputs and outputs are compared.

Of a training run count its models and metrics: checkpoints come and go, and its manifest has times. A model's card does not
count, because `publish` puts scores on it. Its own module because each kind of folder has its own rule.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from orca_bench.files import file_sha256

#: SHA-256 by the file's path below the folder; a file alone has the empty path.
FileHashes = dict[str, str]

_HASH_BY_STATE: dict[
    tuple[Path, int, int], str
] = {}  # by real path, size and time of change: several stages read one file


def hash_files(path: Path) -> FileHashes:
    """The hashes of a file or of the files in a folder; empty where nothing is there."""
    if path.is_file():
        return {"": _hash_file(path)}
    return {file.relative_to(path).as_posix(): _hash_file(file) for file in sorted(_files_that_count(path))}


def is_run(folder: Path) -> bool:
    """Whether a folder is one of a training run."""
    return (folder / "recipe.yaml").is_file() and (folder / "manifest.json").is_file()


def differing_files(hashes: FileHashes, other_hashes: FileHashes) -> list[str]:
    """The files that are in one alone or have other contents, in order."""
    return sorted(name for name in hashes.keys() | other_hashes.keys() if hashes.get(name) != other_hashes.get(name))


def _files_that_count(folder: Path) -> Iterator[Path]:
    if is_run(folder):
        yield from (file for name in ("model", "exports") for file in _files_that_count(folder / name))
        if (folder / "metrics.jsonl").is_file():
            yield folder / "metrics.jsonl"
        return
    for file in folder.rglob("*"):
        is_hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
        if file.is_file() and not is_hidden and not _is_card(file):
            yield file


def _is_card(file: Path) -> bool:
    """Whether a file is the card of the model beside it, or a picture of the card."""
    is_card_name = file.name == "README.md" or file.name.startswith("orca-bench-")
    return is_card_name and (file.parent / "config.json").is_file()


def _hash_file(file: Path) -> str:
    status = file.stat()
    key = (file.resolve(), status.st_size, status.st_mtime_ns)
    if key not in _HASH_BY_STATE:
        _HASH_BY_STATE[key] = file_sha256(file)
    return _HASH_BY_STATE[key]
