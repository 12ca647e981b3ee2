"""Files of records in, one report of what is in them out: faults, duplicates, lengths, and the benchmark questions among them.

The rows are read once, in this process, and sent in batches to workers, which check each row alone (record_checks/batches.py).
What needs all records together is kept as small signatures (record_checks/record_table.py), so that memory hardly grows with
the number of records. The report depends on the records and the benchmarks alone, not on the order of the files, the number of
workers or the hash seed of Python. Its own module because it is what a caller calls.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from orca_bench import library_settings, row_files
from orca_bench.counts import ReportProgress
from orca_bench.data.column_shapes import ColumnShape
from orca_bench.data.overlap.overlap_search import OverlapIndex
from orca_bench.data.record_checks import finding_kinds as kinds
from orca_bench.data.record_checks.batches import BatchCheck, RowBatch, RowChecker
from orca_bench.data.record_checks.duplicates import Duplicates
from orca_bench.data.record_checks.overlap_summary import summarize_overlap
from orca_bench.data.record_checks.record_table import MOST_EXAMPLES, RecordTable
from orca_bench.data.record_checks.shards import Shard
from orca_bench.data.record_checks.token_lengths import TokenLengthCounter
from orca_bench.data.record_checks.workers import checked_batches
from orca_bench.errors import UserError
from orca_bench.files import file_sha256
from orca_bench.recipe import Data
from orca_bench.results.data_report import (
    DATA_REPORT_FORMAT,
    BenchmarkQuestions,
    DataReport,
    Finding,
    OverlapHit,
    RecordFile,
)
from orca_bench.tokenizers import load_tokenizer

DEFAULT_MAX_LENGTH: int = Data.model_fields["max_length"].default

_ROWS_IN_BATCH = 2000
_CHARACTERS_IN_BATCH = 4_000_000


@dataclass(frozen=True)
class CheckOptions:
    """What a check does besides reading the records.

    `tokenizer_path` is a tokenizer's file or folder: lengths are counted with it, and examples of more than `max_length` tokens
    as cut. `column_shape` names the columns, where they are those of no known set. `worker_count` is the number of processes;
    None takes all cores. Of a `shard` only its own records are checked, and `signatures_path` is where its signatures go.
    """

    tokenizer_path: Path | None = None
    max_length: int = DEFAULT_MAX_LENGTH
    column_shape: ColumnShape | None = None
    worker_count: int | None = None
    shard: Shard | None = None
    signatures_path: Path | None = None


@dataclass(frozen=True)
class RecordCheck:
    """A check: its report, and what was noticed of each row.

    `record_files` are the files in the order of the running numbers, `row_counts` the rows of each. `numbers`, int64 [rows],
    has the running number of each row that was checked, `bits`, uint16 [rows], what was noticed of it (`BIT_BY_KEY`);
    `duplicates` are by running number. Of a shard none are known.
    """

    report: DataReport
    record_files: list[Path]
    row_counts: list[int]
    numbers: np.ndarray
    bits: np.ndarray
    duplicates: Duplicates


def check_records(
    record_paths: Sequence[Path],
    benchmarks: BenchmarkQuestions | None = None,
    options: CheckOptions = CheckOptions(),
    report_progress: ReportProgress = lambda done_count, total: None,
) -> DataReport:
    """The report on the records of some files, folders and patterns; `report_progress` gets the number of rows that are checked.

    Raises UserError where a file is absent, damaged or has no row that can be read as a record.
    """
    return run_record_check(record_paths, benchmarks, options, report_progress).report


def run_record_check(
    record_paths: Sequence[Path],
    benchmarks: BenchmarkQuestions | None = None,
    options: CheckOptions = CheckOptions(),
    report_progress: ReportProgress = lambda done_count, total: None,
) -> RecordCheck:
    """As `check_records`, with what was noticed of each row."""
    record_files = record_files_of(record_paths)
    file_names = [str(file) for file in record_files]
    file_hashes = [file_sha256(file) for file in record_files]
    length_counter = None
    if options.tokenizer_path is not None:
        length_counter = TokenLengthCounter(load_tokenizer(options.tokenizer_path).fingerprint, options.max_length)
    checker = RowChecker(
        None if benchmarks is None else OverlapIndex(benchmarks.questions),
        options.tokenizer_path,
        options.column_shape,
    )
    worker_count = library_settings.core_count() if options.worker_count is None else options.worker_count
    row_counts = [0] * len(record_files)
    collected = _CollectedChecks()
    signatures_sha256 = None
    duplicates = Duplicates({}, {})
    batches = _row_batches(record_files, row_counts, options.shard)
    with (
        RecordTable(file_names) as table,
        contextlib.closing(checked_batches(checker, batches, worker_count)) as batch_checks,
    ):
        for batch_check in batch_checks:
            collected.add(batch_check)
            table.add(
                batch_check.file_index,
                batch_check.numbers,
                batch_check.locations,
                batch_check.numbers[batch_check.usable_indices],
                batch_check.signatures,
            )
            if length_counter is not None and batch_check.token_lengths is not None:
                length_counter.add(batch_check.token_lengths)
            report_progress(collected.row_count, None)
        if options.shard is None:
            collected.check_any_readable()
        numbers, bits = collected.numbers_and_bits()
        findings = _row_findings(numbers, bits, table)
        if options.shard is None:
            duplicate_findings, duplicates = table.duplicate_findings(lambda done_count, total: None)
            findings |= duplicate_findings
            _mark_duplicates(numbers, bits, duplicates)
        elif options.signatures_path is not None:
            signatures_sha256 = table.save(options.signatures_path)
    facts: dict[str, Any] = {
        "files": [
            RecordFile(name=name, sha256=sha256, rows=rows)
            for name, sha256, rows in zip(file_names, file_hashes, row_counts, strict=True)
        ],
        "records": len(numbers),
        "findings": findings,
    }
    if options.shard is not None:
        facts["shard"] = str(options.shard)
        facts["signatures_sha256"] = signatures_sha256
    else:
        facts |= duplicate_counts(findings)
    if length_counter is not None:
        facts["tokens"] = length_counter.token_lengths()
    if benchmarks is not None:
        hits = sorted(collected.hits, key=lambda hit: hit.sort_key)
        facts |= {
            "suite": benchmarks.suite_name,
            "benchmarks": benchmarks.splits_by_task,
            "overlap": summarize_overlap(hits, list(benchmarks.splits_by_task)),
            "hits": hits,
        }
    report = DataReport(format=DATA_REPORT_FORMAT, **facts)
    return RecordCheck(report, record_files, row_counts, numbers, bits, duplicates)


def duplicate_counts(findings: dict[str, Finding]) -> dict[str, int]:
    """The two counts of duplicates of a report, from its findings."""
    return {
        f"{kind.key}s": findings[kind.key].records if kind.key in findings else 0
        for kind in (kinds.EXACT_DUPLICATE, kinds.NEAR_DUPLICATE)
    }


@dataclass
class _CollectedChecks:
    """The small parts of all batches' checks."""

    numbers: list[np.ndarray] = field(default_factory=list)
    bits: list[np.ndarray] = field(default_factory=list)
    hits: list[OverlapHit] = field(default_factory=list)
    row_count: int = 0
    usable_count: int = 0
    first_row_error: UserError | None = None

    def add(self, batch_check: BatchCheck) -> None:
        self.numbers.append(batch_check.numbers)
        self.bits.append(batch_check.bits)
        self.hits += batch_check.hits
        self.row_count += len(batch_check.numbers)
        self.usable_count += len(batch_check.usable_indices)
        self.first_row_error = self.first_row_error or batch_check.row_error

    def check_any_readable(self) -> None:
        """Raise the error of the first row where no row can be read: they are not rows of instructions or records."""
        unread_bit = kinds.BIT_BY_KEY[kinds.UNKNOWN_COLUMNS.key]
        if self.first_row_error is not None and all((bits & unread_bit).all() for bits in self.bits):
            raise self.first_row_error

    def numbers_and_bits(self) -> tuple[np.ndarray, np.ndarray]:
        return (
            np.concatenate([np.zeros(0, np.int64), *self.numbers]),
            np.concatenate([np.zeros(0, np.uint16), *self.bits]),
        )


