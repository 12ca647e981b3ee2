"""Records in: files or hub sets with system, instruction, input and response, each row checked.

Its own module because it is the contract between programs that write records and training. The published explain-tuned sets
call the response `output`; that name is read too. `orca-bench data convert` makes records of rows with other columns.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from orca_bench import hub, row_files, row_texts
from orca_bench.errors import UserError
from orca_bench.files import file_sha256

#: Different values of `source` or `teacher` up to which they name where records are from; a set with more has one per row.
MAX_ORIGINS = 50


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
        rows_by_source: How many records have which `source`; empty where none has one, or where they have too many.
        teachers: Who wrote the responses, by their `teacher`; empty likewise.
    """

    name: str
    rows: int
    sha256: str | None
    left_out: dict[str, int] = field(default_factory=dict)
    first_left_out: dict[str, str] = field(default_factory=dict)
    without_system: int = 0
    commit: str | None = None
    rows_by_source: dict[str, int] = field(default_factory=dict)
    teachers: list[str] = field(default_factory=list)

    @property
    def remarks(self) -> list[str]:
        """Messages about the rows, one line each: rows left out, records without a system message."""
        remark_lines = [
            f"left out: {row_texts.rows_phrase(count, reason)}; the first is {self.first_left_out[reason]}"
            for reason, count in self.left_out.items()
        ]
        if self.without_system:
            remark_lines.append(
                f"{self.name}: {self.without_system:,} records have no system message and are trained under the empty one "
                "(orca-bench data convert gives them one)"
            )
        return remark_lines


class RecordReader:
    """The records of the named files, folders, patterns and hub sets, in order, read anew in each iteration.

    A hub set is OWNER/NAME or OWNER/NAME@REVISION; `commit_by_source`, by name, take precedence over the revision. An iteration
    holds a few rows at a time; the text of a JSON array, and an Arrow file, are read as a whole.

    Rows without an instruction or a response are left out and counted, or raise UserError where `refuses_incomplete_rows` says
    so. An iteration raises UserError too where a source is absent, has no records or cannot be read, and for rows of other
    columns (file and place).

    Attributes:
        sources: What the last whole iteration read; empty before it.
    """

    def __init__(
        self,
        paths_and_hub_ids: Iterable[str],
        refuses_incomplete_rows: bool = False,
        commit_by_source: Mapping[str, str] | None = None,
    ):
        self._paths_and_hub_ids = list(paths_and_hub_ids)
        self._refuses_incomplete_rows = refuses_incomplete_rows
        self._commit_by_source = dict(commit_by_source or {})
        self.sources: list[RecordSource] = []
        self._sha256_by_file: dict[Path, str] = {}

    def __iter__(self) -> Iterator[Record]:
        sources: list[RecordSource] = []
        for path_or_hub_id in self._paths_and_hub_ids:
            path = Path(path_or_hub_id)
            if _names_files(path):
                for file in row_files.data_files_of(path):
                    source = yield from _read_source(
                        str(file), row_files.read_rows(file), self._sha256(file), self._refuses_incomplete_rows
                    )
                    sources.append(source)
            else:
                source = yield from _read_hub_set(
                    path_or_hub_id, self._commit_by_source.get(path_or_hub_id), self._refuses_incomplete_rows
                )
                sources.append(source)
        self.sources = sources
        # Another iteration reads the same commits, whatever is pushed to the hub meanwhile.
        self._commit_by_source |= {source.name: source.commit for source in sources if source.commit is not None}

    def _sha256(self, file: Path) -> str:
        """The SHA-256 of a file at its first reading; whoever reads it again compares its records (`RecordsDigest`)."""
        if file not in self._sha256_by_file:
            self._sha256_by_file[file] = file_sha256(file)
        return self._sha256_by_file[file]


def hash_sources(paths_and_hub_ids: Iterable[str]) -> dict[str, str | None]:
    """The SHA-256 of each file of records by the name that `RecordReader` gives it; None for a hub set, which is not read.

    Files that are not there are left out. Raises UserError where a folder or pattern has no file.
    """
    sha256_by_name: dict[str, str | None] = {}
    for path_or_hub_id in paths_and_hub_ids:
        path = Path(path_or_hub_id)
        if _names_files(path):
            sha256_by_name |= {str(file): file_sha256(file) for file in row_files.data_files_of(path) if file.is_file()}
        else:
            sha256_by_name[path_or_hub_id] = None
    return sha256_by_name


def _names_files(path: Path) -> bool:
    """Whether an entry of `data.records` names files; else it is the id of a hub set."""
    return path.exists() or row_files.has_data_file_ending(path) or row_files.is_path_pattern(path)


