"""A report of `orca-bench data check` and scored questions in, the same questions out with marks: which the records contain.

A report names benchmark rows by their hashes, so that a question has its mark whatever the protocol, the limit and the order.
It must have been made with the rows that are evaluated. Its own module because evaluation, scoring of answers from elsewhere
and verification mark questions alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from orca_bench.errors import UserError
from orca_bench.evaluate.benchmark_rows import BenchmarkRows, row_sha256
from orca_bench.evaluate.tasks import Task
from orca_bench.models.model_folder import ModelFolder
from orca_bench.results.data_report import DATA_REPORT_FILE_NAME, DataReport, read_data_report
from orca_bench.results.models import Question, Result
from orca_bench.results.summary import summarize_overlap
from orca_bench.results.task_results import Overlap

#: The value of `--data-report` with which no question is marked.
NO_REPORT = "none"


@dataclass(frozen=True)
class QuestionMarks:
    """The marks of one question: the share of it that stands in one record, and that of a relative; None for no mark."""

    overlap: float | None
    relative: float | None


@dataclass(frozen=True)
class OverlapMarker:
    """A report, and the marks that it gives to questions; `path` is its file."""

    path: Path
    report: DataReport
    report_sha256: str

    def covers(self, task: Task) -> bool:
        """Whether the records were compared with the questions of a task."""
        return self.report.covers(task.name, task.evaluation_split)

    def check_rows(self, task: Task, rows: BenchmarkRows) -> None:
        """Raise UserError where the report was made with other questions of a task than these."""
        if not self.covers(task):
            return
        split = task.evaluation_split
        compared_rows = self.report.benchmarks[task.name][split]
        if compared_rows.sha256 != rows.hashes_by_split[split]:
            raise UserError(
                f"made for other rows of {task.title}: split {split} has {compared_rows.rows:,} rows there and "
                f"{len(rows.evaluation_rows):,} here, and their hashes differ",
                where=self.path,
                hint="make a report with `orca-bench data check FILE… --benchmarks` of these rows, or give --data-report none",
            )

    def mark(self, task: Task, rows: BenchmarkRows, questions: Sequence[Question]) -> Overlap | None:
        """Mark the questions of a task; returns what its entry says of them, None where the report does not cover the task."""
        if not self.covers(task):
            return None
        for question, marks in zip(questions, self.marks_of(task, rows, questions), strict=True):
            if marks.overlap is not None:
                question.overlap = marks.overlap
            if marks.relative is not None:
                question.relative = marks.relative
        overlap = summarize_overlap(task.facts, questions, self.report_sha256)
        overlap.training_rows = self.report.training_row_count(task.name)
        return overlap

    def marks_of(self, task: Task, rows: BenchmarkRows, questions: Sequence[Question]) -> list[QuestionMarks]:
        """The marks of the questions of a task, in their order; a question that overlaps has no mark for a relative."""
        overlap_by_row = self.report.overlapping_rows(task.name)
        relative_by_row = self.report.overlapping_rows(task.name, "relative")
        marks_of_questions = []
        for question in questions:
            row_hash = row_sha256(task, rows.evaluation_rows[question.row])
            overlap = overlap_by_row.get(row_hash)
            marks_of_questions.append(
                QuestionMarks(overlap, relative_by_row.get(row_hash) if overlap is None else None)
            )
        return marks_of_questions


def read_marker(path: Path) -> OverlapMarker:
    """The marker of a report; raises UserError where there is none, and for that of one shard of the records."""
    report = read_data_report(path)
    if report.shard is not None:
        raise UserError(
            f"the report of shard {report.shard} alone",
            where=path,
            hint="merge the reports of all shards with `orca-bench data merge-reports`",
        )
    return OverlapMarker(path, report, report.sha256)


def report_path(option: str | Path | None, model_folder: ModelFolder | None) -> Path | None:
    """The report that `--data-report` names, or the one in the model's folder where nothing is named; None without one."""
    if option is not None:
        return None if str(option) == NO_REPORT else Path(option)
    if model_folder is None:
        return None
    in_folder = Path(model_folder.gptq_path or model_folder.path) / DATA_REPORT_FILE_NAME
    return in_folder if in_folder.is_file() else None


def marker_of_result(result: Result, path: Path | None) -> OverlapMarker | None:
    """The marker of the report by which a result's questions were marked: that in a file, or that of the model's folder.

    None where no question was compared, where the file is another report, and where the model's folder, or this report, is not
    here any more. Raises UserError for a file that is no report.
    """
    report_hashes = {entry.overlap.report_sha256 for entry in result.tasks.values() if entry.overlap is not None}
    if path is not None:
        marker = read_marker(path)
        return marker if marker.report_sha256 in report_hashes else None
    in_folder = report_path(None, None if result.model.path is None else ModelFolder(result.model.path))
    if in_folder is None or not report_hashes:
        return None
    try:
        marker = read_marker(in_folder)
    except UserError:
        return None
    return marker if marker.report_sha256 in report_hashes else None


def open_marker(
    path: Path | None,
    rows_by_task: Mapping[str, BenchmarkRows],
    tasks: Sequence[Task],
    show_skipped: Callable[[str], None] | None = None,
) -> OverlapMarker | None:
    """The marker of a report that was made with these rows; None without a path.

    Raises UserError where it was not, and where it cannot be read. With `show_skipped`, which is for a report that nobody named,
    such a report is left out, and a line says why.
    """
    if path is None:
        return None
    try:
        marker = read_marker(path)
        for task in tasks:
            marker.check_rows(task, rows_by_task[task.name])
    except UserError as error:
        if show_skipped is None:
            raise
        show_skipped(
            f"no question is marked, for the report in the model's folder is left out: {path}: {error.problem}"
        )
        return None
    return marker


def marking_message(marker: OverlapMarker, tasks: Sequence[Task]) -> str:
    """What a person should know of a report before an evaluation, in one line."""
    uncovered_titles = [task.title for task in tasks if not marker.covers(task)]
    if len(uncovered_titles) == len(tasks):
        return f"{marker.path} does not say which questions of these tasks are in the training records"
    exception = f" (not of {', '.join(uncovered_titles)}, which it does not cover)" if uncovered_titles else ""
    return f"questions that are in the training records are marked, by {marker.path}{exception}"
