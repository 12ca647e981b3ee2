"""Tables as text in, (place, row) pairs out: CSV, TSV and tables parted by semicolons or bars; every value is a text."""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from orca_bench.errors import UserError


def table_rows(path: Path, lines: Iterator[tuple[int, str]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """CSV and the like: the first line names the columns, and the sign that parts it most often parts the others too."""
    number, header = next(lines)
    outside_quotes = re.sub(r'"[^"]*"', "", header)
    delimiter = max("\t,;|", key=outside_quotes.count)
    named_table = any(suffix in (".csv", ".tsv", ".tab") for suffix in map(str.lower, path.suffixes))
    named_json = any(suffix in (".json", ".jsonl", ".ndjson") for suffix in map(str.lower, path.suffixes))
    if named_json or not (named_table or outside_quotes.count(delimiter)):
        raise UserError(
            "neither JSON nor a table",
            where=f"{path}:{number}",
            hint="a JSON file begins with { or [, a CSV file with the names of its columns",
        )
    csv.field_size_limit(1 << 30)  # Python's own limit is 131,072 characters a cell, which a long answer passes
    reader = csv.reader(itertools.chain([header], (line for _, line in lines)), delimiter=delimiter, strict=True)
    before = 0
    try:
        columns = next(reader)
        if len(set(columns)) < len(columns):
            raise UserError("two columns of one name", where=f"{path}:{number}")
        before = reader.line_num
        for cells in reader:
            place, before = f"{path}:{number + before}", reader.line_num
            if not cells:
                continue
            if len(cells) != len(columns):
                raise UserError(f"{len(cells)} cells, and the table has {len(columns)} columns", where=place)
            yield place, dict(zip(columns, cells, strict=True))
    except csv.Error as error:
        place = f"{path}:{number + before}"
        raise UserError(f"not a table ({error})", where=place, hint='a " inside a cell is written ""') from None
