"""A result and reported scores, or a result without its questions, in; unpaired differences out.

Of a reported score only the number is known, not which questions were right: there are no pairs, and the comparison is weaker
than that of two results. It says so. Its own module because it shares only its form with the paired comparison.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from orca_bench.errors import UserError
from orca_bench.report.comparison import (
    Comparison,
    average_lines,
    check_says_overlap,
    compare_pair,
    comparison_notes,
    correct_together,
    protocol_names,
    refuse_repeated_files,
)
from orca_bench.report.comparison_lines import NO_OTHER_QUESTIONS, ComparisonLine
from orca_bench.report.notes import Note, NotedNumber
from orca_bench.report.overlap_text import left_out_text, overlap_sentences, uncovered_notes, uncovered_titles
from orca_bench.report.reported_scores import ReportedScores
from orca_bench.results.models import Result
from orca_bench.results.reading import ResultFile, questions_path_for
from orca_bench.results.summary import score_interval
from orca_bench.results.task_facts import tasks_of
from orca_bench.results.task_results import OTHER_ROWS, TaskResult
from orca_bench.stats.distributions import two_sided_quantile
from orca_bench.stats.estimates import wilson_interval
from orca_bench.stats.paired_tests import UNPAIRED_NORMAL_TEST, Difference, normal_difference
from orca_bench.suite import ALL_TASKS, TaskFacts

_REPORTED_REASON = "Of reported scores only the numbers are known: the comparison is not by question, and weaker."
_WITHOUT_QUESTIONS_REASON = (
    "The files of questions are not beside the results: the comparison is not by question, and weaker."
)


def compare_with_reported(
    result_file: ResultFile,
    reported_scores: ReportedScores,
    leaves_out_overlap: bool = False,
    checks_overlap: bool = True,
) -> Comparison:
    """A result against reported scores, corrected by Holm over its tasks; averages are left out.

    The standard error of a reported score is taken as that of right-or-wrong scores over the task's full number of questions,
    which is the most that scores between 0 and 1 can have. With `leaves_out_overlap`, questions of the result that overlap with
    its training records are left out; a result that does not say which is refused with `checks_overlap`, else the sentence says
    so. Raises UserError for a result of another suite than the leaderboard's.
    """
    result = result_file.result
    if not result.suite.comparable:
        raise UserError(
            f"measured on the {result.suite.name} suite, which no reported score is of", where=result_file.path
        )
    if leaves_out_overlap and checks_overlap:
        check_says_overlap([result_file])
    return reported_comparison(result_file.label, result, reported_scores, leaves_out_overlap)


def reported_comparison(
    label: str, result: Result, reported_scores: ReportedScores, leaves_out_overlap: bool = False
) -> Comparison:
    """The same of a result headed `label`, of the leaderboard's suite."""
    left_out: dict[str, int] | None = {} if leaves_out_overlap else None
    lines = [_compare_task(result, task, reported_scores.tasks.get(task.name), left_out) for task in ALL_TASKS]
    notes = [*_left_out_notes(label, result, left_out), *uncovered_notes(label, result)]
    notes += [
        Note(
            "reported: only the number is known, so the questions are not paired and the comparison is weaker; its standard "
            "error is taken as that of right-or-wrong scores over all its questions",
            "method",
        )
    ]
    protocols = None
    if result.protocol.name != "leaderboard":
        protocols = ("leaderboard", result.protocol.name)
        text = f"protocol {result.protocol.name}, reported: leaderboard; a difference mixes model and protocol"
        notes.append(Note(text, "method", (NotedNumber(label),)))
    comparison = Comparison(
        f"reported {reported_scores.name}",
        label,
        lines,
        notes,
        unpaired_reason=_REPORTED_REASON,
        protocols=protocols,
        left_out=left_out,
        uncovered_titles=uncovered_titles([line.name for line in lines if line.difference], result),
        overlap_text="" if leaves_out_overlap else overlap_sentences([(label, result)]),
    )
    return correct_together([comparison])[0]


