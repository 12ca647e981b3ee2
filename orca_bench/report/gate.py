"""A result and its baselines in, a yes or no out: has this change made the model worse, and on which questions?

A task fails where its loss against the baseline is significant (paired, corrected over the tasks) and at least as large as the
rules' smallest loss, where it is below a floor, where more of its questions are in the training records than the rules allow
(gate_overlap.py), or where log-probabilities changed by more (gate_log_probabilities.py). What cannot be compared fails too: a
gate that passes results on other rows is worse than none (gate_comparability.py). Several baselines are runs of one recipe that
differ in their seed: then a loss must also exceed the spread over seeds (stats/seed_tests.py). The notes name what was not
examined.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from orca_bench.report.comparison import compare
from orca_bench.report.comparison_lines import ComparisonLine
from orca_bench.report.gate_comparability import (
    Obstacle,
    obstacles_to_comparison,
    refuse_repeated_files,
    unexamined_notes,
    why_not_compared,
)
from orca_bench.report.gate_log_probabilities import TaskLogProbabilities, change_text, compare_log_probabilities
from orca_bench.report.gate_lost_questions import LostQuestion, lost_questions_of
from orca_bench.report.gate_overlap import overlap_warnings, too_much_overlap
from orca_bench.report.gate_rules import GateRules
from orca_bench.report.grid import format_in_unit, format_p
from orca_bench.results.harness_summary import follows_from_questions, question_values
from orca_bench.results.reading import ResultFile
from orca_bench.results.task_facts import all_tasks_and_those_of, report_scale
from orca_bench.results.task_results import HarnessTaskResult
from orca_bench.stats.detectable_losses import detectable_loss, seed_detectable_loss
from orca_bench.stats.multiple_testing import correct_by_holm, levels_of_holm
from orca_bench.stats.numbers import estimate_numbers
from orca_bench.stats.paired_tests import Difference
from orca_bench.stats.seed_tests import SeedTest, seed_tests
from orca_bench.suite import TaskFacts

#: What is found of a task. A loss that is `tolerated` is smaller than the rules' smallest loss.
Outcome = Literal[
    "no loss shown",
    "better",
    "worse",
    "tolerated",
    "below the floor",
    "above the floor",
    "not comparable",
    "missing",
    "overlap",
    "changed",
]
#: The outcomes with which a task fails.
FAILURES: tuple[Outcome, ...] = ("worse", "below the floor", "not comparable", "missing", "overlap", "changed")


@dataclass(frozen=True)
class TaskComparison:
    """A task's score in the baselines (their mean) and now; all but `p` are fractions of 1.

    `p` is that of no difference, corrected over the tasks. `stderr` is the standard error of the difference: by the questions,
    or over seeds where that is larger. Numbers with a unit are carried as hundredths of it (`report_scale`).
    `is_within_seeds` says that the questions alone would show the loss, but that
    these seeds differ by as much. `detectable_loss` is the smallest true loss that would have been found four times in five.
    """

    baseline_score: float
    result_score: float
    p: float
    stderr: float | None
    is_within_seeds: bool
    detectable_loss: float
    higher_is_better: bool = True
    unit: str = ""

    @property
    def improvement(self) -> float:
        """The difference, positive where the result is better."""
        return self.difference if self.higher_is_better else -self.difference + 0.0

    @property
    def difference(self) -> float:
        """The result's score minus the baseline's; without a unit rounded to hundredths of a point, as it is shown."""
        difference = self.result_score - self.baseline_score
        return difference if self.unit else round(difference, 4) + 0.0  # and no minus zero

    @property
    def can_show_loss(self) -> bool:
        """Whether any loss would have been found: the score can fall by so much."""
        is_bounded = self.higher_is_better and not self.unit
        return self.detectable_loss <= (self.baseline_score if is_bounded else sys.float_info.max)


@dataclass(frozen=True)
class TaskVerdict:
    """Whether one task passes, what was found (`outcome`), and a sentence that says why.

    `floor` is that of the rules, in points. `comparison` is None where the task was not compared, `result_score`, a fraction
    of 1, where the result has no such task.
    """

    name: str
    title: str
    outcome: Outcome
    reason: str
    result_score: float | None = None
    floor: float | None = None
    comparison: TaskComparison | None = None
    lost_questions: list[LostQuestion] = field(default_factory=list)
    unit: str = ""

    @property
    def passed(self) -> bool:
        """Whether the outcome is none of those that fail."""
        return self.outcome not in FAILURES


@dataclass(frozen=True)
class GateReport:
    """The verdict of the gate.

    `obstacles` forbid comparing the results, `warnings` name questions that are in training records, by title of a task or name
    of a file, and `notes` say what was not examined. `log_probabilities` are those of each task where the rules look at them,
    also of results with obstacles.
    """

    baseline: str
    baseline_count: int
    rules: GateRules
    verdicts: list[TaskVerdict]
    obstacles: list[Obstacle]
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    log_probabilities: list[TaskLogProbabilities] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether at least one task was examined, and no task fails."""
        return bool(self.verdicts) and not self.obstacles and all(verdict.passed for verdict in self.verdicts)


