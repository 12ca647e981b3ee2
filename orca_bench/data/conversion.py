"""Instructions with a reference answer to records, without a teacher: each under a system message.

A row's own message stays: answer and message belong together. How the card's author assigned messages to WizardLM, Alpaca
and Dolly is not published, so for rows of published sets the policy is a parameter: one uniform draw a row from the chosen
ids. It depends on the seed and the row's texts alone, so that neither order nor selection of the rows changes it. All other
rows are somebody's own and get message 5, under which models are evaluated. Each record holds the id. A sample takes the rows
with the smallest hashes of their texts, so that it does not depend on the order of the rows either.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orca_bench import row_files, row_texts
from orca_bench.counts import reporting
from orca_bench.data import column_shapes, instructions
from orca_bench.data.row_choices import choose_system_id, sample_hash
from orca_bench.errors import UserError
from orca_bench.files import json_line, make_writable_folder, open_text_replacement
from orca_bench.results.output_files import check_output_file
from orca_bench.sampling_by_hash import sample_by_hash
from orca_bench.system_messages import DEFAULT_SYSTEM_ID, IDS_WITH_TEXT, system_id_of, system_message


@dataclass
class ConversionReport:
    """Counts of a conversion: records, where their system messages came from, and rows left out.

    `usable_row_count` rows could be records; they are more than the records where a sample was taken. `row_system_count` records
    keep the message of their row (`empty_system_count` of them an empty one), `assigned_system_count` have one by the policy and
    `default_system_count` have message 5. `placeholder_input_count` inputs were words for no input, `changed_id_count` ids were
    changed because another record had them. `left_out_count_by_reason` counts rows by reason, `first_location_by_reason` has the
    place of the first.
    """

    record_count: int = 0
    usable_row_count: int = 0
    row_system_count: int = 0
    empty_system_count: int = 0
    assigned_system_count: int = 0
    default_system_count: int = 0
    placeholder_input_count: int = 0
    changed_id_count: int = 0
    left_out_count_by_reason: Counter[str] = field(default_factory=Counter)
    first_location_by_reason: dict[str, str] = field(default_factory=dict)

    def leave_out(self, reason: str, location: str) -> None:
        """Count a row that is left out."""
        self.left_out_count_by_reason[reason] += 1
        self.first_location_by_reason.setdefault(reason, location)


def convert_to_records(
    instruction_paths: Sequence[Path],
    records_path: Path,
    assigned_system_ids: Sequence[int] | None = None,
    seed: int = 0,
    column_shape: column_shapes.ColumnShape | None = None,
    refuses_incomplete_rows: bool = False,
    report_row_count: Callable[[int], None] = lambda row_count: None,
    sample_size: int | None = None,
) -> ConversionReport:
    """Write the records of all files to `records_path`.

    With `sample_size`, so many of the usable rows (all, where they are fewer) become records, chosen by `seed` and the rows'
    texts, in the order of the files. A sample is held in memory.

    `assigned_system_ids` are the ids of the messages to assign to rows without a system message, whatever set they are of; None
    assigns one of `IDS_WITH_TEXT` to rows of published sets and message 5 to all others. Raises UserError where no record
    is left, and with `refuses_incomplete_rows` at the first row that would be left out; also where `records_path` is one of the
    files, or a result.
    """
    check_output_file(records_path, (file for path in instruction_paths for file in row_files.data_files_of(path)))
    report = ConversionReport()
    rows: Iterable[_NumberedRow] = reporting(
        _usable_rows(instruction_paths, column_shape, refuses_incomplete_rows, report), report_row_count
    )
    if sample_size is not None:
        rows = sample_by_hash(rows, sample_size, lambda row: sample_hash(row.instruction, seed))
    make_writable_folder(records_path.parent)
    with open_text_replacement(records_path) as handle:
        for record in _convert_rows(rows, assigned_system_ids, seed, report):
            handle.write(json_line(record))
            report.record_count += 1
        if not report.record_count:
            reason, left_out_count = report.left_out_count_by_reason.most_common(1)[0]
            first_location = report.first_location_by_reason[reason]
            raise UserError(f"no record is left: {row_texts.rows_phrase(left_out_count, reason)}", where=first_location)
    return report


@dataclass(frozen=True)
class _NumberedRow:
    """An instruction, and its number (from 1) among all rows of its source, those left out included."""

    row_number: int
    instruction: instructions.Instruction


def _usable_rows(
    instruction_paths: Sequence[Path],
    column_shape: column_shapes.ColumnShape | None,
    refuses_incomplete_rows: bool,
    report: ConversionReport,
) -> Iterator[_NumberedRow]:
    row_count_by_source: Counter[str] = Counter()  # of each source: two files of one source are numbered as one
    for path in instruction_paths:
        for instruction in instructions.read_instructions(path, column_shape):
            row_count_by_source[instruction.source_name] += 1
            if instruction.exclusion_reason:
                if refuses_incomplete_rows:
                    raise UserError(
                        f"--strict allows no rows {instruction.exclusion_reason}", where=instruction.location
                    )
                report.leave_out(instruction.exclusion_reason, instruction.location)
                continue
            report.usable_row_count += 1
            yield _NumberedRow(row_count_by_source[instruction.source_name], instruction)


def _convert_rows(
    rows: Iterable[_NumberedRow], assigned_system_ids: Sequence[int] | None, seed: int, report: ConversionReport
) -> Iterator[dict[str, Any]]:
    record_ids: set[str] = set()
    for row in rows:
        report.placeholder_input_count += row.instruction.has_placeholder_input
        system_text = _system_text(row.instruction, assigned_system_ids, seed, report)
        record = _to_record(row.instruction, row.row_number, system_text)
        if record["id"] in record_ids:
            record["id"] = _unused_record_id(record["id"], record_ids)
            report.changed_id_count += 1
        record_ids.add(record["id"])
        yield record


def _system_text(
    instruction: instructions.Instruction,
    assigned_system_ids: Sequence[int] | None,
    seed: int,
    report: ConversionReport,
) -> str:
    if instruction.system_text is not None:
        report.row_system_count += 1
        report.empty_system_count += not instruction.system_text.strip()
        return instruction.system_text
    if assigned_system_ids is None and not instruction.gets_assigned_system:
        report.default_system_count += 1
        return system_message(DEFAULT_SYSTEM_ID)
    report.assigned_system_count += 1
    return _assigned_system_text(instruction, assigned_system_ids, seed)


def default_system_text(instruction: instructions.Instruction) -> str:
    """The system message that a conversion without options gives an instruction."""
    return _system_text(instruction, None, 0, ConversionReport())


def _assigned_system_text(
    instruction: instructions.Instruction, assigned_system_ids: Sequence[int] | None, seed: int
) -> str:
    system_ids = IDS_WITH_TEXT if assigned_system_ids is None else assigned_system_ids
    return system_message(choose_system_id(instruction, system_ids, seed))


def _to_record(instruction: instructions.Instruction, row_number: int, system_text: str) -> dict[str, Any]:
    return {
        "id": f"{instruction.source_name}-{row_number}",
        "source": instruction.source_name,
        "teacher": "reference",
        "system_id": system_id_of(system_text),
        "system": system_text,
        "instruction": instruction.instruction_text,
        "input": instruction.input_text,
        "response": instruction.reference_answer,
    } | instruction.further_columns


def _unused_record_id(record_id: str, used_record_ids: set[str]) -> str:
    """An id like `record_id` that is not among `used_record_ids`."""
    suffix_number = 2
    while f"{record_id}-{suffix_number}" in used_record_ids:
        suffix_number += 1
    return f"{record_id}-{suffix_number}"
