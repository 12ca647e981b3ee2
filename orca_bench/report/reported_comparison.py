"""A result and reported scores in, unpaired differences out.

Of a reported score only the number is known, not which questions were right: there are no pairs, and the comparison is weaker
than that of two results. It says so in its notes. Its own module because it shares only its form with the paired comparison.
"""

from __future__ import annotations

import math

from orca_bench.errors import UserError
from orca_bench.report.comparison import Comparison, ComparisonLine, correct_together
from orca_bench.report.notes import Note, NotedNumber
from orca_bench.report.reported_scores import ReportedScores
from orca_bench.results.models import OTHER_ROWS, Result, TaskResult
from orca_bench.results.reading import ResultFile
from orca_bench.stats.estimates import normal_interval, wilson_interval
from orca_bench.stats.paired_tests import Difference, normal_difference
from orca_bench.suite import ALL_TASKS, TaskFacts

#: The name of the test, as `Difference.test` has it.
UNPAIRED_TEST = "unpaired z"


def compare_with_reported(result_file: ResultFile, reported_scores: ReportedScores) -> Comparison:
    """A result against reported scores, corrected by Holm over its tasks; averages are left out.

    The standard error of a reported score is taken as that of right-or-wrong scores over the task's full number of questions,
    which is the most that scores between 0 and 1 can have. Raises UserError for a result of another suite than the leaderboard's.
    """
    result = result_file.result
    if not result.suite.comparable:
        raise UserError(
            f"measured on the {result.suite.name} suite, which no reported score is of", where=result_file.path
        )
    lines = [_compare_task(result, task, reported_scores.tasks.get(task.name)) for task in ALL_TASKS]
    notes = [
        Note(
            "reported: only the number is known, so the questions are not paired and the comparison is weaker; its standard "
            "error is taken as that of right-or-wrong scores over all its questions"
        )
    ]
    protocols = None
    if result.protocol.name != "leaderboard":
        protocols = ("leaderboard", result.protocol.name)
        text = f"protocol {result.protocol.name}, reported: leaderboard; a difference mixes model and protocol"
        notes.append(Note(text, "warning", (NotedNumber(result_file.label),)))
    comparison = Comparison(
        f"reported {reported_scores.name}", result_file.label, lines, notes, is_paired=False, protocols=protocols
    )
    return correct_together([comparison])[0]


def reported_difference(task: TaskFacts, reported_percent: float, task_result: TaskResult) -> Difference:
    """A measured score minus a reported one, fractions of 1: sqrt(SE₁² + SE₂²) is its standard error."""
    reported_score = reported_percent / 100
    interval = score_interval(task_result)
    # A standard error of 0 is replaced by a quarter of the 95 % interval's width.
    low, high = wilson_interval(reported_score, task.full_question_count)
    reported_stderr = math.sqrt(reported_score * (1 - reported_score) / task.full_question_count) or (high - low) / 4
    measured_stderr = task_result.stderr or (interval[1] - interval[0]) / 4
    return normal_difference(
        task_result.value - reported_score,
        math.hypot(reported_stderr, measured_stderr),
        UNPAIRED_TEST,
        task_result.n,
        task_result.clusters or task_result.n,
    )


def score_interval(task_result: TaskResult) -> tuple[float, float]:
    """The 95 % interval of a score, fractions of 1; computed from its standard error where an earlier version wrote none."""
    if task_result.interval is not None:
        return task_result.interval
    if task_result.stderr:
        return normal_interval(task_result.value, task_result.stderr, 0.0)
    return wilson_interval(task_result.value, task_result.clusters or task_result.n)


def _compare_task(result: Result, task: TaskFacts, reported_percent: float | None) -> ComparisonLine:
    """The line of a task; `reported_percent` is its reported score."""
    task_result = result.tasks.get(task.name)
    if reported_percent is None or task_result is None:
        return ComparisonLine(task.name, task.title, task.metric, note="not in both")
    if task_result.row_status(task.evaluation_split) == OTHER_ROWS:
        return ComparisonLine(task.name, task.title, task.metric, note="other rows")
    difference = reported_difference(task, reported_percent, task_result)
    return ComparisonLine(task.name, task.title, task.metric, reported_percent / 100, task_result.value, difference)