def check(result: ResultFile, baselines: Sequence[ResultFile], rules: GateRules) -> GateReport:
    """Check a result against its baselines; lost questions are named in comparison with the first of them.

    Raises UserError where one file is given twice, where two results have nothing in common, and where log-probabilities are to
    be compared with several baselines.
    """
    refuse_repeated_files(result, baselines)
    label = str(baselines[0].path) if len(baselines) == 1 else f"{len(baselines)} baselines"
    baseline_tasks = {name for baseline in baselines for name in baseline.questions_by_task}
    compared_tasks = baseline_tasks if rules.tasks is None else set(rules.tasks)
    examined_tasks = [
        task
        for task in all_tasks_and_those_of(file.result for file in (result, *baselines))
        if task.name in compared_tasks or task.name in rules.floors
    ]
    obstacles = obstacles_to_comparison(result, baselines)
    if not examined_tasks:
        obstacles.append(Obstacle("no task is held: the baseline has none"))
    log_probabilities = compare_log_probabilities(result, baselines, compared_tasks, rules)
    report = functools.partial(GateReport, label, len(baselines), rules, log_probabilities=log_probabilities)
    if obstacles:
        return report([], obstacles)
    comparisons = _compare_tasks(result, baselines, compared_tasks, rules)
    change_by_task = {change.name: change_text(change) for change in log_probabilities if change.changed_questions}
    verdicts = [
        _verdict(
            task,
            result,
            baselines,
            rules,
            comparisons.get(task.name),
            task.name in compared_tasks,
            change_by_task.get(task.name),
        )
        for task in examined_tasks
    ]
    warnings = overlap_warnings(result, baselines, examined_tasks)
    return report(verdicts, [], unexamined_notes(result, baselines, examined_tasks), warnings)


@dataclass(frozen=True)
class _TaskLine:
    """A task's score in one baseline and in the result, and their difference."""

    baseline_score: float
    result_score: float
    difference: Difference
    unit: str = ""
    higher_is_better: bool = True


def _compare_tasks(
    result: ResultFile, baselines: Sequence[ResultFile], task_names: set[str], rules: GateRules
) -> dict[str, TaskComparison]:
    """By task, the comparison of those of `task_names` that all baselines have on the questions of the result."""
    lines_by_task = _lines_by_task(result, baselines)
    seed_tests_by_task: dict[str, SeedTest] = {}
    if len(baselines) > 1:  # tasks in percent share a variance over seeds; a task with a unit has its own
        unit_tasks = [name for name, task_lines in lines_by_task.items() if task_lines[0].unit]
        for names in ([name for name in lines_by_task if name not in unit_tasks], *([name] for name in unit_tasks)):
            seed_tests_by_task |= _seed_tests(result, {name: lines_by_task[name] for name in names})
    baseline_mean_by_task = {
        name: sum(line.baseline_score for line in task_lines) / len(task_lines)
        for name, task_lines in lines_by_task.items()
    }
    compared_tasks = [name for name in lines_by_task if name in task_names]
    difference_by_task = {
        name: _closest_line(lines_by_task[name], baseline_mean_by_task[name]).difference for name in compared_tasks
    }
    question_p_by_task = dict(
        zip(compared_tasks, correct_by_holm([difference_by_task[name].p for name in compared_tasks]), strict=True)
    )
    uncorrected_ps = [
        max(difference_by_task[name].p, seed_tests_by_task[name].uncorrected_p if seed_tests_by_task else 0.0)
        for name in compared_tasks
    ]
    corrected_ps = correct_by_holm(uncorrected_ps)
    levels = levels_of_holm(corrected_ps, rules.level)
    return {
        name: _task_comparison(
            baseline_mean_by_task[name],
            lines_by_task[name][0],
            corrected_p,
            question_p_by_task[name],
            difference_by_task[name],
            seed_tests_by_task.get(name),
            rules,
            level,
        )
        for name, corrected_p, level in zip(compared_tasks, corrected_ps, levels, strict=True)
    }


