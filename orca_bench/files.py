"""Files written completely or not at all, and files read with an error that names the file and line.

Every file that orca-bench writes for a person or a program goes through here: it is written beside its place and then moved
into it, so that a full disk or a kill leaves the old file or none.
"""

from __future__ import annotations

import bz2
import contextlib
import errno
import gzip
import hashlib
import io
import itertools
import json
import lzma
import os
import secrets
import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from orca_bench.errors import UserError, Where, WriteError

#: How a Git LFS pointer begins: the content of a file that was cloned without git-lfs.
LFS_POINTER_PREFIX = b"version https://git-lfs"

#: What to do about an error of the operating system while a file is written, by its number.
_WRITE_HINT_BY_ERRNO = {
    errno.EISDIR: "name a file, not a folder",
    errno.ENOTDIR: "a part of this path is a file: choose another folder",
    errno.EEXIST: "a part of this path is a file: choose another folder",
    errno.ENAMETOOLONG: "choose a shorter name",
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "free space or choose another folder"),
}

#: Endings of compressed files that are read and not written.
_UNSUPPORTED_SUFFIXES = (".bz2", ".xz", ".zst", ".zip")

_PROCESS_TOKEN = secrets.token_hex(4)  # processes of two containers or machines may have the same process id
_write_numbers = itertools.count()


def _writer_name() -> str:
    """A part of a temporary name that no other write has, of a thread of this process or of another process.

    A forked process has the token and the numbers of its parent, but another process id.
    """
    return f"{os.getpid()}-{_PROCESS_TOKEN}-{next(_write_numbers)}"


@contextlib.contextmanager
def catch_write_errors(file_or_folder: str | Path) -> Iterator[None]:
    """Turn what is raised while files are written (disk full, no permission, a NUL character in the path) into a WriteError."""
    try:
        yield
    except BrokenPipeError:  # the program that reads the pipe has ended: no error of this one
        raise
    except OSError as error:
        raise WriteError(
            f"cannot write: {error.strerror or error}",
            where=error.filename or file_or_folder,
            hint=_WRITE_HINT_BY_ERRNO.get(error.errno or 0, "choose another folder"),
        ) from error
    except ValueError as error:
        if "\0" not in str(file_or_folder):
            raise
        raise WriteError("cannot write: a NUL character in the path", where=file_or_folder) from error


def make_writable_folder(folder: Path) -> Path:
    """Create `folder` with its parents and prove that a file can be written in it; raises UserError where not."""
    with catch_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_probe_path = folder / f".writable-{_writer_name()}"
        write_probe_path.write_bytes(b"")
        write_probe_path.unlink()
    return folder


def write_text(path: Path, text: str) -> None:
    """Replace `path` by `text` (UTF-8) in one step; raises UserError where the disk does not take it."""
    with open_text_replacement(path) as handle:
        handle.write(text)


@contextlib.contextmanager
def open_text_replacement(path: Path) -> Iterator[TextIO]:
    """Yield a UTF-8 text handle whose content replaces `path` in one step at the end, and not at all where anything fails.

    A name that ends in .gz is compressed, without a time in it: the same text gives the same bytes. Raises UserError where
    the disk does not take it, and for a name of another compression, which its content would not have.
    """
    if path.suffix in _UNSUPPORTED_SUFFIXES:
        raise UserError(f"{path.suffix} is not written", where=path, hint="end the name in .gz, or in no compression")
    if path.exists() and not path.is_file():  # a device or a pipe is written to, never replaced
        with catch_write_errors(path), open(path, "w", encoding="utf-8", newline="\n") as handle:
            yield handle
        return
    with open_binary_replacement(path) as raw_file:
        byte_stream = gzip.GzipFile("", "wb", fileobj=raw_file, mtime=0) if path.suffix == ".gz" else raw_file
        with io.TextIOWrapper(byte_stream, encoding="utf-8", newline="\n", write_through=False) as handle:
            yield handle