def record_files_of(record_paths: Sequence[Path]) -> list[Path]:
    """The files of all paths, by name, so that their order on a command line does not count."""
    files = sorted((file for path in record_paths for file in row_files.data_files_of(path)), key=str)
    file_by_real_path: dict[str, Path] = {}
    for file in files:
        first_file = file_by_real_path.setdefault(os.path.realpath(file), file)
        if first_file is not file:
            spelling = "" if first_file == file else f", also as {first_file}"
            raise UserError(f"named twice{spelling}", where=file, hint="name each file of records once")
    for file in files:
        if file.exists() and not file.is_file():
            raise UserError("not a file", where=file, hint="records are read more than once: write them to a file")
    return files


def _row_batches(record_files: Sequence[Path], row_counts: list[int], shard: Shard | None) -> Iterator[RowBatch]:
    """The rows of all files in batches of one file each; `row_counts` becomes the number of rows of each file."""
    number = 0
    for file_index, file in enumerate(record_files):
        batch, character_count = RowBatch(file_index, [], [], []), 0
        for location, row in row_files.read_rows(file):
            row_counts[file_index] += 1
            if shard is None or shard.has(number):
                batch.numbers.append(number)
                batch.locations.append(location)
                batch.rows.append(row)
                character_count += sum(len(value) for value in row.values() if isinstance(value, str))
            number += 1
            if len(batch.rows) >= _ROWS_IN_BATCH or character_count >= _CHARACTERS_IN_BATCH:
                yield batch
                batch, character_count = RowBatch(file_index, [], [], []), 0
        if batch.rows:
            yield batch


def _row_findings(numbers: np.ndarray, bits: np.ndarray, table: RecordTable) -> dict[str, Finding]:
    """The findings on single rows, by key; those without a record are left out."""
    numbers_by_key: dict[str, np.ndarray] = {}
    for kind in kinds.FINDING_KINDS:
        faulty_numbers = numbers[(bits & kinds.BIT_BY_KEY[kind.key]) != 0]
        if len(faulty_numbers):
            numbers_by_key[kind.key] = faulty_numbers
    place_by_number = table.places(
        number for faulty_numbers in numbers_by_key.values() for number in faulty_numbers[:MOST_EXAMPLES].tolist()
    )
    return {
        key: Finding(
            records=len(faulty_numbers),
            examples=[place_by_number[number] for number in faulty_numbers[:MOST_EXAMPLES].tolist()],
        )
        for key, faulty_numbers in numbers_by_key.items()
    }


def _mark_duplicates(numbers: np.ndarray, bits: np.ndarray, duplicates: Duplicates) -> None:
    for kind, originals in ((kinds.EXACT_DUPLICATE, duplicates.exact), (kinds.NEAR_DUPLICATE, duplicates.near)):
        is_duplicate = np.isin(numbers, np.fromiter(originals, np.int64, len(originals)))
        bits[is_duplicate] |= kinds.BIT_BY_KEY[kind.key]
