"""Instructions with a reference answer to records, without a teacher: each under a system message.

A row's own message is kept: answer and message belong together. How the card's author assigned messages to WizardLM, Alpaca
and Dolly is not published, so for rows of published sets the policy is a parameter: one uniform draw a row from the chosen
ids. It depends on the seed and the row's texts alone, so that neither order nor selection of the rows changes it. All other
rows are somebody's own and get message 5, under which models are asked. Which id it was stands in each record.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from orca_bench import row_files, text_fields
from orca_bench.data import column_shapes, instructions
from orca_bench.errors import UserError
from orca_bench.files import make_folder, replacing
from orca_bench.system_messages import DEFAULT_SYSTEM_ID, id_of, system_message

#: The fifteen messages that have text, as the card used them.
DEFAULT_SYSTEMS = tuple(range(2, 17))


@dataclass
class Report:
    """What a conversion did: counts of records, and of rows left out with the place of the first, by reason."""

    records: int = 0
    own_systems: int = 0
    empty_systems: int = 0
    drawn_systems: int = 0
    default_systems: int = 0
    placeholder_inputs: int = 0
    new_ids: int = 0
    left_out: Counter = field(default_factory=Counter)
    first_left_out: dict[str, str] = field(default_factory=dict)

    def leave_out(self, reason: str, place: str) -> None:
        """Count a row that is left out."""
        self.left_out[reason] += 1
        self.first_left_out.setdefault(reason, place)


def convert(
    paths: Sequence[Path],
    out: Path,
    systems: Sequence[int] | None = None,
    seed: int = 0,
    mapping: column_shapes.Shape | None = None,
    strict: bool = False,
    progress: Callable[[int], None] = lambda done: None,
) -> Report:
    """Write the records of all files to `out`.

    `systems` are the ids to draw from for rows without a system message, whatever set they are of; None draws from
    `DEFAULT_SYSTEMS` for rows of published sets and gives all others message 5. Raises UserError where no record is left, and
    with `strict` at the first row that would be left out; also where `out` is one of the files.
    """
    _check_not_read(out, paths)
    report = Report()
    make_folder(out.parent)
    with replacing(out) as handle:
        for record in _records(paths, systems, seed, mapping, strict, report):
            handle.write(json.dumps(record, ensure_ascii=False) + "\n")
            report.records += 1
            if report.records % 1000 == 0:
                progress(report.records)
        if not report.records:
            reason, count = report.left_out.most_common(1)[0]
            first = report.first_left_out[reason]
            raise UserError(f"no record is left: {text_fields.counted(count, reason)}", where=first)
    return report


def _check_not_read(out: Path, paths: Sequence[Path]) -> None:
    """Raise UserError where `out` is one of the files that are read: it would be replaced, or its records doubled."""
    if out.exists() and any(out.samefile(file) for path in paths for file in row_files.files_of(path)):
        raise UserError(
            "is one of the files to convert", where=f"--out {out}", hint="write the records to another file"
        )


def _records(
    paths: Sequence[Path],
    systems: Sequence[int] | None,
    seed: int,
    mapping: column_shapes.Shape | None,
    strict: bool,
    report: Report,
) -> Iterator[dict]:
    rows: Counter = Counter()  # of each source: two files of one source are numbered as one
    ids: set[str] = set()
    for path in paths:
        for item in instructions.read(path, mapping):
            rows[item.source] += 1
            if item.problem:
                if strict:
                    raise UserError(f"--strict allows no rows {item.problem}", where=item.place)
                report.leave_out(item.problem, item.place)
                continue
            report.placeholder_inputs += item.placeholder
            record = _record(item, rows[item.source], _system(item, systems, seed, report))
            if record["id"] in ids:
                record["id"] = _new_id(record["id"], ids)
                report.new_ids += 1
            ids.add(record["id"])
            yield record


def _system(item: instructions.Instruction, systems: Sequence[int] | None, seed: int, report: Report) -> str:
    if item.system is not None:
        report.own_systems += 1
        report.empty_systems += not item.system.strip()
        return item.system
    if systems is None and not item.drawn:
        report.default_systems += 1
        return system_message(DEFAULT_SYSTEM_ID)
    report.drawn_systems += 1
    texts = "\0".join((str(seed), item.instruction, item.input, item.reference))
    number = int.from_bytes(hashlib.blake2b(texts.encode(), digest_size=8).digest(), "big")
    ids = DEFAULT_SYSTEMS if systems is None else systems
    return system_message(ids[number % len(ids)])


def _record(item: instructions.Instruction, number: int, system: str) -> dict:
    return {
        "id": f"{item.source}-{number}",
        "source": item.source,
        "teacher": "reference",
        "system_id": id_of(system),
        "system": system,
        "instruction": item.instruction,
        "input": item.input,
        "response": item.reference,
    } | item.more


def _new_id(taken: str, ids: set[str]) -> str:
    number = 2
    while f"{taken}-{number}" in ids:
        number += 1
    return f"{taken}-{number}"
