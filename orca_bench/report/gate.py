"""A result and its baselines in, a yes or no out: has this change made the model worse, and on which questions?

A task fails where its loss against the baseline is significant (paired, corrected over the tasks) and at least as large as the
rules' smallest loss, or where it is below a floor. What cannot be compared fails too: a gate that passes results on other rows
is worse than none (gate_comparability.py). Several baselines are runs of one recipe that differ in their seed: then a loss must
also exceed the spread over seeds (stats/seed_tests.py). The notes name what was not examined.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from orca_bench.report.comparison import ComparisonLine, compare
from orca_bench.report.gate_comparability import (
    reasons_against_comparison,
    refuse_repeated_files,
    unexamined_notes,
    why_not_compared,
)
from orca_bench.report.gate_rules import GateRules
from orca_bench.report.grid import format_p
from orca_bench.results.models import Question
from orca_bench.results.reading import ResultFile
from orca_bench.stats.multiple_testing import correct_by_holm
from orca_bench.stats.paired_tests import Difference
from orca_bench.stats.seed_tests import SeedTest, seed_tests
from orca_bench.suite import ALL_TASKS, TaskFacts


@dataclass(frozen=True)
class LostQuestion:
    """A question whose score fell, as the baseline and as the result have it."""

    baseline_question: Question
    result_question: Question


@dataclass(frozen=True)
class TaskVerdict:
    """Whether one task passes, and why; the scores are fractions of 1, `p` is the corrected p.

    `baseline_score` and `p` are None where the task was not compared, `result_score` is None where the result has no such task.
    """

    name: str
    title: str
    passed: bool
    reason: str
    baseline_score: float | None = None
    result_score: float | None = None
    p: float | None = None
    lost_questions: list[LostQuestion] = field(default_factory=list)


@dataclass(frozen=True)
class GateReport:
    """The verdict of the gate; `reasons` say why the results cannot be compared, `notes` what was not examined."""

    result: str
    baseline: str
    verdicts: list[TaskVerdict]
    reasons: list[str]
    notes: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether at least one task was examined, and no task fails."""
        return bool(self.verdicts) and not self.reasons and all(verdict.passed for verdict in self.verdicts)


def check(result: ResultFile, baselines: Sequence[ResultFile], rules: GateRules) -> GateReport:
    """Check a result against its baselines; lost questions are named in comparison with the first of them.

    Raises UserError where one file is given twice, and where two results have nothing in common.
    """
    refuse_repeated_files(result, baselines)
    label = str(baselines[0].path) if len(baselines) == 1 else f"{len(baselines)} baselines"
    baseline_tasks = {name for baseline in baselines for name in baseline.questions_by_task}
    compared_tasks = baseline_tasks if rules.tasks is None else set(rules.tasks)
    examined_tasks = [task for task in ALL_TASKS if task.name in compared_tasks or task.name in rules.floors]
    reasons = reasons_against_comparison(result, baselines)
    if not examined_tasks:
        reasons.append("no task is held: the baseline has none")
    if reasons:
        return GateReport(str(result.path), label, [], reasons)
    comparisons = _compare_tasks(result, baselines, compared_tasks)
    verdicts = [
        _verdict(task, result, baselines, rules, comparisons.get(task.name), task.name in compared_tasks)
        for task in examined_tasks
    ]
    return GateReport(str(result.path), label, verdicts, [], unexamined_notes(result, baselines, examined_tasks))


@dataclass(frozen=True)
class _TaskComparison:
    """A task's score in the baselines (their mean) and now, fractions of 1, and the corrected p of no difference."""

    baseline_score: float
    result_score: float
    p: float


@dataclass(frozen=True)
class _TaskLine:
    """A task's score in one baseline and in the result, and their difference."""

    baseline_score: float
    result_score: float
    difference: Difference


def _compare_tasks(result: ResultFile, baselines: Sequence[ResultFile], names: set[str]) -> dict[str, _TaskComparison]:
    """By task, the comparison of those of `names` that all baselines have on the questions of the result."""
    lines = _lines_by_task(result, baselines)
    baseline_scores = {name: [line.baseline_score for line in task_lines] for name, task_lines in lines.items()}
    result_scores = {name: task_lines[0].result_score for name, task_lines in lines.items()}
    seed_tests_by_task = {name: SeedTest(0.0, 0.0) for name in lines}
    if len(baselines) > 1:
        score_steps = [1 / len(result.questions_by_task[name].questions_by_key) for name in lines]
        tests = seed_tests(list(baseline_scores.values()), list(result_scores.values()), score_steps)
        seed_tests_by_task = dict(zip(lines, tests, strict=True))
    baseline_means = {name: sum(scores) / len(scores) for name, scores in baseline_scores.items()}
    compared_tasks = [name for name in lines if name in names]
    ps = [
        max(seed_tests_by_task[name].uncorrected_p, _closest_line(lines[name], baseline_means[name]).difference.p)
        for name in compared_tasks
    ]
    corrected_ps = dict(zip(compared_tasks, correct_by_holm(ps), strict=True))
    return {
        name: _TaskComparison(
            baseline_means[name], result_scores[name], max(corrected_ps[name], seed_tests_by_task[name].own_variance_p)
        )
        for name in compared_tasks
    }


