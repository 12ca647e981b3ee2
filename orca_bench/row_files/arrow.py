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


def parquet_rows(path: Path, byte_stream: io.BufferedReader) -> LocatedRows:
    """The rows of a Parquet file, each at `FILE row N`."""
    return _batch_rows(path, _parquet_batches(path, byte_stream))


def arrow_rows(path: Path, byte_stream: io.BufferedReader) -> LocatedRows:
    """The rows of an Arrow file or stream, as `save_to_disk` of datasets writes it, each at `FILE row N`."""
    return _batch_rows(path, _arrow_batches(byte_stream))


def _parquet_batches(path: Path, byte_stream: io.BufferedReader) -> Iterator[RecordBatch]:
    import pyarrow
    import pyarrow.parquet

    # Parquet is read from its end, which a compressed stream or a pipe does not have
    is_seekable = (
        isinstance(byte_stream, io.BufferedReader) and isinstance(byte_stream.raw, io.FileIO) and byte_stream.seekable()
    )
    path_or_buffer = path if is_seekable else pyarrow.BufferReader(byte_stream.read())
    with pyarrow.parquet.ParquetFile(path_or_buffer, page_checksum_verification=True) as parquet_file:
        yield from parquet_file.iter_batches(batch_size=1000)


def _arrow_batches(byte_stream: io.BufferedReader) -> Iterator[RecordBatch]:
    import pyarrow

    arrow_bytes = byte_stream.read()
    if arrow_bytes.startswith(b"ARROW1"):
        arrow_file = pyarrow.ipc.open_file(arrow_bytes)
        yield from (arrow_file.get_batch(index) for index in range(arrow_file.num_record_batches))
    else:
        yield from pyarrow.ipc.open_stream(arrow_bytes)


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


def _to_plain_value(arrow_value: Any, location: str, remaining_depth: int = MAX_JSON_DEPTH) -> Any:
    """The JSON value that stands for a value of Arrow's."""
    if arrow_value is None or isinstance(arrow_value, str | bool | int):
        return arrow_value
    if isinstance(arrow_value, float):
        return arrow_value if math.isfinite(arrow_value) else None
    if not remaining_depth:
        raise UserError(f"values nested more than {MAX_JSON_DEPTH} deep", where=location)
    if isinstance(arrow_value, dict):
        return {
            str(key): _to_plain_value(inner_value, location, remaining_depth - 1)
            for key, inner_value in arrow_value.items()
        }
    if isinstance(arrow_value, list | tuple):
        return [_to_plain_value(inner_value, location, remaining_depth - 1) for inner_value in arrow_value]
    if isinstance(arrow_value, decimal.Decimal):
        if not arrow_value.is_finite():
            return None
        return int(arrow_value) if arrow_value == arrow_value.to_integral_value() else float(arrow_value)
    if isinstance(arrow_value, bytes):
        try:
            return arrow_value.decode("utf-8")
        except UnicodeDecodeError:
            raise UserError("bytes that are not UTF-8 text", where=location) from None
    if isinstance(arrow_value, datetime.date | datetime.time):
        return arrow_value.isoformat()
    return str(arrow_value)
