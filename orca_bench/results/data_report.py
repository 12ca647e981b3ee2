"""The report of `orca-bench data check` as typed parts: what is in the records, and which benchmark questions they contain.

`data` writes it; training copies its summary, evaluation marks questions with it, tables and cards show it. Its own module, in
this package, because all of these read it and none may import another. The same records and benchmarks give the same report,
in whatever order the files are named and however many processes do the work. Hashes are SHA-256 in hexadecimal.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from orca_bench.errors import UserError
from orca_bench.files import read_json, write_json
from orca_bench.results.hashing import compute_content_sha256
from orca_bench.results.json_object import Count, Fraction, JsonObject

DATA_REPORT_FORMAT = "orca-bench data report 1"
#: The name of the report in a run's folder, and, without texts, in the folder of the model that was trained on the records.
DATA_REPORT_FILE_NAME = "data_report.json"

#: `test`: a question that is evaluated; `training`: a row of the same benchmark's other splits, from which few-shot examples are
#: taken and on which it is legal to train; `relative`: a question with other numbers, or one that is alike only in part.
OverlapKind = Literal["test", "training", "relative"]
OVERLAP_KINDS: tuple[OverlapKind, ...] = ("test", "training", "relative")


@dataclass(frozen=True)
class BenchmarkQuestion:
    """One benchmark row as records may contain it: its texts apart, and its name (`row` counts from 0 in the split).

    `is_evaluated` says whether it is of the split that is evaluated. `passage` is a text that several rows ask about.
    """

    task: str
    split: str
    row: int
    row_sha256: str
    is_evaluated: bool
    question: str
    passage: str = ""
    choices: tuple[str, ...] = ()
    answer: str = ""


@dataclass(frozen=True)
class BenchmarkQuestions:
    """The rows that records are compared with, the hashes of their splits by task, and the name of their suite."""

    questions: list[BenchmarkQuestion]
    splits_by_task: dict[str, dict[str, SplitRows]]
    suite_name: str


class RecordFile(JsonObject):
    """One file of records: its name, its hash and the number of its rows."""

    name: str
    sha256: str
    rows: Count


class SplitRows(JsonObject):
    """The benchmark rows of one split that the records were compared with: their number, and their hash."""

    rows: Count
    sha256: str


class Finding(JsonObject):
    """Records with one fault: their number, and the places (file and line) of the first of them.

    `originals` has, for each of the examples that are duplicates, the place of the first record that is like it.
    """

    records: Count
    examples: list[str] = []
    originals: list[str] = []


class TokenLengths(JsonObject):
    """The lengths of whole training examples in tokens of the student's tokenizer.

    `histogram` counts examples by length: entry i has those of more than `bin_width` · i tokens, up to `bin_width` · (i + 1);
    the last entry has all longer ones too. `total` is the sum of all lengths. `cut` counts the examples with more than
    `max_length` tokens, of which training leaves out the rest.
    """

    tokenizer_sha256: str
    max_length: Count
    cut: Count
    total: Count
    longest: Count
    bin_width: Count
    histogram: list[Count]


class OverlapHit(JsonObject):
    """One record and one benchmark row that it contains, as a whole or in part.

    `row` counts from 0 in the split, `row_sha256` is the hash of what the task reads of the row. `question`, `choices` and
    `answer` are the shares of these texts that stand in the record, weighted by the rarity of their words; None where the row
    has no such text, or for `passage` no passage. `longest_run` is the longest run of words that both have.
    """

    task: str
    split: str
    row: Count
    row_sha256: str
    kind: OverlapKind
    question: Fraction
    passage: Fraction | None = None
    choices: Fraction | None = None
    answer: Fraction | None = None
    numbers_differ: bool = False
    record: str  # file and line
    record_sha256: str
    longest_run: str
    row_text: str
    record_text: str

    @property
    def sort_key(self) -> tuple[str, str, int, str, str]:
        """The order of hits in a report."""
        return self.task, self.split, self.row, self.record_sha256, self.record


class TaskOverlap(JsonObject):
    """The rows of one task that stand in the records, and the records that contain them, by kind."""

    questions: dict[OverlapKind, Count]
    records: dict[OverlapKind, Count]


class DataReport(JsonObject):
    """A whole report. `benchmarks` and `overlap` are empty where the records were compared with none.

    `records` counts all rows of the files, or of a shard its own. `shard` says which part of the records this is, as `1/4`;
    a merged report has none. Duplicates are counted over all records: a shard has no number of them, but the hash
    `signatures_sha256` of the file beside it from which a merge counts them. `exact_duplicates` counts the records whose
    texts are those of an earlier record, `near_duplicates` those that go where one of each group of like texts stays.
    `benchmarks` has the rows by task and split. `suite` is the name of the benchmark suite.
    """

    format: str = DATA_REPORT_FORMAT
    files: list[RecordFile]
    records: Count
    shard: str | None = None
    signatures_sha256: str | None = None
    findings: dict[str, Finding] = {}
    exact_duplicates: Count | None = None
    near_duplicates: Count | None = None
    tokens: TokenLengths | None = None
    suite: str | None = None
    benchmarks: dict[str, dict[str, SplitRows]] = {}
    overlap: dict[str, TaskOverlap] = {}
    hits: list[OverlapHit] = Field(default_factory=list)

    def overlapping_rows(self, task_name: str, kind: OverlapKind = "test") -> dict[str, float]:
        """By the hash of a row of a task, the largest share of its question that stands in one record."""
        share_by_row: dict[str, float] = {}
        for hit in self.hits:
            if hit.task == task_name and hit.kind == kind:
                share_by_row[hit.row_sha256] = max(hit.question, share_by_row.get(hit.row_sha256, 0.0))
        return share_by_row

    def training_row_count(self, task_name: str) -> int:
        """How many rows of a task's other splits, on which training is legal, stand in the records."""
        task_overlap = self.overlap.get(task_name)
        return 0 if task_overlap is None else task_overlap.questions.get("training", 0)

    @property
    def record_hashes(self) -> frozenset[str]:
        """The hashes of the record files."""
        return frozenset(file.sha256 for file in self.files)

    def covers(self, task_name: str, split: str) -> bool:
        """Whether the records were compared with the rows of a split."""
        return split in self.benchmarks.get(task_name, {})

    @property
    def file_content(self) -> dict[str, Any]:
        """The JSON object of the report's file, with the name of the format, which `to_json` has only where it was read."""
        return {"format": self.format} | self.to_json()

    @property
    def sha256(self) -> str:
        """The hash of the report without texts: that of a whole report, and of the one in the model's folder, is the same."""
        return compute_content_sha256(self.without_texts().file_content)

    def without_texts(self) -> DataReport:
        """What a model's folder has of the report: no text of a row or a record, and no folder's name.

        Of each row and kind one hit stays, that with the largest share of the question; hits on training rows, which are
        counted in `overlap`, do not.
        """
        hit_by_row: dict[tuple[str, str, int, str], OverlapHit] = {}
        for hit in sorted(self.hits, key=lambda hit: (-hit.question, hit.record_sha256)):
            if hit.kind != "training":
                hit_by_row.setdefault((hit.task, hit.split, hit.row, hit.kind), hit)
        no_texts = {"record": "", "longest_run": "", "row_text": "", "record_text": ""}
        return self.model_copy(
            update={
                "files": [file.model_copy(update={"name": Path(file.name).name}) for file in self.files],
                "findings": {name: Finding(records=finding.records) for name, finding in self.findings.items()},
                "hits": [hit_by_row[row].model_copy(update=no_texts) for row in sorted(hit_by_row)],
            }
        )


