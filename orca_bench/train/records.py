"""Records in: JSON Lines files or hub sets with system, instruction, input and response, each row checked.

Its own module because it is the whole contract between whoever makes records and training. The published explain-tuned
sets call the response `output`; that name is read too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from orca_bench.errors import UserError
from orca_bench.files import read_json_lines, sha256


@dataclass(frozen=True)
class Record:
    """One training example: what the student is asked, and the response it is to learn."""

    system: str
    instruction: str
    input: str
    response: str


@dataclass(frozen=True)
class Source:
    """Where records came from: the path or hub id, how many rows, and the SHA-256 of the file (None for a hub set)."""

    name: str
    rows: int
    sha256: str | None


def read(names: Iterable[str]) -> tuple[list[Record], list[Source]]:
    """All records of the named files and hub sets, in order.

    Raises UserError where a source is absent, empty or not JSON Lines, and where a row lacks a response (file and line).
    """
    records: list[Record] = []
    sources: list[Source] = []
    for name in names:
        before = len(records)
        path = Path(name)
        if path.exists() or path.suffix in (".jsonl", ".gz", ".json"):
            if path.is_dir():
                raise UserError("a folder, not a file of records", where=path)
            records.extend(_record(row, f"{path}:{line}") for line, row in read_json_lines(path))
            digest = sha256(path)
        else:
            records.extend(_from_hub(name))
            digest = None
        if len(records) == before:
            raise UserError("no records in this file", where=name, hint="each line must be one JSON object")
        sources.append(Source(name, len(records) - before, digest))
    return records, sources


def _record(row: dict, where: str) -> Record:
    def text(key: str) -> str:
        value = row.get(key)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise UserError(f"'{key}' is a {type(value).__name__}, not a text", where=where)
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise UserError(f"'{key}' has a lone surrogate, which no encoding holds", where=where) from None
        return value

    response = text("response") or text("output")
    if not response.strip():
        raise UserError("a row without a response", where=where, hint="every record needs a text under 'response'")
    if not text("instruction").strip():
        raise UserError("a row without an instruction", where=where)
    return Record(text("system"), text("instruction"), text("input"), response)


def _from_hub(name: str) -> Iterator[Record]:
    from datasets import load_dataset

    try:
        rows = load_dataset(name, split="train")
    except Exception as error:  # many kinds; for the user they are one
        raise UserError(
            f"no such file here, and the hub did not give such a data set ({type(error).__name__})",
            where=name,
            hint="give the path of a JSON Lines file",
        ) from error
    for number, row in enumerate(rows):
        yield _record(row, f"{name} row {number}")
