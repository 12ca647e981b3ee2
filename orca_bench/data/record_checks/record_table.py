"""What is kept of all records until the end of a check: places and signatures, in files that are removed, or in one to merge.

In memory are 140 bytes a record. A shard saves its table beside its report, and a merge loads the tables of all shards: near
duplicates are in different shards as often as not. Its own module because a check and a merge both end with it.
"""

from __future__ import annotations

import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from orca_bench.counts import ReportProgress
from orca_bench.data.record_checks import finding_kinds as kinds
from orca_bench.data.record_checks.duplicates import Duplicates, DuplicateSearch
from orca_bench.data.record_checks.signatures import Signatures
from orca_bench.errors import UserError
from orca_bench.files import catch_write_errors, file_sha256, path_replacement
from orca_bench.results.data_report import Finding

MOST_EXAMPLES = 5  # places of a finding
_FORMAT = "orca-bench signatures 1"


class RecordTable:
    """A context manager that takes all records of a check, or of a shard; `file_names` are those of the record files in order."""

    def __init__(self, file_names: Sequence[str]) -> None:
        self._file_names = file_names
        self._numbers: list[np.ndarray] = []
        self._place_file = tempfile.TemporaryFile(prefix="orca-bench-places-")  # noqa: SIM115
        self._duplicate_search = DuplicateSearch()

    def __enter__(self) -> RecordTable:
        return self

    def __exit__(self, *_: object) -> None:
        self._place_file.close()
        self._duplicate_search.__exit__()

    def add(
        self,
        file_index: int,
        numbers: np.ndarray,
        locations: Sequence[str],
        usable_numbers: np.ndarray,
        signatures: Signatures,
    ) -> None:
        """Take rows of a file: the running number and the place of each, and the signatures of those that are usable records."""
        name_length = len(self._file_names[file_index])
        place_lines = "".join(f"{file_index}{location[name_length:]}\n" for location in locations)
        self._add_stored(numbers, place_lines.encode(), usable_numbers, signatures)

    def _add_stored(
        self, numbers: np.ndarray, place_lines: bytes, usable_numbers: np.ndarray, signatures: Signatures
    ) -> None:
        self._numbers.append(numbers)
        self._place_file.write(place_lines)
        self._duplicate_search.add(usable_numbers, signatures)

    def duplicate_findings(self, report_progress: ReportProgress) -> tuple[dict[str, Finding], Duplicates]:
        """The findings on duplicates, by key, and the duplicates by record number."""
        duplicates = self._duplicate_search.find(report_progress)
        findings: dict[str, Finding] = {}
        for kind, originals in ((kinds.EXACT_DUPLICATE, duplicates.exact), (kinds.NEAR_DUPLICATE, duplicates.near)):
            if originals:
                first_numbers = sorted(originals)[:MOST_EXAMPLES]
                original_numbers = [originals[number] for number in first_numbers]
                place_by_number = self.places([*first_numbers, *original_numbers])
                findings[kind.key] = Finding(
                    records=len(originals),
                    examples=[place_by_number[number] for number in first_numbers],
                    originals=[place_by_number[number] for number in original_numbers],
                )
        return findings, duplicates

    def places(self, wanted_numbers: Iterable[int]) -> dict[int, str]:
        """The places of some rows, by their running numbers."""
        numbers = np.concatenate([np.zeros(0, np.int64), *self._numbers])
        wanted_lines = np.flatnonzero(np.isin(numbers, np.fromiter(wanted_numbers, np.int64))).tolist()
        place_by_number: dict[int, str] = {}
        remaining_lines = set(wanted_lines)
        self._place_file.seek(0)
        for line_number, line in enumerate(self._place_file):
            if line_number in remaining_lines:
                place_by_number[int(numbers[line_number])] = self._place_of_line(line.decode())
                remaining_lines.discard(line_number)
                if not remaining_lines:
                    break
        self._place_file.seek(0, 2)
        return place_by_number

    def _place_of_line(self, line: str) -> str:
        digit_count = next(index for index, character in enumerate(line) if not character.isdecimal())
        return self._file_names[int(line[:digit_count])] + line[digit_count:].rstrip("\n")

    def save(self, path: Path) -> str:
        """Write the table to a file, whole or not at all; returns the file's SHA-256."""
        self._place_file.seek(0)
        place_lines = zlib.compress(self._place_file.read(), 1)
        arrays: dict[str, Any] = {
            "format": np.array(_FORMAT),
            "numbers": np.concatenate([np.zeros(0, np.int64), *self._numbers]),
            "places": np.frombuffer(place_lines, np.uint8),
            **self._duplicate_search.stored_arrays(),
        }
        with path_replacement(path) as temporary_path:
            with catch_write_errors(path), open(temporary_path, "wb") as handle:
                np.savez(handle, **arrays)
            return file_sha256(temporary_path)

    def load(self, path: Path) -> None:
        """Take all that a saved table has; raises UserError where the file is none."""
        try:
            with np.load(path, allow_pickle=False) as stored:
                if str(stored["format"]) != _FORMAT:
                    raise ValueError(f"format {stored['format']}")
                self._add_stored(
                    stored["numbers"],
                    zlib.decompress(stored["places"].tobytes()),
                    stored["record_numbers"],
                    Signatures(
                        stored["text_hashes"],
                        stored["band_hashes"],
                        stored["shingle_counts"],
                        stored["shingle_hashes"],
                    ),
                )
        except (OSError, ValueError, KeyError, EOFError, zlib.error, zipfile.BadZipFile) as error:
            raise UserError(f"not the signatures of a shard ({error})", where=path, hint="check it again") from None