@contextlib.contextmanager
def open_binary_replacement(path: Path) -> Iterator[BinaryIO]:
    """Yield a binary handle whose content replaces `path` in one step at the end, and not at all where anything fails."""
    with path_replacement(path) as temporary_path, catch_write_errors(path), open(temporary_path, "wb") as handle:
        yield handle


@contextlib.contextmanager
def path_replacement(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` for a file to be written; it replaces `path` in one step at the end, or is removed.

    Raises UserError where the disk does not take its place; what writes the file catches its own errors.
    """
    path = path.resolve() if path.is_symlink() else path  # the file is replaced, not the link to it
    temporary_path = path.with_name(f".{path.name}.{_writer_name()}.tmp")
    try:
        yield temporary_path
        with catch_write_errors(path):
            _flush_to_disk(temporary_path)
            os.replace(temporary_path, path)
    finally:
        with contextlib.suppress(OSError, ValueError):  # ValueError: a NUL character in the path
            temporary_path.unlink(missing_ok=True)


@contextlib.contextmanager
def open_folder_replacement(path: Path) -> Iterator[Path]:
    """Yield an empty folder beside `path` that takes its place at the end, and is removed where anything fails.

    A kill in the middle leaves the old folder or none, never half of one; `remove_temporary_files` clears what it leaves beside.
    Raises UserError where the disk does not take it.
    """
    path = path.resolve() if path.is_symlink() else path
    writer_name = _writer_name()
    temporary_folder, previous_folder = (
        path.with_name(f".{path.name}.{writer_name}.{suffix}") for suffix in ("tmp", "old.tmp")
    )
    try:
        with catch_write_errors(path):
            shutil.rmtree(temporary_folder, ignore_errors=True)
            temporary_folder.mkdir(parents=True)
            yield temporary_folder
            for written_path in temporary_folder.rglob("*"):
                if written_path.is_file():
                    _flush_to_disk(written_path)
            if path.exists():
                os.replace(path, previous_folder)
            os.replace(temporary_folder, path)
            shutil.rmtree(previous_folder, ignore_errors=True)
    finally:
        shutil.rmtree(temporary_folder, ignore_errors=True)


def _flush_to_disk(path: Path) -> None:
    """Wait until the disk has the file's bytes, so that its new name never stands for fewer, not after a power cut either."""
    with open(path, "rb") as handle:
        os.fsync(handle.fileno())


def remove_temporary_files(folder: Path) -> None:
    """Remove what a killed process left half-written in `folder`: the temporary names of this module."""
    for temporary_path in folder.glob(".*.tmp"):
        if temporary_path.is_dir():
            shutil.rmtree(temporary_path, ignore_errors=True)
        else:
            temporary_path.unlink(missing_ok=True)


def write_json(path: Path, json_value: Any) -> None:
    """Replace `path` by `json_value` as indented JSON in one step."""
    write_text(path, _escape_surrogates(json.dumps(json_value, indent=1, ensure_ascii=False, default=str)) + "\n")


def write_json_lines(path: Path, json_objects: list[dict[str, Any]]) -> None:
    """Replace `path` by one JSON object a line in one step."""
    write_text(path, "".join(map(json_line, json_objects)))


def json_line(json_object: Mapping[str, Any]) -> str:
    """An object as one line of JSON Lines, its end included, that UTF-8 can hold."""
    return _escape_surrogates(json.dumps(json_object, ensure_ascii=False)) + "\n"


def _escape_surrogates(json_text: str) -> str:
    """JSON in which half a surrogate pair, which UTF-8 cannot hold, is the escape that JSON has for it."""
    return json_text.encode("utf-8", "backslashreplace").decode("utf-8")


#: How compressed files begin, so that a file's name need not say what it is.
_COMPRESSION_BY_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz"}

#: How deep lists and objects may be nested: far more than any data set needs, far less than Python's own limit.
MAX_JSON_DEPTH = 64


@contextlib.contextmanager
def open_decompressed(path: Path) -> Iterator[io.BufferedReader]:
    """Yield a file's bytes, decompressed where its first bytes are those of gzip, zstd, bzip2 or xz.

    Raises UserError where there is no such file; what reading raises is turned into a UserError by `catch_read_errors`.
    """
    if path.is_dir():
        raise UserError("a folder, not a file", where=path)
    with contextlib.ExitStack() as stack:
        with catch_read_errors(path):
            raw_file = stack.enter_context(open(path, "rb"))
            compression = _compression_of_bytes(raw_file.peek(8))
            byte_stream = _decompress(raw_file, compression) if compression else raw_file
        yield byte_stream


def compression_of(path: Path) -> str | None:
    """How a file is compressed: `gzip`, `zstd`, `bzip2`, `xz` or not; raises UserError where there is no such file."""
    with catch_read_errors(path), open(path, "rb") as raw_file:
        return _compression_of_bytes(raw_file.read(8))


def _compression_of_bytes(first_bytes: bytes) -> str | None:
    return next(
        (compression for magic, compression in _COMPRESSION_BY_MAGIC.items() if first_bytes.startswith(magic)), None
    )


def _decompress(raw_file: io.BufferedReader, compression: str) -> io.BufferedReader:
    buffer_bytes = 1 << 20  # Python reads lines of a buffer of this size in C, of GzipFile itself in Python
    if compression == "gzip":
        return io.BufferedReader(gzip.GzipFile(fileobj=raw_file), buffer_bytes)
    if compression == "zstd":
        import pyarrow

        return io.BufferedReader(pyarrow.CompressedInputStream(raw_file, "zstd"), buffer_bytes)
    return io.BufferedReader(bz2.BZ2File(raw_file) if compression == "bzip2" else lzma.LZMAFile(raw_file), buffer_bytes)


@contextlib.contextmanager
def catch_read_errors(path: Path, current_location: Callable[[], Where] | None = None) -> Iterator[None]:
    """Turn what the operating system and the decompressors raise while a file is read into a UserError.

    It names the path, or the place in the file that `current_location()` gives.
    """
    try:
        yield
    except FileNotFoundError:
        raise UserError("no such file", where=path) from None
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        # A library's error about the content has no number.
        system_error = error if isinstance(error, OSError) and error.errno is not None else None
        raise UserError(
            f"cannot read: {error if system_error is None else system_error.strerror}",
            where=current_location() if current_location else path,
            hint="the file is cut off or damaged" if system_error is None else None,
        ) from None


def read_lines(path: Path, byte_stream: io.BufferedReader) -> Iterator[tuple[int, str]]:
    """Yield (line number from 1, text) of UTF-8 text, with or without a byte order mark; lines end at \\n alone.

    Raises UserError, with file and line, for text that is not UTF-8 and for a file that cannot be decompressed.
    """
    line_number = 0
    with catch_read_errors(path, lambda: f"{path}:{line_number + 1}"):
        for line_number, line_bytes in enumerate(byte_stream, 1):
            try:
                line_text = line_bytes.decode("utf-8-sig" if line_number == 1 else "utf-8")
            except UnicodeDecodeError:
                raise UserError(
                    "not UTF-8 text", where=f"{path}:{line_number}", hint="save the file as UTF-8"
                ) from None
            yield line_number, line_text


def read_json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number from 1, object) of a JSON Lines file, compressed or not; blank lines are passed over.

    Raises UserError, with file and line, where a line is not a JSON object or the file is not UTF-8 text.
    """
    with open_decompressed(path) as byte_stream:
        for line_number, line_text in read_lines(path, byte_stream):
            if line_text.strip():
                yield line_number, parse_json_object(line_text, f"{path}:{line_number}")


def parse_json_object(json_text: str, where: str) -> dict[str, Any]:
    """The JSON object that a text holds; raises UserError where it holds none."""
    json_value = parse_json(json_text, where)
    if not isinstance(json_value, dict):
        raise UserError(
            f"a {type(json_value).__name__}, not a JSON object", where=where, hint="each line must be one JSON object"
        )
    return json_value


def parse_json(json_text: str, where: Where) -> Any:
    """The value of a JSON text.

    Raises UserError where it is not JSON, and for what Python cannot keep: numbers of thousands of digits, endless nesting.
    """
    with catch_json_errors(where):
        json_value = json.loads(json_text)
        check_json_depth(json_value)
    return json_value


@contextlib.contextmanager
def catch_json_errors(where: Where) -> Iterator[None]:
    """Turn what json and `check_json_depth` raise into a UserError."""
    try:
        yield
    except json.JSONDecodeError as error:
        raise UserError(f"not JSON ({error.msg})", where=where) from None
    except RecursionError:
        raise UserError(f"JSON nested more than {MAX_JSON_DEPTH} deep", where=where) from None
    except ValueError:  # Python reads no integer of more than 4,300 digits
        raise UserError("a number of too many digits", where=where) from None


def check_json_depth(json_value: Any, remaining_depth: int = MAX_JSON_DEPTH) -> None:
    """Raise RecursionError where lists and objects are nested more than `remaining_depth` deep."""
    if isinstance(json_value, dict | list):
        if not remaining_depth:
            raise RecursionError
        for nested_value in json_value.values() if isinstance(json_value, dict) else json_value:
            if isinstance(nested_value, dict | list):
                check_json_depth(nested_value, remaining_depth - 1)


def read_json(path: Path) -> Any:
    """Read one JSON file; raises UserError where it is absent or not JSON."""
    with catch_read_errors(path):
        file_bytes = path.read_bytes()
    if hint := lfs_pointer_hint(path):
        raise UserError("not a JSON file", where=path, hint=hint)
    try:
        json_text = file_bytes.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"not a JSON file ({error})", where=path) from None
    try:
        return parse_json(json_text, path)
    except UserError as error:
        raise UserError(f"not a JSON file ({error.problem})", where=path) from None


def lfs_pointer_hint(path: Path) -> str | None:
    """What to do about a file that `git clone` left as a Git LFS pointer; None where it is none."""
    with catch_read_errors(path), open(path, "rb") as handle:
        is_lfs_pointer = handle.read(len(LFS_POINTER_PREFIX)) == LFS_POINTER_PREFIX
    return "it is a Git LFS pointer: fetch the file itself with `git lfs pull`" if is_lfs_pointer else None


def first_bytes(path: Path, byte_count: int) -> bytes:
    """The first bytes of a file, by which formats are told apart; none of a file that cannot be read."""
    try:
        with open(path, "rb") as byte_stream:
            return byte_stream.read(byte_count)
    except OSError:
        return b""


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, as hexadecimal; raises UserError where it cannot be read."""
    with catch_read_errors(path), open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def content_sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, decompressed where it is compressed; raises UserError where it cannot be read."""
    with open_decompressed(path) as byte_stream, catch_read_errors(path):
        return hashlib.file_digest(byte_stream, "sha256").hexdigest()


def cache_folder(kind: str) -> Path:
    """Where the files of a kind (`gguf`, `gptq`, `tokens`) are: in $ORCA_BENCH_CACHE, else in the user's cache folder."""
    if own_cache := os.environ.get("ORCA_BENCH_CACHE"):
        return Path(own_cache) / kind
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "orca-bench" / kind


def shipped_folder(folder_name: str) -> Path:
    """The folder of files that come with orca-bench: `recipes`, or `reported` (scores).

    In an installed wheel they stand inside the package; in a checkout at the top level (recipes/, results/reported/).
    """
    package_folder = Path(__file__).resolve().parent
    installed_folder = package_folder / "shipped" / folder_name
    # The wheel's own first: beside an installed package, another one may have left a folder of that name.
    return (
        installed_folder
        if installed_folder.is_dir()
        else package_folder.parent / {"recipes": "recipes", "reported": "results/reported"}[folder_name]
    )
