"""Texts of records in, the benchmark rows that they contain out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from orca_bench.results.data_report import BenchmarkQuestion, OverlapHit


@dataclass(frozen=True)
class RecordTexts:
    """What a record says, the system message left out; `location` is its file and line, `sha256` the hash of these texts."""

    location: str
    sha256: str
    instruction: str
    input: str
    response: str


class OverlapIndex:
    """The benchmark rows, prepared for the search; built once, and the same in every process."""

    def __init__(self, questions: Sequence[BenchmarkQuestion]) -> None:
        self.questions = list(questions)

    def find(self, records: Sequence[RecordTexts]) -> list[OverlapHit]:
        """The hits of some records, in the order of `OverlapHit.sort_key`; a batch of some thousand records is best."""
        raise NotImplementedError
