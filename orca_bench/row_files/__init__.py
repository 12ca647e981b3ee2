"""Files of rows in, (place, row) pairs out: JSON, JSON Lines, Parquet, Arrow, CSV and TSV, plain or compressed.

What a file is, its content says and not its name: people have a `.json` of one object a line, a `.jsonl` that is an array, a
gzip file without `.gz`. Rows of any of these are the same plain Python values. A module of its own because training data,
instructions and benchmarks all come in through it. JSON Lines, CSV and Parquet are read piece by piece; a JSON array is read
into memory as text, its rows one by one.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from orca_bench.errors import UserError
from orca_bench.files import LFS_POINTER_PREFIX, catch_read_errors, open_decompressed, read_lines
from orca_bench.row_files.arrow import arrow_rows, parquet_rows
from orca_bench.row_files.delimited_text import table_rows
from orca_bench.row_files.file_sets import (
    DATA_FILE_ENDINGS,
    data_file_stem,
    data_files_of,
    has_data_file_ending,
    in_natural_order,
    is_path_pattern,
    is_shard,
)
from orca_bench.row_files.json_text import array_rows, is_blank, object_rows

__all__ = [
    "DATA_FILE_ENDINGS",
    "data_file_stem",
    "data_files_of",
    "has_data_file_ending",
    "in_natural_order",
    "is_path_pattern",
    "is_shard",
    "read_rows",
]

LocatedRows = Iterator[tuple[str, dict[str, Any]]]

#: What is no data file though people have it under a data file's name: how it begins, what it is, what to do.
_REFUSED_FILE_KINDS = (
    (LFS_POINTER_PREFIX, "a Git LFS pointer, not the file itself", "fetch it with: git lfs pull"),
    (b"PK\x03\x04", "a zip archive", "unpack it first"),
    (b"<", "an HTML or XML page, not a data file", "download the file itself, not the page that shows it"),
    (b"7z\xbc\xaf", "a 7z archive", "unpack it first"),
)


def read_rows(path: Path) -> LocatedRows:
    """Yield (place, row) of every row of one file; the place is `FILE:LINE`, or `FILE row N` counted from 1.

    Values are those of JSON: texts, numbers, booleans, None, lists and dictionaries. NaN and infinity, which pandas writes
    for what is missing, are None. Raises UserError, with file and place, for a file that is absent, empty, damaged, not of
    these kinds or not UTF-8, and for values that no JSON file can hold.
    """
    is_empty = True
    with open_decompressed(path) as byte_stream:
        for location, row in _read_rows(path, byte_stream):
            is_empty = False
            yield location, row
    if is_empty:
        raise UserError("no rows", where=path)


def _read_rows(path: Path, byte_stream: io.BufferedReader) -> LocatedRows:
    with catch_read_errors(path):
        first_bytes = byte_stream.peek(1024)[:1024]
    if first_bytes.startswith(b"PAR1"):
        return parquet_rows(path, byte_stream)
    if first_bytes.startswith((b"ARROW1", b"\xff\xff\xff\xff")):
        return arrow_rows(path, byte_stream)
    _check_text(path, first_bytes)
    return _text_rows(path, read_lines(path, byte_stream))


def _check_text(path: Path, first_bytes: bytes) -> None:
    """Raise UserError where the first bytes are not those of UTF-8 text."""
    wrong_encoding = None
    if first_bytes.startswith((b"\xff\xfe\x00\x00", b"\x00\x00\xfe\xff")):
        wrong_encoding = "UTF-32"
    elif first_bytes.startswith((b"\xff\xfe", b"\xfe\xff")) or _looks_like_utf16(first_bytes):
        wrong_encoding = "UTF-16"
    if wrong_encoding:
        raise UserError(
            f"{wrong_encoding} text, not UTF-8", where=path, hint=f"iconv -f {wrong_encoding} -t UTF-8 FILE > NEW"
        )
    text_start = first_bytes.removeprefix(b"\xef\xbb\xbf").lstrip()
    for magic, file_kind, hint in _REFUSED_FILE_KINDS:
        if text_start.startswith(magic):
            raise UserError(file_kind, where=path, hint=hint)
    if b"\x00" in first_bytes:
        raise UserError(
            "binary data of an unknown kind",
            where=path,
            hint="rows are read from JSON, JSON Lines, Parquet, Arrow, CSV and TSV",
        )


def _looks_like_utf16(first_bytes: bytes) -> bool:
    """Every other byte of UTF-16 without a byte order mark is zero where the text is mostly ASCII."""
    byte_halves = first_bytes[0::2], first_bytes[1::2]
    return any(byte_half.count(0) > len(byte_half) / 2 for byte_half in byte_halves) and not all(
        byte_half.count(0) for byte_half in byte_halves
    )


def _text_rows(path: Path, numbered_lines: Iterator[tuple[int, str]]) -> LocatedRows:
    first_numbered_line = next(
        (numbered_line for numbered_line in numbered_lines if not is_blank(numbered_line[1])), None
    )
    if first_numbered_line is None:
        return iter(())
    numbered_lines = itertools.chain([first_numbered_line], numbered_lines)
    first_character = first_numbered_line[1].lstrip()[0]
    if first_character == "[":
        return array_rows(path, numbered_lines)
    return object_rows(path, numbered_lines) if first_character == "{" else table_rows(path, numbered_lines)
