"""A file of rows and the numbers of some in, a copy without these out: every row that stays has the bytes that it had.

Of JSON Lines and tables the lines of a row go, of a JSON array, or of objects one after another, the characters of a row and
what parts it from its neighbour; blank lines and the names of columns stay, and so does the compression. Parquet and Arrow
files, whose bytes belong to all rows together, and lists inside an object are refused. Its own module because reading needs none
of it.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import lzma
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import IO, Any

from orca_bench.errors import UserError
from orca_bench.files import catch_read_errors, compression_of, open_binary_replacement, open_decompressed, read_lines
from orca_bench.row_files import read_rows
from orca_bench.row_files.json_text import are_json_lines, is_blank, row_spans

_BYTE_ORDER_MARK = "\ufeff"
_CONVERT_HINT = "write the records as JSON Lines first: orca-bench data convert FILE --out records.jsonl"


def check_rows_can_be_removed(source: Path) -> None:
    """Raise UserError for a file whose rows have no bytes of their own."""
    with open_decompressed(source) as byte_stream, catch_read_errors(source):
        first_bytes = byte_stream.peek(8)[:8]
    if first_bytes.startswith((b"PAR1", b"ARROW1", b"\xff\xff\xff\xff")):
        raise UserError("rows cannot be taken out of a Parquet or Arrow file", where=source, hint=_CONVERT_HINT)
    if (
        _first_character(source) == "{"
        and not _has_json_lines(source)
        and row_spans(source, _text(source).removeprefix(_BYTE_ORDER_MARK)) is None
    ):
        raise UserError("rows cannot be taken out of a list inside an object", where=source, hint=_CONVERT_HINT)


def copy_without_rows(
    source: Path, destination: Path, removed_rows: Collection[int], row_count: int | None = None
) -> None:
    """Write `source` to `destination` without the rows of these numbers, counted from 1 as `read_rows` gives them.

    The copy is written whole or not at all. Raises UserError as `check_rows_can_be_removed`, where the disk does not take it, and
    where `source` has not `row_count` rows, the number that reading gave.
    """
    check_rows_can_be_removed(source)
    first_character = _first_character(source)
    with _open_compressed(destination, compression_of(source)) as copy:
        if first_character == "{" and _has_json_lines(source):
            copy.writelines(_lines_without_rows(source, removed_rows, row_count))
        elif first_character in "[{":
            copy.write(_json_without_rows(source, removed_rows, row_count).encode())
        else:
            copy.writelines(_table_without_rows(source, removed_rows, row_count))


def _first_character(source: Path) -> str:
    with open_decompressed(source) as byte_stream:
        first_line = next((text for _, text in read_lines(source, byte_stream) if not is_blank(text)), " ")
    return first_line.lstrip()[:1] or " "


def _has_json_lines(source: Path) -> bool:
    with open_decompressed(source) as byte_stream:
        return are_json_lines(read_lines(source, byte_stream))


def _check_row_count(source: Path, copied_row_count: int, row_count: int | None) -> None:
    """Raise UserError where the rows that were counted while copying are not those that were read: numbers would shift."""
    if row_count is not None and copied_row_count != row_count:
        raise UserError(
            f"{copied_row_count:,} rows while it was copied, {row_count:,} while it was read",
            where=source,
            hint="run the command again when no other program writes the file",
        )


def _lines_without_rows(source: Path, removed_rows: Collection[int], row_count: int | None) -> Iterator[bytes]:
    """JSON Lines: every line that is not blank is a row."""
    row_number = 0
    with open_decompressed(source) as byte_stream, catch_read_errors(source):
        for line_number, line in enumerate(byte_stream, 1):
            is_row = not is_blank(line.decode("utf-8-sig" if line_number == 1 else "utf-8", errors="replace"))
            row_number += is_row
            if not is_row or row_number not in removed_rows:
                yield line
    _check_row_count(source, row_number, row_count)


def _table_without_rows(source: Path, removed_rows: Collection[int], row_count: int | None) -> Iterator[bytes]:
    """A table: a row has the lines from its own to that of the next row."""
    first_lines = [int(location.rpartition(":")[2]) for location, _ in read_rows(source)]
    _check_row_count(source, len(first_lines), row_count)
    removed_lines: set[int] = set()
    with open_decompressed(source) as byte_stream, catch_read_errors(source):
        lines = byte_stream.readlines()
    for row_number in removed_rows:
        next_line = first_lines[row_number] if row_number < len(first_lines) else len(lines) + 1
        removed_lines.update(range(first_lines[row_number - 1], next_line))
    return (line for line_number, line in enumerate(lines, 1) if line_number not in removed_lines)


def _json_without_rows(source: Path, removed_rows: Collection[int], row_count: int | None) -> str:
    """A JSON array, or objects one after another; between two rows that stay is what stood before the second one."""
    text = _text(source)
    mark = _BYTE_ORDER_MARK if text.startswith(_BYTE_ORDER_MARK) else ""
    text = text.removeprefix(mark)
    spans = row_spans(source, text)
    assert spans, "`check_rows_can_be_removed` refuses other texts, and reading refuses a file without rows"
    _check_row_count(source, len(spans), row_count)
    pieces = [mark, text[: spans[0][0]]]
    has_row = False
    for index, (begin, end) in enumerate(spans):
        if index + 1 not in removed_rows:
            pieces += [text[spans[index - 1][1] : begin] if has_row else "", text[begin:end]]
            has_row = True
    return "".join([*pieces, text[spans[-1][1] :]])


def _text(source: Path) -> str:
    with open_decompressed(source) as byte_stream, catch_read_errors(source):
        return byte_stream.read().decode()


@contextlib.contextmanager
def _open_compressed(destination: Path, compression: str | None) -> Iterator[IO[bytes]]:
    """A handle that replaces `destination` at the end, compressed; without a time in it: the same rows give the same bytes."""
    with open_binary_replacement(destination) as raw_file:
        stream: Any
        if compression is None:
            stream = contextlib.nullcontext(raw_file)
        elif compression == "gzip":
            stream = gzip.GzipFile("", "wb", fileobj=raw_file, mtime=0)
        elif compression == "bzip2":
            stream = bz2.BZ2File(raw_file, "wb")
        elif compression == "xz":
            stream = lzma.LZMAFile(raw_file, "wb")  # noqa: SIM115
        else:
            import pyarrow

            stream = contextlib.closing(pyarrow.CompressedOutputStream(raw_file, "zstd"))
        with stream as handle:
            yield handle
