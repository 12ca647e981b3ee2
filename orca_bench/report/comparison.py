"""Results in, paired differences out: is the second better than the first, task by task, and in all?

The same questions are compared, so that what is common to both, how hard a question is, falls out (Miller 2024, arXiv
2411.00640, section 4). Its own module because `compare`, the gate and the leaderboard rest on the same differences; the
comparison with reported scores, which has no pairs, is in reported_comparison.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from orca_bench.errors import UserError
from orca_bench.results.models import Question
from orca_bench.results.reading import ResultFile
from orca_bench.results.summary import cluster_labels_of
from orca_bench.stats.estimates import estimate_mean, mean_of_estimates
from orca_bench.stats.multiple_testing import SIGNIFICANCE_LEVEL, correct_by_holm
from orca_bench.stats.paired_tests import Difference, normal_difference, paired_difference
from orca_bench.suite import ALL_TASKS, AVERAGE_TITLE_BY_NAME, TASK_BY_NAME, TASK_NAMES_BY_AVERAGE, TaskFacts

_SMALLEST_COMMON_SHARE = 0.1  # of the smaller result's questions


@dataclass(frozen=True)
class ComparisonLine:
    """One task or average: both values and their difference, fractions of 1; `adjusted` is the p corrected by Holm.

    `difference` is None where nothing could be compared, and `note` says why.
    """

    name: str
    title: str
    metric: str
    first: float | None = None
    second: float | None = None
    difference: Difference | None = None
    adjusted: float | None = None
    note: str | None = None

    @property
    def p(self) -> float | None:
        """The corrected p, or the p of the line alone where none was corrected; None where nothing was compared."""
        return self.difference.p if self.adjusted is None and self.difference is not None else self.adjusted

    @property
    def verdict(self) -> str:
        """The comparison in words: better, worse, no difference shown, or why nothing was compared."""
        if self.difference is None or self.p is None:
            return self.note or "not compared"
        if self.p < SIGNIFICANCE_LEVEL:
            return "better" if self.difference.value > 0 else "worse"
        return "no difference shown"


@dataclass(frozen=True)
class Comparison:
    """The result headed `second` against the one headed `first`: a line for each task and average, and notes."""

    first: str
    second: str
    lines: list[ComparisonLine]
    notes: list[str] = field(default_factory=list)

    def line(self, name: str) -> ComparisonLine | None:
        """The line of a task or average."""
        return next((line for line in self.lines if line.name == name), None)


def compare(first: ResultFile, other_files: Sequence[ResultFile]) -> list[Comparison]:
    """Each of the others against the first; all tests of the call are corrected together by Holm.

    Raises UserError where a file stands twice, and where two results have no task, or too few questions, in common.
    """
    _refuse_same_file(first, other_files)
    return correct_together([_compare_pair(first, other_file) for other_file in other_files])


def compare_line(first: ResultFile, second: ResultFile, name: str) -> ComparisonLine | None:
    """One task or average of two results, not corrected; None where neither has it or it cannot be computed."""
    if name in TASK_BY_NAME:
        return _compare_task(first, second, TASK_BY_NAME[name], [])
    lines = [line for task in TASK_BY_NAME if (line := compare_line(first, second, task)) is not None]
    return next((line for line in _average_lines(lines) if line.name == name), None)


def correct_together(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The comparisons with their p corrected by Holm over all lines of all of them: each line with a verdict is one test."""
    ps = [line.difference.p for comparison in comparisons for line in comparison.lines if line.difference is not None]
    adjusted_ps = iter(correct_by_holm(ps))
    return [
        replace(
            comparison,
            lines=[
                line if line.difference is None else replace(line, adjusted=next(adjusted_ps))
                for line in comparison.lines
            ],
        )
        for comparison in comparisons
    ]


def _refuse_same_file(first: ResultFile, other_files: Sequence[ResultFile]) -> None:
    paths = {first.path.resolve(): "it is the first result itself"}
    for other_file in other_files:
        path = other_file.path.resolve()
        if path in paths:
            raise UserError(f"nothing to compare: {paths[path]}", where=other_file.path, hint="name another result")
        paths[path] = "it is named twice"