def _seed_tests(result: ResultFile, lines_by_task: Mapping[str, Sequence[_TaskLine]]) -> dict[str, SeedTest]:
    """By task, the test of the result against several baselines."""
    score_steps = [1 / len(result.questions_by_task[name].questions_by_key) for name in lines_by_task]
    if not lines_by_task:
        return {}
    baseline_scores = [[line.baseline_score for line in task_lines] for task_lines in lines_by_task.values()]
    result_scores = [task_lines[0].result_score for task_lines in lines_by_task.values()]
    return dict(zip(lines_by_task, seed_tests(baseline_scores, result_scores, score_steps), strict=True))


def _task_comparison(
    baseline_mean: float,
    line: _TaskLine,
    corrected_p: float,
    question_p: float,
    difference: Difference,
    seed_test: SeedTest | None,
    rules: GateRules,
    level: float,
) -> TaskComparison:
    """One task's comparison; `question_p` is the corrected p of the questions alone, `level` that of the task's test by Holm."""
    result_score = line.result_score
    loss, stderr, p = detectable_loss(difference, level), difference.error, corrected_p
    if seed_test is not None:
        loss = loss.of_both(seed_detectable_loss(seed_test, level, rules.level))
        stderr = max(stderr, seed_test.prediction_stderr)
        p = max(corrected_p, seed_test.own_variance_p)
    is_worse = result_score < baseline_mean if line.higher_is_better else result_score > baseline_mean
    is_within_seeds = is_worse and question_p < rules.level <= p
    loss = loss.at_least(rules.smallest_loss / 100)
    return TaskComparison(
        baseline_mean,
        result_score,
        p,
        stderr,
        is_within_seeds,
        loss.smallest,
        line.higher_is_better,
        line.unit,
    )


def _lines_by_task(result: ResultFile, baselines: Sequence[ResultFile]) -> dict[str, list[_TaskLine]]:
    """By task, a line for each baseline; tasks that one of them cannot be compared in are left out."""
    lines_by_task: dict[str, list[_TaskLine]] = {}
    for comparison in (compare(baseline, [result])[0] for baseline in baselines):
        for line in comparison.lines:
            if line.name in result.questions_by_task and (task_line := _as_task_line(line)) is not None:
                lines_by_task.setdefault(line.name, []).append(task_line)
    return {name: task_lines for name, task_lines in lines_by_task.items() if len(task_lines) == len(baselines)}


def _as_task_line(line: ComparisonLine) -> _TaskLine | None:
    if line.base_score is None or line.other_score is None or line.difference is None:
        return None
    return _TaskLine(line.base_score, line.other_score, line.difference, line.unit, line.higher_is_better)


def _closest_line(lines: Sequence[_TaskLine], mean: float) -> _TaskLine:
    """Of several baselines, the questions are compared with the one whose score is closest to the mean."""
    return min(lines, key=lambda line: abs(line.baseline_score - mean))