def _lines_by_task(result: ResultFile, baselines: Sequence[ResultFile]) -> dict[str, list[_TaskLine]]:
    """By task, a line for each baseline; tasks that one of them cannot be compared in are left out."""
    lines: dict[str, list[_TaskLine]] = {}
    for comparison in (compare(baseline, [result])[0] for baseline in baselines):
        for line in comparison.lines:
            if line.name in result.questions_by_task and (task_line := _as_task_line(line)) is not None:
                lines.setdefault(line.name, []).append(task_line)
    return {name: task_lines for name, task_lines in lines.items() if len(task_lines) == len(baselines)}


def _as_task_line(line: ComparisonLine) -> _TaskLine | None:
    if line.base_score is None or line.other_score is None or line.difference is None:
        return None
    return _TaskLine(line.base_score, line.other_score, line.difference)


def _closest_line(lines: Sequence[_TaskLine], mean: float) -> _TaskLine:
    """Of several baselines, the questions are compared with the one whose score is closest to the mean."""
    return min(lines, key=lambda line: abs(line.baseline_score - mean))


def _verdict(
    task: TaskFacts,
    result: ResultFile,
    baselines: Sequence[ResultFile],
    rules: GateRules,
    comparison: _TaskComparison | None,
    is_compared: bool,
) -> TaskVerdict:
    """The verdict on one task; a task that is not compared only has to reach its floor."""
    if task.name not in result.questions_by_task:
        return TaskVerdict(task.name, task.title, False, "not in the result")
    result_score = result.questions_by_task[task.name].estimate(task.subject_column is not None).value
    passed, reason = _judge(task, result, baselines, rules, comparison, is_compared, result_score)
    baseline_score, p = (comparison.baseline_score, comparison.p) if comparison else (None, None)
    lost_questions = _lost_questions(result, baselines[0], task.name) if is_compared else []
    return TaskVerdict(task.name, task.title, passed, reason, baseline_score, result_score, p, lost_questions)


def _judge(
    task: TaskFacts,
    result: ResultFile,
    baselines: Sequence[ResultFile],
    rules: GateRules,
    comparison: _TaskComparison | None,
    is_compared: bool,
    result_score: float,
) -> tuple[bool, str]:
    """(whether a task passes, why)."""
    floor = rules.floors.get(task.name)
    if floor is not None and 100 * result_score < floor:
        return False, f"{100 * result_score:.2f} is below the floor of {floor:g}"
    if not is_compared:
        return True, f"not below the floor of {floor:g}; not compared"
    reason = why_not_compared(task, result, baselines)
    if reason is None and comparison is None:
        reason = "other rows or questions"
    if reason is not None or comparison is None:
        return False, f"not comparable: {reason}"
    loss_points = round(100 * (comparison.baseline_score - comparison.result_score), 2) + 0.0  # and no minus zero
    p, is_significant = format_p(comparison.p), comparison.p < rules.level
    if loss_points > 0 and is_significant:
        if loss_points >= rules.smallest_loss:
            return False, f"worse by {loss_points:.2f} points (p {p})"
        return (
            True,
            f"worse by {loss_points:.2f} points (p {p}), less than the smallest loss of {rules.smallest_loss:g}",
        )
    if loss_points < 0 and is_significant:
        return True, f"better by {-loss_points:.2f} points (p {p})"
    return True, f"no loss shown ({0.0 - loss_points:+.2f} points, p {p})"


def _lost_questions(result: ResultFile, baseline: ResultFile, name: str) -> list[LostQuestion]:
    baseline_questions = baseline.questions_by_task[name].questions_by_key if name in baseline.questions_by_task else {}
    result_questions = result.questions_by_task[name].questions_by_key
    return [
        LostQuestion(baseline_questions[question_key], result_questions[question_key])
        for question_key in baseline_questions
        if question_key in result_questions
        and result_questions[question_key].score < baseline_questions[question_key].score
    ]