def _compare_pair(first: ResultFile, second: ResultFile) -> Comparison:
    lines, notes = [], _comparison_notes(first, second)
    for task in ALL_TASKS:
        line = _compare_task(first, second, task, notes)
        if line is not None:
            lines.append(line)
    if not any(line.difference for line in lines):
        reasons = "; ".join(f"{line.title}: {line.note}" for line in lines) or "no task is in both"
        raise UserError(f"nothing to compare with {first.path} ({reasons})", where=second.path)
    return Comparison(first.label, second.label, lines + _average_lines(lines), notes)


def _comparison_notes(first: ResultFile, second: ResultFile) -> list[str]:
    notes = []
    protocols = [result_file.result.protocol for result_file in (first, second)]
    if protocols[0] != protocols[1]:
        protocol_names = [protocol.name_and_version for protocol in protocols]
        if protocol_names[0] == protocol_names[1]:
            protocol_names = [
                f"{name} ({protocol.system or protocol.max_length})"
                for name, protocol in zip(protocol_names, protocols, strict=True)
            ]
        notes.append(f"protocols {protocol_names[0]} and {protocol_names[1]}: a difference mixes model and protocol")
    notes += [f"{result_file.label}: unfinished" for result_file in (first, second) if not result_file.result.complete]
    if first.result.questions_sha256 is not None and first.result.questions_sha256 == second.result.questions_sha256:
        notes.append(f"the questions and answers of {first.path} and {second.path} are the same, byte for byte")
    return notes


def _compare_task(first: ResultFile, second: ResultFile, task: TaskFacts, notes: list[str]) -> ComparisonLine | None:
    """The line of a task, or None where neither result has it; a note on questions that are not in both is added."""
    name, title, metric = task.name, task.title, task.metric
    if name not in first.questions_by_task and name not in second.questions_by_task:
        return None
    for result_file in (first, second):
        if name not in result_file.questions_by_task:
            return ComparisonLine(name, title, metric, note=f"not in {result_file.label}")
    if first.result.evaluation_row_hash(task) != second.result.evaluation_row_hash(task):
        return ComparisonLine(name, title, metric, note="other rows")
    first_questions, second_questions = (
        first.questions_by_task[name].questions_by_key,
        second.questions_by_task[name].questions_by_key,
    )
    common_keys = [key for key in first_questions if key in second_questions]
    smaller_count = min(len(first_questions), len(second_questions))
    if len(common_keys) < _SMALLEST_COMMON_SHARE * smaller_count or not common_keys:
        return ComparisonLine(name, title, metric, note=f"{len(common_keys)} questions in common, of {smaller_count}")
    if len(common_keys) < max(len(first_questions), len(second_questions)):
        notes.append(
            f"{title}: {len(common_keys):,} questions in common, of {len(first_questions):,} and {len(second_questions):,}"
        )
    subjects = [subject for subject, _ in common_keys] if task.subject_column else None
    return _compare_questions(
        task, [first_questions[key] for key in common_keys], [second_questions[key] for key in common_keys], subjects
    )


def _compare_questions(
    task: TaskFacts,
    first_questions: Sequence[Question],
    second_questions: Sequence[Question],
    strata: Sequence[str] | None,
) -> ComparisonLine:
    """The line of a task's questions [questions], as the first and the second result have them; `strata` [questions]."""
    first_scores, second_scores = (
        [question.score for question in first_questions],
        [question.score for question in second_questions],
    )
    difference = paired_difference(first_scores, second_scores, cluster_labels_of(first_questions), strata)
    first_value = estimate_mean(first_scores, stratum_labels=strata).value
    return ComparisonLine(task.name, task.title, task.metric, first_value, first_value + difference.value, difference)


def _average_lines(lines: Sequence[ComparisonLine]) -> list[ComparisonLine]:
    """The lines of the two averages, where all their tasks were compared."""
    average_lines = []
    differences = {line.name: line.difference for line in lines if line.difference is not None}
    first_scores = {line.name: line.first for line in lines if line.first is not None}
    for name, title in AVERAGE_TITLE_BY_NAME.items():
        tasks = TASK_NAMES_BY_AVERAGE[name]
        if any(task not in differences for task in tasks):
            continue
        mean_difference, stderr = mean_of_estimates([differences[task] for task in tasks])
        if not stderr:
            continue
        question_count = sum(differences[task].n for task in tasks)
        difference = normal_difference(mean_difference, stderr, "paired z", question_count, question_count)
        first_average = sum(first_scores[task] for task in tasks) / len(tasks)
        average_lines.append(
            ComparisonLine(name, title, "mean", first_average, first_average + mean_difference, difference)
        )
    return average_lines
