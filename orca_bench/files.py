"""Writing and reading files so that a reader never sees half of one, and a fault names the file.

Every file that orca-bench leaves for a person or a program goes through here: written whole beside its place and then
moved into it, so that a full disk or a kill leaves the old file or none.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from orca_bench.errors import UserError


@contextlib.contextmanager
def writing(folder: str | os.PathLike) -> Iterator[None]:
    """Turn what the operating system says while writing below `folder` (disk full, no permission) into a UserError."""
    try:
        yield
    except BrokenPipeError:  # the reader has gone, which is its right
        raise
    except OSError as error:
        raise UserError(
            f"cannot write: {error.strerror or error}",
            where=error.filename or folder,
            hint="free space or choose another folder",
        ) from error


def make_folder(folder: Path) -> Path:
    """Create `folder` with its parents and prove that a file can be written in it; raises UserError where not."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".writable-{os.getpid()}"
        probe.write_bytes(b"")
        probe.unlink()
    return folder


def write_text(path: Path, text: str) -> None:
    """Replace `path` by `text` (UTF-8) in one step; raises UserError where the disk does not take it."""
    with replacing(path) as handle:
        handle.write(text)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[TextIO]:
    """Yield a UTF-8 text handle whose content replaces `path` in one step at the end, and not at all where anything fails.

    A name that ends in .gz is compressed, without a time in it: the same text gives the same bytes. Raises UserError where
    the disk does not take it.
    """
    if path.exists() and not path.is_file():  # a device or a pipe is written to, never replaced
        with writing(path), open(path, "w", encoding="utf-8", newline="\n") as handle:
            yield handle
        return
    with replacing_bytes(path) as raw:
        packed = gzip.GzipFile("", "wb", fileobj=raw, mtime=0) if path.suffix == ".gz" else raw
        with io.TextIOWrapper(packed, encoding="utf-8", newline="\n", write_through=False) as handle:
            yield handle


@contextlib.contextmanager
def replacing_bytes(path: Path) -> Iterator[BinaryIO]:
    """Yield a binary handle whose content replaces `path` in one step at the end, and not at all where anything fails."""
    path = path.resolve() if path.is_symlink() else path  # the file is replaced, not the link to it
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with writing(path):
            with open(temporary, "wb") as handle:
                yield handle
            _to_disk(temporary)
            os.replace(temporary, path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder beside `path` that takes its place at the end, and is removed where anything fails.

    A kill in the middle leaves the old folder or none, never half of one; `remove_temporary` clears what it leaves beside.
    Raises UserError where the disk does not take it.
    """
    path = path.resolve() if path.is_symlink() else path
    temporary, previous = (path.with_name(f".{path.name}.{os.getpid()}.{kind}") for kind in ("tmp", "old.tmp"))
    try:
        with writing(path):
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            yield temporary
            for file in temporary.rglob("*"):
                if file.is_file():
                    _to_disk(file)
            if path.exists():
                os.replace(path, previous)
            os.replace(temporary, path)
            shutil.rmtree(previous, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _to_disk(file: Path) -> None:
    """Wait until the disk has the file's bytes, so that its new name never stands for fewer, not after a power cut either."""
    with open(file, "rb") as handle:
        os.fsync(handle.fileno())


def remove_temporary(folder: Path) -> None:
    """Remove what a killed process left half-written in `folder`: the temporary names of this module."""
    for entry in folder.glob(".*.tmp"):
        if entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Replace `path` by `value` as indented JSON in one step."""
    write_text(path, _whole(json.dumps(value, indent=1, ensure_ascii=False, default=str)) + "\n")


def write_json_lines(path: Path, rows: list[dict]) -> None:
    """Replace `path` by one JSON object a line in one step."""
    write_text(path, "".join(_whole(json.dumps(row, ensure_ascii=False)) + "\n" for row in rows))


def _whole(text: str) -> str:
    """JSON in which half a surrogate pair, which UTF-8 cannot hold, is the escape that JSON has for it."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def open_text(path: Path):
    """Open a text file for reading, through gzip where its name ends in .gz."""
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8", newline="\n")
    return open(path, encoding="utf-8", newline="\n")


def read_json_lines(path: Path) -> Iterator[tuple[int, dict]]:
    """Yield (line number from 1, object) of a JSON Lines file, gzip or not; blank lines are passed over.

    Raises UserError, with file and line, where a line is not a JSON object or the file is not UTF-8 text.
    """
    if not path.is_file():
        raise UserError("no such file", where=path)
    number = 0
    try:
        with open_text(path) as handle:
            for number, line in enumerate(handle, 1):
                if not line.strip():
                    continue
                try:
                    row = json.loads(line)
                except json.JSONDecodeError as error:
                    raise UserError(
                        f"not JSON ({error.msg})", where=f"{path}:{number}", hint="each line must be one JSON object"
                    ) from None
                if not isinstance(row, dict):
                    raise UserError(
                        f"a {type(row).__name__}, not a JSON object",
                        where=f"{path}:{number}",
                        hint="each line must be one JSON object (JSON Lines, not one JSON array)",
                    )
                yield number, row
    except UnicodeDecodeError:
        raise UserError("not UTF-8 text", where=f"{path}:{number + 1}") from None
    except (OSError, EOFError) as error:
        raise UserError(f"cannot read: {error}", where=path) from None


def read_json(path: Path) -> Any:
    """Read one JSON file; raises UserError where it is absent or not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError("no such file", where=path) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"not a JSON file ({error})", where=path) from None
    except OSError as error:
        raise UserError(f"cannot read: {error.strerror}", where=path) from None


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, as hexadecimal."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def shipped(kind: str) -> Path:
    """The folder of files that come with orca-bench: `recipes`, or `reported` (scores).

    In a checkout they stand at the top level (recipes/, results/reported/); in an installed wheel inside the package.
    """
    package = Path(__file__).resolve().parent
    checkout = package.parent / {"recipes": "recipes", "reported": "results/reported"}[kind]
    return checkout if checkout.is_dir() else package / "shipped" / kind