def read_data_report(path: Path) -> DataReport:
    """The report in a file; raises UserError where the file is absent or is no report."""
    content = read_json(path)
    format_name = content.get("format") if isinstance(content, dict) else None
    if format_name != DATA_REPORT_FORMAT:
        raise UserError(
            "not a report of `orca-bench data check`"
            if not isinstance(format_name, str)
            else f"format '{format_name}'",
            where=path,
            hint=f'expected "format": "{DATA_REPORT_FORMAT}"',
        )
    try:
        report = DataReport.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise UserError(
            f"{place}: {first['msg']}", where=path, hint="write it anew with `orca-bench data check`"
        ) from None
    _check_counts(path, report)
    return report


def _check_counts(path: Path, report: DataReport) -> None:
    """Raise UserError where the hits are not on as many rows as the report counts, by task and kind.

    A row with hits of several kinds counts under the first of them. A report without texts has no hits on training rows, so that
    it may have more rows with relatives than are counted.
    """
    has_texts = any(hit.record for hit in report.hits)
    kind_by_row: dict[tuple[str, str, int], OverlapKind] = {}
    for hit in sorted(report.hits, key=lambda hit: OVERLAP_KINDS.index(hit.kind)):
        kind_by_row.setdefault((hit.task, hit.split, hit.row), hit.kind)
    row_counts = Counter((task_name, kind) for (task_name, _, _), kind in kind_by_row.items())
    for task_name in {**report.overlap, **{hit.task: None for hit in report.hits}}:
        for kind in OVERLAP_KINDS:
            row_count, overlap = row_counts[task_name, kind], report.overlap.get(task_name)
            expected_count = 0 if overlap is None else overlap.questions.get(kind, 0)
            may_differ = not has_texts and (kind == "training" or (kind == "relative" and row_count > expected_count))
            if row_count != expected_count and not may_differ:
                raise UserError(
                    f"its hits do not agree with its counts: {task_name} has {row_count:,} rows of kind {kind}, "
                    f"and {expected_count:,} are counted",
                    where=path,
                    hint="write it anew with `orca-bench data check`",
                )


def write_data_report(path: Path, report: DataReport) -> None:
    """Write a report, whole or not at all."""
    write_json(path, report.file_content)