def read_records(
    paths_and_hub_ids: Iterable[str], refuses_incomplete_rows: bool = False
) -> tuple[list[Record], list[RecordSource]]:
    """All records of the named files, folders, patterns and hub sets in one list, as `RecordReader` reads them."""
    reader = RecordReader(paths_and_hub_ids, refuses_incomplete_rows)
    return list(reader), reader.sources


def _read_source(
    source_name: str,
    located_rows: Iterable[tuple[str, dict[str, Any]]],
    file_sha256: str | None,
    refuses_incomplete_rows: bool,
) -> Generator[Record, None, RecordSource]:
    """Yield the records among `located_rows`; returns the description of their source."""
    record_count = without_system_count = 0
    left_out_count_by_reason: dict[str, int] = {}
    first_location_by_reason: dict[str, str] = {}
    counts_by_origin_column: dict[str, Counter[str]] = {"source": Counter(), "teacher": Counter()}
    for location, row in located_rows:
        record = _to_record(row, location)
        exclusion_reason = row_texts.exclusion_reason(
            record.instruction, record.response, is_published_row=not row_texts.is_record(row)
        )
        if exclusion_reason and refuses_incomplete_rows:
            raise UserError(f"data.strict allows no rows {exclusion_reason}", where=location)
        if exclusion_reason:
            left_out_count_by_reason[exclusion_reason] = left_out_count_by_reason.get(exclusion_reason, 0) + 1
            first_location_by_reason.setdefault(exclusion_reason, location)
            continue
        record_count += 1
        without_system_count += row.get("system") is None
        for column, origin_counts in counts_by_origin_column.items():
            if isinstance(row.get(column), str) and len(origin_counts) <= MAX_ORIGINS:
                origin_counts[row[column]] += 1
        yield record
    if not record_count:
        if not left_out_count_by_reason:
            raise UserError("no records", where=source_name)
        reason = max(left_out_count_by_reason, key=lambda reason: left_out_count_by_reason[reason])
        raise UserError(
            f"no record is left: {row_texts.rows_phrase(left_out_count_by_reason[reason], reason)}",
            where=first_location_by_reason[reason],
        )
    rows_by_source, rows_by_teacher = (
        dict(origin_counts) if len(origin_counts) <= MAX_ORIGINS else {}
        for origin_counts in counts_by_origin_column.values()
    )
    return RecordSource(
        name=source_name,
        rows=record_count,
        sha256=file_sha256,
        left_out=left_out_count_by_reason,
        first_left_out=first_location_by_reason,
        without_system=without_system_count,
        rows_by_source=rows_by_source,
        teachers=list(rows_by_teacher),
    )


def _to_record(row: dict[str, Any], location: str) -> Record:
    answer_columns = [column for column in ("response", "output") if row.get(column) is not None]
    if len(answer_columns) > 1:
        raise UserError("both 'response' and 'output' are there, and one of them is to be learned", where=location)
    if (
        "instruction" not in row
        or not ("response" in row or "output" in row)
        or ("context" in row and "input" not in row)
    ):
        raise UserError(
            f"columns {', '.join(row)} are not those of records (system, instruction, input, response)",
            where=location,
            hint="make records of them with: orca-bench data convert FILE --out records/NAME.jsonl",
        )
    text_columns = ("system", "instruction", answer_columns[0] if answer_columns else None)
    input_text = row_texts.column_text(row, "input", location)
    if not input_text.strip() or (row_texts.is_placeholder_input(input_text) and not row_texts.is_record(row)):
        input_text = ""
    system, instruction, answer = (row_texts.column_text(row, column, location) for column in text_columns)
    return Record(system, instruction, input_text, answer)


def _read_hub_set(
    hub_id_and_revision: str, recorded_commit: str | None, refuses_incomplete_rows: bool
) -> Generator[Record, None, RecordSource]:
    """Yield the records of a hub set's train split; returns the description of the set."""
    hub_id, _, revision = hub_id_and_revision.partition("@")
    hub.check_hub_id(hub_id, "file of records")
    resolved_commit = hub.resolve_commit(hub_id, recorded_commit or revision or None, "dataset")
    rows_digest = hashlib.sha256()

    def rows() -> Iterator[tuple[str, dict[str, Any]]]:
        for row_number, row in enumerate(hub.load_dataset_rows(resolved_commit), 1):
            rows_digest.update(json.dumps(row, sort_keys=True, default=str).encode() + b"\n")
            yield f"{hub_id} row {row_number}", row

    source = yield from _read_source(hub_id_and_revision, rows(), None, refuses_incomplete_rows)
    return replace(source, sha256=rows_digest.hexdigest(), commit=resolved_commit.commit_sha)
