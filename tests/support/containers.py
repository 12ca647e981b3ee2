"""Rows written in the forms that people have them in: containers and compressions, for tests of the readers."""

import bz2
import csv
import gzip
import io
import json
import lzma


def _lines(rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def _table(rows, delimiter):
    text = io.StringIO(newline="")
    columns = list(rows[0])
    writer = csv.writer(text, delimiter=delimiter)
    writer.writerow(columns)
    for row in rows:
        writer.writerow([json.dumps(v) if isinstance(v, list | dict) else v for v in (row[c] for c in columns)])
    return text.getvalue().encode()


def _parquet(rows):
    import pyarrow
    import pyarrow.parquet

    sink = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), sink, row_group_size=7, write_page_checksum=True)
    return sink.getvalue()


def _arrow(rows):
    import pyarrow

    table, sink = pyarrow.Table.from_pylist(rows), io.BytesIO()
    with pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=7)
    return sink.getvalue()


def _zstd(content):
    import pyarrow

    return pyarrow.Codec("zstd").compress(content, asbytes=True)


#: kind: rows to bytes
CONTAINERS = {
    "jsonl": _lines,
    "json": lambda rows: json.dumps(rows, indent=2).encode(),
    "json minified": lambda rows: json.dumps(rows, ensure_ascii=False, separators=(",", ":")).encode(),
    "json under data": lambda rows: json.dumps({"version": "1.0", "data": rows}, indent=1).encode(),
    "json objects": lambda rows: "\n".join(json.dumps(row, indent=2) for row in rows).encode(),
    "jsonl with a BOM and CRLF": lambda rows: b"\xef\xbb\xbf" + _lines(rows).replace(b"\n", b"\r\n"),
    "parquet": _parquet,
    "arrow": _arrow,
}
TABLES = {
    "csv": lambda rows: _table(rows, ","),
    "tsv": lambda rows: _table(rows, "\t"),
    "csv of Excel": lambda rows: b"\xef\xbb\xbf" + _table(rows, ";"),
}
PACKINGS = {
    "plain": lambda content: content,
    "gzip": gzip.compress,
    "zstd": _zstd,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
}
