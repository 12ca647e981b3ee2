"""Tables as text in, (place, row) pairs out: CSV, TSV and tables parted by semicolons or bars; every value is a text."""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from orca_bench.errors import UserError


def table_rows(path: Path, numbered_lines: Iterator[tuple[int, str]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """CSV and the like: the first line names the columns, and the sign that parts it most often parts the others too."""
    header_line_number, header_text = next(numbered_lines)
    header_outside_quotes = re.sub(r'"[^"]*"', "", header_text)
    delimiter = max("\t,;|", key=header_outside_quotes.count)
    has_table_suffix = any(suffix in (".csv", ".tsv", ".tab") for suffix in map(str.lower, path.suffixes))
    has_json_suffix = any(suffix in (".json", ".jsonl", ".ndjson") for suffix in map(str.lower, path.suffixes))
    if has_json_suffix or not (has_table_suffix or header_outside_quotes.count(delimiter)):
        raise UserError(
            "neither JSON nor a table",
            where=f"{path}:{header_line_number}",
            hint="a JSON file begins with { or [, a CSV file with the names of its columns",
        )
    csv.field_size_limit(1 << 30)  # Python's own limit is 131,072 characters a cell, which a long answer passes
    csv_reader = csv.reader(
        itertools.chain([header_text], (line for _, line in numbered_lines)), delimiter=delimiter, strict=True
    )
    lines_read = 0
    try:
        column_names = next(csv_reader)
        if len(set(column_names)) < len(column_names):
            raise UserError("two columns of one name", where=f"{path}:{header_line_number}")
        lines_read = csv_reader.line_num
        for cells in csv_reader:
            location, lines_read = f"{path}:{header_line_number + lines_read}", csv_reader.line_num
            if not cells:
                continue
            if len(cells) != len(column_names):
                raise UserError(f"{len(cells)} cells, and the table has {len(column_names)} columns", where=location)
            yield location, dict(zip(column_names, cells, strict=True))
    except csv.Error as error:
        location = f"{path}:{header_line_number + lines_read}"
        raise UserError(f"not a table ({error})", where=location, hint='a " inside a cell is written ""') from None