def _verdict(
    task: TaskFacts,
    result: ResultFile,
    baselines: Sequence[ResultFile],
    rules: GateRules,
    comparison: TaskComparison | None,
    is_compared: bool,
    change_reason: str | None,
) -> TaskVerdict:
    """The verdict on one task; a task that is not compared only has to reach its floor. `change_reason` is that of the rule."""
    if task.name not in result.questions_by_task:
        return TaskVerdict(task.name, task.title, "missing", "not in the result")
    result_score = _score_of_questions(task, result)
    floor = rules.floors.get(task.name)
    limit_words = ("below", "floor") if task.higher_is_better else ("above", "ceiling")
    if floor is not None and (100 * result_score < floor if task.higher_is_better else 100 * result_score > floor):
        outcome, reason = _below_floor(100 * result_score, floor, limit_words)
    elif not is_compared:
        outcome, reason = "above the floor", f"not {limit_words[0]} the {limit_words[1]} of {floor:g}; not compared"
    else:
        obstacle_text = why_not_compared(task, result, baselines)
        if obstacle_text is None and comparison is not None:
            outcome, reason = _judge(comparison, rules)
        else:
            outcome, reason = "not comparable", f"not comparable: {obstacle_text or _why_no_difference(task, result)}"
    if outcome not in FAILURES and (overlap_reason := too_much_overlap(task.name, result, rules)):
        outcome, reason = "overlap", overlap_reason
    if outcome not in FAILURES and change_reason:
        outcome, reason = "changed", change_reason
    lost_questions = lost_questions_of(result, baselines[0], task.name) if is_compared else []
    return TaskVerdict(
        task.name, task.title, outcome, reason, result_score, floor, comparison, lost_questions, task.unit
    )


def _why_no_difference(task: TaskFacts, result: ResultFile) -> str:
    """Why a task that both sides have was not compared, where nothing else says it."""
    entry = result.result.tasks[task.name]
    if isinstance(entry, HarnessTaskResult) and not follows_from_questions(entry.harness.aggregation):
        return f"{entry.metric} is no mean of questions, and its error is not known"
    return "other rows or questions"


def _score_of_questions(task: TaskFacts, result: ResultFile) -> float:
    """A task's score from its questions, as reports carry it; that of the entry where it does not follow from them."""
    questions, entry = result.questions_by_task[task.name], result.result.tasks[task.name]
    if not isinstance(entry, HarnessTaskResult):
        return questions.estimate(task.is_mean_of_parts).value
    if not follows_from_questions(entry.harness.aggregation):
        return report_scale(task) * entry.value
    all_questions = list(questions.questions_by_key.values())
    parts = [question.task for question in all_questions] if task.is_mean_of_parts else None
    return report_scale(task) * estimate_numbers(question_values(entry, all_questions), parts).value


def _below_floor(points: float, floor: float, limit_words: tuple[str, str]) -> tuple[Outcome, str]:
    """A score that rounds to its floor is shown with as many digits as tell them apart."""
    digits = next((digits for digits in range(2, 8) if round(points, digits) != floor), 8)
    return "below the floor", f"{points:.{digits}f} is {limit_words[0]} the {limit_words[1]} of {floor:g}"


def _judge(comparison: TaskComparison, rules: GateRules) -> tuple[Outcome, str]:
    """What a comparison shows, and the sentence."""
    points, p_text = 100 * comparison.improvement, format_p(comparison.p, rules.level)
    unit_text, size_text = comparison.unit or "points", format_in_unit(abs(comparison.difference), comparison.unit)
    if comparison.p >= rules.level or points == 0:
        within_seeds_text = ", within what these seeds differ by" if comparison.is_within_seeds else ""
        difference_text = format_in_unit(comparison.difference, comparison.unit, signed=True)
        return "no loss shown", f"no loss shown ({difference_text} {unit_text}, p {p_text}{within_seeds_text})"
    if points > 0:
        return "better", f"better by {size_text} {unit_text} (p {p_text})"
    loss_text = f"worse by {size_text} {unit_text} (p {p_text})"
    if (-points if comparison.unit else round(-points, 2)) >= rules.smallest_loss:
        return "worse", loss_text
    return "tolerated", f"{loss_text}, less than the smallest loss of {rules.smallest_loss:g}"
