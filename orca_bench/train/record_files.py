"""Records in: files or hub sets with system, instruction, input and response, each row checked.

Its own module because it is the contract between programs that write records and training. The published explain-tuned sets
call the response `output`; that name is read too. `orca-bench data convert` makes records of rows with other columns.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from orca_bench import hub, row_files, row_texts
from orca_bench.errors import UserError
from orca_bench.files import file_sha256


@dataclass(frozen=True)
class Record:
    """One training example: the parts of the prompt, and the response that the student learns."""

    system: str
    instruction: str
    input: str
    response: str


@dataclass(frozen=True)
class RecordSource:
    """One file or hub set of records.

    Attributes:
        name: The path or hub id.
        rows: How many records it gave.
        sha256: The SHA-256 of the file, or of the rows of a hub set.
        left_out: How many rows are left out, by reason.
        first_left_out: The place of the first such row, by reason.
        without_system: How many records have no system message; they are trained under the empty one.
        commit: The commit of a hub set.
    """

    name: str
    rows: int
    sha256: str | None
    left_out: dict[str, int] = field(default_factory=dict)
    first_left_out: dict[str, str] = field(default_factory=dict)
    without_system: int = 0
    commit: str | None = None

    @property
    def remarks(self) -> list[str]:
        """Messages about the rows, one line each: rows left out, records without a system message."""
        lines = [
            f"left out: {row_texts.rows_phrase(count, reason)}; the first is {self.first_left_out[reason]}"
            for reason, count in self.left_out.items()
        ]
        if self.without_system:
            lines.append(
                f"{self.name}: {self.without_system:,} records have no system message and are trained under the empty one "
                "(orca-bench data convert gives them one)"
            )
        return lines


def read_records(
    names: Iterable[str], strict: bool = False, commits: Mapping[str, str] | None = None
) -> tuple[list[Record], list[RecordSource]]:
    """All records of the named files, folders, patterns and hub sets, in order.

    A hub set is OWNER/NAME or OWNER/NAME@REVISION; `commits`, by name, take precedence over the revision.

    Rows without an instruction or a response are left out and counted, or raise UserError where `strict` says so. Raises
    UserError too where a source is absent, has no records or cannot be read, and for rows of other columns (file and place).
    """
    records: list[Record] = []
    sources: list[RecordSource] = []
    for name in names:
        path = Path(name)
        if not (path.exists() or row_files.has_data_file_ending(path) or row_files.is_path_pattern(path)):
            record_sets = [_read_hub_set(name, (commits or {}).get(name), strict)]
        else:
            files = row_files.data_files_of(path)
            record_sets = [
                _collect_records(str(file), row_files.read_rows(file), file_sha256(file), strict) for file in files
            ]
        for set_records, source in record_sets:
            records += set_records
            sources.append(source)
    return records, sources


def _collect_records(
    name: str, rows: Iterable[tuple[str, dict[str, Any]]], file_sha256: str | None, strict: bool
) -> tuple[list[Record], RecordSource]:
    """The records among `rows`, and the description of their source."""
    records: list[Record] = []
    without_system = 0
    left_out: dict[str, int] = {}
    first_left_out: dict[str, str] = {}
    for location, row in rows:
        record = _to_record(row, location)
        exclusion_reason = row_texts.exclusion_reason(
            record.instruction, record.response, is_published_row=not row_texts.is_record(row)
        )
        if exclusion_reason and strict:
            raise UserError(f"data.strict allows no rows {exclusion_reason}", where=location)
        if exclusion_reason:
            left_out[exclusion_reason] = left_out.get(exclusion_reason, 0) + 1
            first_left_out.setdefault(exclusion_reason, location)
            continue
        records.append(record)
        without_system += row.get("system") is None
    if not records:
        if not left_out:
            raise UserError("no records", where=name)
        reason = max(left_out, key=lambda reason: left_out[reason])
        raise UserError(
            f"no record is left: {row_texts.rows_phrase(left_out[reason], reason)}", where=first_left_out[reason]
        )
    return records, RecordSource(name, len(records), file_sha256, left_out, first_left_out, without_system)


def _to_record(row: dict[str, Any], where: str) -> Record:
    answer_columns = [column for column in ("response", "output") if row.get(column) is not None]
    if len(answer_columns) > 1:
        raise UserError("both 'response' and 'output' are there, and one of them is to be learned", where=where)
    if (
        "instruction" not in row
        or not ("response" in row or "output" in row)
        or ("context" in row and "input" not in row)
    ):
        raise UserError(
            f"columns {', '.join(row)} are not those of records (system, instruction, input, response)",
            where=where,
            hint="make records of them with: orca-bench data convert FILE --out records/NAME.jsonl",
        )
    columns = ("system", "instruction", answer_columns[0] if answer_columns else None)
    input_text = row_texts.column_text(row, "input", where)
    if not input_text.strip() or (row_texts.is_placeholder_input(input_text) and not row_texts.is_record(row)):
        input_text = ""
    system, instruction, answer = (row_texts.column_text(row, column, where) for column in columns)
    return Record(system, instruction, input_text, answer)


def _read_hub_set(name: str, commit: str | None, strict: bool) -> tuple[list[Record], RecordSource]:
    """The records of a hub set's train split, and the description of the set."""
    id_, _, revision = name.partition("@")
    hub.check_hub_id(id_, "file of records")
    resolved = hub.resolve_commit(id_, commit or revision or None, "dataset")
    digest = hashlib.sha256()

    def rows() -> Iterator[tuple[str, dict[str, Any]]]:
        for row_number, row in enumerate(hub.load_dataset_rows(resolved), 1):
            digest.update(json.dumps(row, sort_keys=True, default=str).encode() + b"\n")
            yield f"{id_} row {row_number}", row

    records, source = _collect_records(name, rows(), None, strict)
    return records, replace(source, sha256=digest.hexdigest(), commit=resolved.sha)