def compare_results(
    base: ResultFile, other_files: Sequence[ResultFile], leaves_out_overlap: bool = False
) -> list[Comparison]:
    """Each of the others against the base: by question where both have their questions, else by their scores.

    All tests are corrected together by Holm. With `leaves_out_overlap`, questions that overlap with the training records of
    either are left out. Raises UserError where a file stands twice, where two results have nothing to compare, and where the
    questions that are to be left out are not there.
    """
    refuse_repeated_files(base, other_files)
    return correct_together([_compare_by_best_means(base, other, leaves_out_overlap) for other in other_files])


def compare_where_possible(base: ResultFile, other_files: Sequence[ResultFile]) -> list[Comparison]:
    """As `compare_results`, without those of the others that have nothing to compare with the base."""
    comparisons = []
    for other in other_files:
        try:
            refuse_repeated_files(base, [other])
            comparisons.append(_compare_by_best_means(base, other))
        except UserError:
            continue
    return correct_together(comparisons)


def compare_two_where_possible(base: ResultFile, other: ResultFile) -> Comparison | None:
    """One result against another, as `compare_results` compares them; None where they have nothing to compare."""
    return next(iter(compare_where_possible(base, [other])), None)


def _compare_by_best_means(base: ResultFile, other: ResultFile, leaves_out_overlap: bool = False) -> Comparison:
    """By question where both have their questions, else by scores, not corrected; UserError where nothing can be compared."""
    if base.questions_by_task and other.questions_by_task:
        return compare_pair(base, other, leaves_out_overlap)
    if leaves_out_overlap:
        missing_path = next(questions_path_for(file.path) for file in (base, other) if not file.questions_by_task)
        raise UserError(
            "which questions are left out of both results only their questions say, and these are not here",
            where=missing_path,
            hint="copy both files",
        )
    comparison = _compare_without_questions(base, other)
    if not any(line.difference for line in comparison.lines):
        reasons = "; ".join(f"{line.title}: {line.note}" for line in comparison.lines) or "no task is in both"
        raise UserError(f"nothing to compare with {base.path} ({reasons})", where=other.path)
    return comparison


def _compare_without_questions(base: ResultFile, other: ResultFile) -> Comparison:
    """A result against another of which only the scores are known, not corrected yet."""
    lines = []
    for task in tasks_of([base.result, other.result]):
        base_result, other_result = (file.result.tasks.get(task.name) for file in (base, other))
        if base_result is None or other_result is None:
            continue
        if reason := _why_no_difference(base, other, task):
            lines.append(ComparisonLine(task.name, task.title, task.metric, note=reason))
            continue
        stderr = math.hypot(
            _stderr_toward(base_result, other_result.value), _stderr_toward(other_result, base_result.value)
        )
        counts = [result.clusters or result.n for result in (base_result, other_result)]
        difference = normal_difference(
            other_result.value - base_result.value, stderr, UNPAIRED_NORMAL_TEST, other_result.n, min(counts)
        )
        lines.append(
            ComparisonLine(task.name, task.title, task.metric, base_result.value, other_result.value, difference)
        )
    notes = comparison_notes(base, other)
    notes += [
        Note(_missing_questions_text(file), numbers=(NotedNumber(file.label),))
        for file in (base, other)
        if file.path is not None and not file.questions_by_task
    ]
    return Comparison(
        base.label,
        other.label,
        lines + average_lines(lines),
        notes,
        unpaired_reason=_WITHOUT_QUESTIONS_REASON,
        protocols=protocol_names(base, other),
        overlap_text=overlap_sentences([(base.label, base.result), (other.label, other.result)]),
    )


def _leave_out(entry: TaskResult, task: TaskFacts, left_out: dict[str, int]) -> TaskResult | None:
    """The entry of a task without the questions that overlap with the training records, which `left_out` counts.

    None where there are no others.
    """
    if entry.overlap is None or not entry.overlap.questions:
        return entry
    left_out[task.name] = entry.overlap.questions
    without = entry.overlap.without
    if without is None:
        return None
    return entry.model_copy(
        update={
            "value": without.value,
            "stderr": without.stderr,
            "interval": without.interval,
            "n": entry.n - entry.overlap.questions,
            "clusters": None,
        }
    )


