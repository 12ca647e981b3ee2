"""Parquet and Arrow files in, (place, row) pairs out, their types as the plain values that JSON has.

A module of its own because pyarrow is loaded only where there is such a file.
"""

from __future__ import annotations

import datetime
import decimal
import io
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orca_bench.errors import UserError
from orca_bench.files import MAX_JSON_DEPTH, catch_read_errors

if TYPE_CHECKING:
    from pyarrow import RecordBatch

LocatedRows = Iterator[tuple[str, dict[str, Any]]]


def parquet_rows(path: Path, stream: io.BufferedReader) -> LocatedRows:
    """The rows of a Parquet file, each at `FILE row N`."""
    return _batch_rows(path, _parquet_batches(path, stream))


def arrow_rows(path: Path, stream: io.BufferedReader) -> LocatedRows:
    """The rows of an Arrow file or stream, as `save_to_disk` of datasets writes it, each at `FILE row N`."""
    return _batch_rows(path, _arrow_batches(stream))


def _parquet_batches(path: Path, stream: io.BufferedReader) -> Iterator[RecordBatch]:
    import pyarrow
    import pyarrow.parquet

    # Parquet is read from its end, which a compressed stream or a pipe does not have
    is_seekable = isinstance(stream, io.BufferedReader) and isinstance(stream.raw, io.FileIO) and stream.seekable()
    source = path if is_seekable else pyarrow.BufferReader(stream.read())
    with pyarrow.parquet.ParquetFile(source, page_checksum_verification=True) as parquet_file:
        yield from parquet_file.iter_batches(batch_size=1000)


def _arrow_batches(stream: io.BufferedReader) -> Iterator[RecordBatch]:
    import pyarrow

    content = stream.read()
    if content.startswith(b"ARROW1"):
        arrow_file = pyarrow.ipc.open_file(content)
        yield from (arrow_file.get_batch(index) for index in range(arrow_file.num_record_batches))
    else:
        yield from pyarrow.ipc.open_stream(content)


def _batch_rows(path: Path, batches: Iterator[RecordBatch]) -> LocatedRows:
    row_number = 0
    while True:
        # for damaged files pyarrow raises errors of many kinds, MemoryError and UnicodeDecodeError among them
        try:
            with catch_read_errors(path):
                batch = next(batches, None)
                if batch is not None:
                    batch.validate(full=True)  # pyarrow 26.0 ends the process at offsets that point outside of the data
                rows = None if batch is None else batch.to_pylist()
        except UserError:
            raise
        except Exception as error:
            raise UserError(f"cannot be read: {error}", where=path, hint="the file is cut off or damaged") from None
        if rows is None:
            return
        for row in rows:
            row_number += 1
            location = f"{path} row {row_number}"
            yield location, {column: _to_plain_value(value, location) for column, value in row.items()}


def _to_plain_value(value: Any, location: str, depth: int = MAX_JSON_DEPTH) -> Any:
    """The JSON value that stands for a value of Arrow's."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if not depth:
        raise UserError(f"values nested more than {MAX_JSON_DEPTH} deep", where=location)
    if isinstance(value, dict):
        return {str(key): _to_plain_value(inner_value, location, depth - 1) for key, inner_value in value.items()}
    if isinstance(value, list | tuple):
        return [_to_plain_value(inner_value, location, depth - 1) for inner_value in value]
    if isinstance(value, decimal.Decimal):
        if not value.is_finite():
            return None
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            raise UserError("bytes that are not UTF-8 text", where=location) from None
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return str(value)
