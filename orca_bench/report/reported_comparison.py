"""A result and reported scores in, unpaired differences out.

Of a reported score only the number is known, not which questions were right: there are no pairs, and the comparison is weaker
than that of two results. It says so in its notes. Its own module because it shares only its form with the paired comparison.
"""

from __future__ import annotations

import math

from orca_bench.errors import UserError
from orca_bench.report.comparison import Comparison, ComparisonLine, correct_together
from orca_bench.report.reported_scores import ReportedScores
from orca_bench.results.models import OTHER_ROWS
from orca_bench.results.reading import ResultFile
from orca_bench.stats.estimates import MeanScore, wilson_interval
from orca_bench.stats.paired_tests import normal_difference
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
    lines = [_compare_task(result_file, task, reported_scores.tasks.get(task.name)) for task in ALL_TASKS]
    notes = [
        "reported: only the number is known, so the questions are not paired and the comparison is weaker; its standard error "
        "is taken as that of right-or-wrong scores over all its questions"
    ]
    if result.protocol.name != "leaderboard":
        notes.append(
            f"{result_file.label}: protocol {result.protocol.name}, reported: leaderboard; a difference mixes model and protocol"
        )
    return correct_together([Comparison(f"reported {reported_scores.name}", result_file.label, lines, notes)])[0]


def _compare_task(result_file: ResultFile, task: TaskFacts, reported_score: float | None) -> ComparisonLine:
    """The line of a task; `reported_score` is its reported score in percent."""
    task_result, questions = result_file.result.tasks.get(task.name), result_file.questions_by_task.get(task.name)
    if reported_score is None or task_result is None or questions is None:
        return ComparisonLine(task.name, task.title, task.metric, note="not in both")
    if task_result.row_status(task.split) == OTHER_ROWS:
        return ComparisonLine(task.name, task.title, task.metric, note="other rows")
    return _compare_scores(task, reported_score / 100, questions.estimate(task.subject_column is not None))


def _compare_scores(task: TaskFacts, reported_score: float, estimate: MeanScore) -> ComparisonLine:
    """The difference of two scores that are not paired, fractions of 1: sqrt(SE₁² + SE₂²) is its standard error."""
    # A standard error of 0 is replaced by a quarter of the 95 % interval's width.
    n = task.full_size
    low, high = wilson_interval(reported_score, n)
    reported_stderr = math.sqrt(reported_score * (1 - reported_score) / n) or (high - low) / 4
    measured_stderr = estimate.stderr or (estimate.interval_high - estimate.interval_low) / 4
    combined_stderr, value = math.hypot(reported_stderr, measured_stderr), estimate.value - reported_score
    difference = normal_difference(
        value, combined_stderr, UNPAIRED_TEST, estimate.question_count, estimate.cluster_count
    )
    return ComparisonLine(task.name, task.title, task.metric, reported_score, estimate.value, difference)