def _left_out_notes(label: str, result: Result, left_out: dict[str, int] | None) -> list[Note]:
    """How many questions of each number are left out, where some are."""
    return [
        Note(left_out_text(count, result.tasks[name].n), "remark", (NotedNumber(label, name),))
        for name, count in (left_out or {}).items()
    ]


def reported_difference(task: TaskFacts, reported_percent: float, task_result: TaskResult) -> Difference:
    """A measured score minus a reported one, fractions of 1: sqrt(SE₁² + SE₂²) is its standard error."""
    reported_score = reported_percent / 100
    return normal_difference(
        task_result.value - reported_score,
        math.hypot(reported_stderr(task, reported_percent), _stderr_toward(task_result, reported_score)),
        UNPAIRED_NORMAL_TEST,
        task_result.n,
        task_result.clusters or task_result.n,
    )


def _why_no_difference(base: ResultFile, other: ResultFile, task: TaskFacts) -> str:
    """Why the scores of a task in two results cannot be subtracted; empty where they can.

    A log of another program without questions does not tell its rows; then they are taken to be the task's.
    """
    row_hashes = [file.result.evaluation_row_hash(task) for file in (base, other)]
    is_unknown = None in row_hashes and (base.result.protocol.is_of_log or other.result.protocol.is_of_log)
    if row_hashes[0] != row_hashes[1] and not is_unknown:
        return "other rows"
    entries = [file.result.tasks[task.name] for file in (base, other)]
    if entries[0].metric != entries[1].metric:
        return f"{entries[0].metric} and {entries[1].metric}"
    return f"scores in {task.unit} are compared by question only" if task.unit else ""


def _missing_questions_text(file: ResultFile) -> str:
    if file.result.protocol.is_of_log:
        return f"the log {file.path} has no questions"
    return f"{questions_path_for(file.path)} is not there"


def _stderr_toward(task_result: TaskResult, other_score: float) -> float:
    """The standard error of a score that is compared with `other_score`.

    A score without spread has a standard error of 0, or none. Then it is taken from the side of the 95 % interval on which the
    other score lies, as Newcombe does (1998, Statistics in Medicine 17:873): else one right answer would be a sure one.
    """
    if task_result.stderr:
        return task_result.stderr
    low, high = score_interval(task_result)
    sides = [task_result.value - low] if other_score < task_result.value else [high - task_result.value]
    if other_score == task_result.value:
        sides = [task_result.value - low, high - task_result.value]
    return max(sides) / two_sided_quantile(None)


def reported_stderr(task: TaskFacts, reported_percent: float) -> float:
    """The standard error that a reported score is taken to have: that of right-or-wrong scores over all its questions.

    Where that is 0, a quarter of the 95 % interval's width; a fraction of 1.
    """
    reported_score = reported_percent / 100
    low, high = wilson_interval(reported_score, task.full_question_count)
    return math.sqrt(reported_score * (1 - reported_score) / task.full_question_count) or (high - low) / 4


def _compare_task(
    result: Result, task: TaskFacts, reported_percent: float | None, left_out: dict[str, int] | None
) -> ComparisonLine:
    """The line of a task; `reported_percent` is its reported score, `left_out` as in comparison.py."""
    task_result = result.tasks.get(task.name)
    if reported_percent is None or task_result is None:
        return ComparisonLine(task.name, task.title, task.metric, note="not in both")
    if task_result.row_status(task.evaluation_split) == OTHER_ROWS:
        return ComparisonLine(task.name, task.title, task.metric, note="other rows")
    if left_out is not None:
        task_result = _leave_out(task_result, task, left_out)
    if task_result is None:
        return ComparisonLine(task.name, task.title, task.metric, note=NO_OTHER_QUESTIONS)
    difference = reported_difference(task, reported_percent, task_result)
    return ComparisonLine(task.name, task.title, task.metric, reported_percent / 100, task_result.value, difference)
