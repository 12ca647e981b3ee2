"""Instructions with a reference answer to records, without a teacher: each under a system message.

A row's own message stays: answer and message belong together. How the card's author assigned messages to WizardLM, Alpaca
and Dolly is not published, so for rows of published sets the policy is a parameter: one uniform draw a row from the chosen
ids. It depends on the seed and the row's texts alone, so that neither order nor selection of the rows changes it. All other
rows are somebody's own and get message 5, under which models are evaluated. Each record holds the id.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orca_bench import row_files, row_texts
from orca_bench.data import column_shapes, instructions
from orca_bench.errors import UserError
from orca_bench.files import make_writable_folder, open_text_replacement
from orca_bench.system_messages import DEFAULT_SYSTEM_ID, system_id_of, system_message

#: The fifteen messages that have text, as the card used them.
DEFAULT_SYSTEM_IDS = tuple(range(2, 17))


@dataclass
class ConversionReport:
    """Counts of a conversion: records, where their system messages came from, and rows left out.

    `row_systems` records keep the message of their row (`empty_systems` of them an empty one), `assigned_systems` have one by
    the policy and `default_systems` have message 5. `placeholder_inputs` inputs were words for no input, `new_ids` ids were
    changed because another record had them. `left_out` counts rows by reason, `first_left_out` has the place of the first.
    """

    records: int = 0
    row_systems: int = 0
    empty_systems: int = 0
    assigned_systems: int = 0
    default_systems: int = 0
    placeholder_inputs: int = 0
    new_ids: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    first_left_out: dict[str, str] = field(default_factory=dict)

    def leave_out(self, reason: str, location: str) -> None:
        """Count a row that is left out."""
        self.left_out[reason] += 1
        self.first_left_out.setdefault(reason, location)


def convert_to_records(
    paths: Sequence[Path],
    out: Path,
    systems: Sequence[int] | None = None,
    seed: int = 0,
    mapping: column_shapes.ColumnShape | None = None,
    strict: bool = False,
    progress: Callable[[int], None] = lambda done: None,
) -> ConversionReport:
    """Write the records of all files to `out`.

    `systems` are the ids of the messages to assign to rows without a system message, whatever set they are of; None assigns
    one of `DEFAULT_SYSTEM_IDS` to rows of published sets and message 5 to all others. Raises UserError where no record is left,
    and with `strict` at the first row that would be left out; also where `out` is one of the files.
    """
    _check_output_is_not_input(out, paths)
    report = ConversionReport()
    make_writable_folder(out.parent)
    with open_text_replacement(out) as handle:
        for record in _convert_rows(paths, systems, seed, mapping, strict, report):
            handle.write(json.dumps(record, ensure_ascii=False) + "\n")
            report.records += 1
            if report.records % 1000 == 0:
                progress(report.records)
        if not report.records:
            reason, count = report.left_out.most_common(1)[0]
            first_location = report.first_left_out[reason]
            raise UserError(f"no record is left: {row_texts.rows_phrase(count, reason)}", where=first_location)
    return report


def _check_output_is_not_input(out: Path, paths: Sequence[Path]) -> None:
    """Raise UserError where `out` is one of the files that are read: it would be replaced, or its records doubled."""
    if out.exists() and any(out.samefile(file) for path in paths for file in row_files.data_files_of(path)):
        raise UserError(
            "is one of the files to convert", where=f"--out {out}", hint="write the records to another file"
        )


def _convert_rows(
    paths: Sequence[Path],
    systems: Sequence[int] | None,
    seed: int,
    mapping: column_shapes.ColumnShape | None,
    strict: bool,
    report: ConversionReport,
) -> Iterator[dict[str, Any]]:
    row_counts: Counter[str] = Counter()  # of each source: two files of one source are numbered as one
    record_ids: set[str] = set()
    for path in paths:
        for instruction in instructions.read_instructions(path, mapping):
            row_counts[instruction.source] += 1
            if instruction.problem:
                if strict:
                    raise UserError(f"--strict allows no rows {instruction.problem}", where=instruction.location)
                report.leave_out(instruction.problem, instruction.location)
                continue
            report.placeholder_inputs += instruction.has_placeholder_input
            record = _to_record(
                instruction, row_counts[instruction.source], _system_text(instruction, systems, seed, report)
            )
            if record["id"] in record_ids:
                record["id"] = _unused_record_id(record["id"], record_ids)
                report.new_ids += 1
            record_ids.add(record["id"])
            yield record


def _system_text(
    instruction: instructions.Instruction, systems: Sequence[int] | None, seed: int, report: ConversionReport
) -> str:
    if instruction.system is not None:
        report.row_systems += 1
        report.empty_systems += not instruction.system.strip()
        return instruction.system
    if systems is None and not instruction.assigns_system:
        report.default_systems += 1
        return system_message(DEFAULT_SYSTEM_ID)
    report.assigned_systems += 1
    hash_input = "\0".join((str(seed), instruction.instruction, instruction.input, instruction.reference))
    text_hash = int.from_bytes(hashlib.blake2b(hash_input.encode(), digest_size=8).digest(), "big")
    system_ids = DEFAULT_SYSTEM_IDS if systems is None else systems
    return system_message(system_ids[text_hash % len(system_ids)])


def _to_record(instruction: instructions.Instruction, row_number: int, system: str) -> dict[str, Any]:
    return {
        "id": f"{instruction.source}-{row_number}",
        "source": instruction.source,
        "teacher": "reference",
        "system_id": system_id_of(system),
        "system": system,
        "instruction": instruction.instruction,
        "input": instruction.input,
        "response": instruction.reference,
    } | instruction.further_columns


def _unused_record_id(record_id: str, record_ids: set[str]) -> str:
    """An id like `record_id` that is not among `record_ids`."""
    suffix_number = 2
    while f"{record_id}-{suffix_number}" in record_ids:
        suffix_number += 1
    return f"{record_id}-{suffix_number}"
