"""A check of records in, copies of their files without the faulty records out, and what went and why.

The rows that stay have the bytes that they had (row_files/row_removal.py). A record goes for what the check noticed of it: of
its kinds (`REMOVAL_KEYS`) those that the caller names. Its own module because a check alone writes no records.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from orca_bench.data.record_check import RecordCheck
from orca_bench.data.record_checks.finding_kinds import (
    BIT_BY_KEY,
    DEFAULT_REMOVAL_KEYS,
    EXACT_DUPLICATE,
    NEAR_DUPLICATE,
    REMOVAL_KEYS,
)
from orca_bench.errors import UserError, spelling_hint
from orca_bench.files import file_sha256, make_writable_folder
from orca_bench.results.output_files import check_output_file
from orca_bench.row_files.row_removal import check_rows_can_be_removed, copy_without_rows


@dataclass(frozen=True)
class RemovedRecords:
    """What was left out of the copy of one file.

    `row_count` is the number of rows of the file; `removed_count` of them went, and `count_by_key` says for what: a record that
    went for two things counts under both.
    """

    source: Path
    copy: Path
    row_count: int
    removed_count: int
    count_by_key: dict[str, int]


def parse_removal_keys(text: str | None) -> tuple[str, ...]:
    """The kinds of a comma-separated list, in the order of `REMOVAL_KEYS`; None is the default. Raises UserError for others."""
    if text is None:
        return DEFAULT_REMOVAL_KEYS
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in REMOVAL_KEYS:
            hint = spelling_hint(name, REMOVAL_KEYS) or f"kinds are {', '.join(REMOVAL_KEYS)}"
            raise UserError(f"unknown kind '{name}'", where="--remove-kinds", hint=hint)
    if not names:
        raise UserError("names no kind", where="--remove-kinds", hint=f"kinds are {', '.join(REMOVAL_KEYS)}")
    return tuple(key for key in REMOVAL_KEYS if key in names)


def clean_copy_paths(record_files: Sequence[Path], out_folder: Path) -> list[Path]:
    """Where the copy of each file goes: its name below `out_folder`, with the folders that tell the files apart.

    Raises UserError where a copy would replace a file of records, a result or another copy, where rows cannot be taken out of a
    file. Nothing is written.
    """
    absolute_paths = [Path(os.path.abspath(file)) for file in record_files]
    common_folder = os.path.commonpath([path.parent for path in absolute_paths])
    copies = [out_folder / path.relative_to(common_folder) for path in absolute_paths]
    file_by_copy: dict[str, Path] = {}
    for file, copy in zip(record_files, copies, strict=True):
        first_file = file_by_copy.setdefault(os.path.realpath(copy), file)
        if first_file is not file:
            raise UserError(
                f"the copies of {first_file} and {file} would be one file", where=copy, hint="check them one by one"
            )
        check_output_file(copy, record_files)
        check_rows_can_be_removed(file)
    return copies


def remove_records(
    check: RecordCheck, out_folder: Path, removal_keys: Sequence[str] = DEFAULT_REMOVAL_KEYS
) -> list[RemovedRecords]:
    """Write a copy of each file without the records of these kinds. Raises UserError as `clean_copy_paths`.

    Also where a file is no longer the one that was checked.
    """
    is_removed_of_all = _removed_records(check, removal_keys)
    removals: list[RemovedRecords] = []
    first_number = 0
    copies = clean_copy_paths(check.record_files, out_folder)
    for file, copy, row_count, reported in zip(
        check.record_files, copies, check.row_counts, check.report.files, strict=True
    ):
        if file_sha256(file) != reported.sha256:
            raise UserError("the file has changed while it was checked", where=file, hint="run the command again")
        is_of_file = (check.numbers >= first_number) & (check.numbers < first_number + row_count)
        bits, is_removed = check.bits[is_of_file], is_removed_of_all[is_of_file]
        make_writable_folder(copy.parent)
        copy_without_rows(file, copy, set((np.flatnonzero(is_removed) + 1).tolist()), row_count)
        count_by_key = {key: int((is_removed & ((bits & BIT_BY_KEY[key]) != 0)).sum()) for key in removal_keys}
        removals.append(
            RemovedRecords(
                file,
                copy,
                row_count,
                int(is_removed.sum()),
                {key: count for key, count in count_by_key.items() if count},
            )
        )
        first_number += row_count
    return removals


def _removed_records(check: RecordCheck, removal_keys: Sequence[str]) -> np.ndarray:
    """Which of the checked records go, bool [rows].

    Of duplicates the first one stays that does not go for another reason: no text is lost because it stood in a record with a
    fault too. All rows were checked, so that the running number of a row is its index.
    """
    duplicate_keys = (EXACT_DUPLICATE.key, NEAR_DUPLICATE.key)
    other_bits = sum(BIT_BY_KEY[key] for key in removal_keys if key not in duplicate_keys)
    is_removed: np.ndarray = (check.bits & other_bits) != 0
    kept_by_first: dict[int, int] = {}
    for key, first_by_number in zip(duplicate_keys, (check.duplicates.exact, check.duplicates.near), strict=True):
        if key not in removal_keys:
            continue
        group_by_first: dict[int, list[int]] = {}
        for number, first_number in sorted(first_by_number.items()):
            group_by_first.setdefault(first_number, [first_number]).append(number)
        for first_number, group in group_by_first.items():
            numbers = [kept_by_first.get(number, number) for number in group]
            kept_number = next((number for number in numbers if not is_removed[number]), numbers[0])
            for number in numbers:
                is_removed[number] |= number != kept_number
            kept_by_first[first_number] = kept_number
    return is_removed
