"""Results in, a table of scores out: reported beside measured, difference, standard error, n, and the means.

A difference is there only where the two numbers may be compared (score_table_notes.py says why not), and it has its error. A
mean is one over tasks that there are. Numbers are percent, as on the leaderboard. Reads results only, no models. Its own module
because the output formats of the table (score_table_formats.py) change while its numbers do not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from orca_bench.report.notes import Note, NotedNumber, merge_notes
from orca_bench.report.reported_comparison import reported_comparison, reported_stderr
from orca_bench.report.reported_scores import ReportedScores
from orca_bench.report.score_table_notes import reported_notes, result_notes
from orca_bench.results.harness_summary import entry_of_metric
from orca_bench.results.models import Result
from orca_bench.results.summary import mean_of_tasks
from orca_bench.results.task_facts import (
    all_tasks_and_those_of,
    display_factor,
    facts_of,
    is_suite_task,
    suite_title,
    tasks_of,
)
from orca_bench.results.task_results import Average, HarnessTaskResult, TaskResult
from orca_bench.stats.distributions import two_sided_quantile
from orca_bench.suite import ALL_TASKS, AVERAGE_TITLE_BY_NAME, TASK_BY_NAME, TASK_NAMES_BY_AVERAGE, TaskFacts

#: The name of the mean over the tasks that all results have, where these are not those of a reported average.
COMMON_MEAN = "common tasks"


@dataclass(frozen=True)
class MeasuredScore:
    """One measured number, percent or in its task's unit: standard error, n, difference to the reported score, 95 % interval.

    None: unknown.

    `difference_stderr` is the difference's standard error; `is_difference_shown` says whether it is significant: of a task
    corrected over the result's tasks, of a mean alone.
    """

    value: float | None = None
    stderr: float | None = None
    n: int | None = None
    difference: float | None = None
    interval: tuple[float, float] | None = None
    difference_stderr: float | None = None
    is_difference_shown: bool | None = None


@dataclass(frozen=True)
class TableLine:
    """One task or mean: `reported` in percent, and a measured score for each result."""

    name: str
    title: str
    shots: int | None
    metric: str
    reported: float | None
    scores: list[MeasuredScore]

    @property
    def is_measured(self) -> bool:
        """Whether any result has a score here."""
        return any(score.value is not None for score in self.scores)


@dataclass(frozen=True)
class ScoreTable:
    """A heading for each result, a line for each task and mean, and notes on what may not be compared.

    `results` has each result by its heading, for formats that say how a number was measured; `conclusion` says what the results
    show (conclusions.py).
    """

    title: str
    headings: list[str]
    lines: list[TableLine]
    notes: list[Note] = field(default_factory=list)
    results: dict[str, Result] = field(default_factory=dict)
    conclusion: str = ""


@dataclass(frozen=True)
class _ReportedDifference:
    """A difference to a reported score with its standard error, fractions of 1."""

    value: float
    stderr: float
    is_shown: bool


def build_score_table(
    results: Sequence[tuple[str, Result]],
    reported_scores: ReportedScores | None,
    conclusion: str = "",
    protocol_title: str = "",
) -> ScoreTable:
    """The table of results, each with its heading, beside the reported scores, where there are any.

    `protocol_title` names the protocol in the title where its name alone does not tell it from that of another table.
    """
    if results and not any(
        is_suite_task(name) for _, result in results for name in (*result.tasks, *(result.order or ()))
    ):
        reported_scores = None  # which are of the suite's tasks
    reported_percent_by_task = {} if reported_scores is None else reported_scores.tasks
    reported_averages = dict({} if reported_scores is None else reported_scores.averages)
    differences = [_task_differences(result, reported_scores) for _, result in results]
    lines = []
    for task in all_tasks_and_those_of(result for _, result in results):
        scores = [
            _task_score(result, task.name, by_task.get(task.name))
            for (_, result), by_task in zip(results, differences, strict=True)
        ]
        metric = _task_metric(results, task)
        lines.append(
            TableLine(
                task.name,
                task.title,
                _shots(task, [result for _, result in results]),
                metric,
                reported_percent_by_task.get(task.name),
                scores,
            )
        )
        lines += _further_metric_lines(task, [result for _, result in results])
    title_and_tasks_by_mean = {
        name: (title, TASK_NAMES_BY_AVERAGE[name]) for name, title in AVERAGE_TITLE_BY_NAME.items()
    }
    common_names = common_task_names([result for _, result in results])
    if common_names:
        title_and_tasks_by_mean[COMMON_MEAN] = (f"Mean of {len(common_names)} tasks", common_names)
        if all(name in reported_percent_by_task for name in common_names):
            reported_averages[COMMON_MEAN] = sum(reported_percent_by_task[name] for name in common_names) / len(
                common_names
            )
    for name, (title, task_names) in title_and_tasks_by_mean.items():
        reported_average = reported_averages.get(name)
        scores = [
            _mean_score(result, name, task_names, reported_average, reported_percent_by_task) for _, result in results
        ]
        lines.append(TableLine(name, title, None, "mean", reported_average, scores))
    headings = [label for label, _ in results]
    notes = _unit_notes(results)
    notes += [note for label, result in results for note in result_notes(label, result, reported_scores is not None)]
    if reported_scores is not None:
        notes = reported_notes(reported_scores, any(result.suite.comparable for _, result in results)) + notes
    title = _table_title(results, reported_scores, protocol_title)
    return ScoreTable(title, headings, lines, merge_notes(notes, headings), dict(results), conclusion)


def _unit_notes(results: Sequence[tuple[str, Result]]) -> list[Note]:
    """A warning on each task of which the results have numbers in several units."""
    notes = []
    for task in tasks_of(result for _, result in results):
        units = dict.fromkeys(facts_of(result, task.name).unit for _, result in results if task.name in result.tasks)
        if len(units) > 1:
            text = f"in different units: {', '.join(unit or 'percent' for unit in units)}"
            numbers = tuple(NotedNumber(label, task.name) for label, result in results if task.name in result.tasks)
            notes.append(Note(text, "warning", numbers))
    return notes


def _table_title(
    results: Sequence[tuple[str, Result]], reported_scores: ReportedScores | None, protocol_title: str
) -> str:
    suites = list(dict.fromkeys(suite_title(result) for _, result in results))
    models = list(dict.fromkeys(result.model.name for _, result in results))
    protocols = (
        [protocol_title]
        if protocol_title and results
        else list(dict.fromkeys(result.protocol.name for _, result in results))
    )
    # Where the headings do not name the one model, the title does.
    model_text = f"{models[0]}, " if len(models) == 1 and models[0] not in results[0][0] else ""
    suite_text = ", ".join(suites) or ("" if reported_scores is None else reported_scores.suite)
    protocol_text = f", protocol {protocols[0]}" if len(protocols) == 1 else ""
    reported_text = "" if reported_scores is None else f"; reported: {reported_scores.name}"
    has_units = any(task.unit for task in tasks_of(result for _, result in results))
    unit_text = "percent, or the metric's own unit" if has_units else "percent"
    return f"{model_text}{suite_text}{protocol_text}: {unit_text}{reported_text}"


def _shots(task: TaskFacts, results: Sequence[Result]) -> int | None:
    """The few-shot examples of a task; None where logs of other programs have it with several numbers, or tell none."""
    entries = [(result.protocol.is_of_log, result.tasks[task.name]) for result in results if task.name in result.tasks]
    if not any(is_of_log for is_of_log, _ in entries):
        return task.shots
    shot_counts = {entry.shots if is_of_log else task.shots for is_of_log, entry in entries}
    return shot_counts.pop() if len(shot_counts) == 1 else None


def _further_metric_lines(task: TaskFacts, results: Sequence[Result]) -> list[TableLine]:
    """A line for each further metric that some result has of a task outside the suite."""
    entries = [result.tasks.get(task.name) for result in results]
    harness_entries = [entry if isinstance(entry, HarnessTaskResult) else None for entry in entries]
    facts_by_metric = {
        name: replace(task, metric=name, unit=metric.unit, higher_is_better=metric.higher_is_better)
        for entry in harness_entries
        if entry is not None
        for name, metric in entry.metrics.items()
        if name != entry.metric
    }
    return [
        TableLine(
            f"{task.name}:{name}",
            f"{task.title} {name}",
            _shots(task, results),
            metric_words(facts),
            None,
            [
                MeasuredScore()
                if entry is None or name not in entry.metrics
                else _measured_score(entry_of_metric(entry, name), entry.metrics[name].n or entry.n, None)
                for entry in harness_entries
            ],
        )
        for name, facts in facts_by_metric.items()
    ]


def metric_words(task: TaskFacts) -> str:
    """The metric of a task; a unit that its name does not say, and the direction of one that is best low, stand behind it."""
    is_said = not task.unit or task.unit in task.metric.replace("_", " ")
    words = task.metric if is_said else f"{task.metric} ({task.unit})"
    return words if task.higher_is_better else f"{words} ↓"


def _task_metric(results: Sequence[tuple[str, Result]], task: TaskFacts) -> str:
    metric = next((result.tasks[task.name].metric for _, result in results if task.name in result.tasks), task.metric)
    return metric_words(replace(task, metric=metric))


def _task_differences(result: Result, reported_scores: ReportedScores | None) -> dict[str, _ReportedDifference]:
    """By task, the difference to the reported score, where there is one and the two may be compared."""
    if reported_scores is None or not result.suite.comparable:
        return {}
    return {
        line.name: _ReportedDifference(
            line.difference.value, line.difference.stderr, line.verdict in ("better", "worse")
        )
        for line in reported_comparison("", result, reported_scores).lines
        if line.difference is not None and line.difference.stderr is not None and result.is_comparable(line.name)
    }


def _task_score(result: Result, name: str, difference: _ReportedDifference | None) -> MeasuredScore:
    task_result = result.tasks.get(name)
    return MeasuredScore() if task_result is None else _measured_score(task_result, task_result.n, difference)


def common_task_names(results: Sequence[Result]) -> tuple[str, ...]:
    """The tasks that all results have, if there are two and some result has no reported average of its own."""
    names = tuple(task.name for task in ALL_TASKS if results and all(task.name in result.tasks for result in results))
    if any(not is_suite_task(name) for result in results for name in result.tasks):
        return ()  # a mean of whichever tasks says nothing
    has_averages = all(any(average.value is not None for average in result.averages.values()) for result in results)
    return () if len(names) < 2 or has_averages else names


def _mean_score(
    result: Result,
    name: str,
    task_names: Sequence[str],
    reported_average: float | None,
    reported_percent_by_task: dict[str, float],
) -> MeasuredScore:
    average = (
        mean_of_tasks([result.tasks[task_name] for task_name in task_names])
        if name == COMMON_MEAN
        else result.averages.get(name)
    )
    if average is None or average.value is None:
        return MeasuredScore()
    if reported_average is None or not result.is_comparable(*task_names):
        return _measured_score(average, None, None)
    stderr = _mean_difference_stderr(average, task_names, reported_percent_by_task)
    if stderr is None:
        return _measured_score(average, None, None)
    difference = average.value - reported_average / 100
    is_shown = abs(difference) > two_sided_quantile(None) * stderr
    return _measured_score(average, None, _ReportedDifference(difference, stderr, is_shown))


def _mean_difference_stderr(
    average: Average, task_names: Sequence[str], reported_percent_by_task: dict[str, float]
) -> float | None:
    """The standard error of a measured mean minus a reported one; None where the tasks' scores are not all known."""
    measured_stderr = average.stderr
    if not measured_stderr and average.interval is not None:
        measured_stderr = (average.interval[1] - average.interval[0]) / 4
    if measured_stderr is None or any(name not in reported_percent_by_task for name in task_names):
        return None
    reported_stderrs = [reported_stderr(TASK_BY_NAME[name], reported_percent_by_task[name]) for name in task_names]
    return math.hypot(measured_stderr, math.hypot(*reported_stderrs) / len(task_names))


def _measured_score(
    entry: TaskResult | Average, n: int | None, difference: _ReportedDifference | None
) -> MeasuredScore:
    if entry.value is None:
        return MeasuredScore()
    factor = display_factor(entry) if isinstance(entry, TaskResult) else 100.0
    return MeasuredScore(
        factor * entry.value,
        None if entry.stderr is None else factor * entry.stderr,
        n,
        None if difference is None else 100 * difference.value,
        None if entry.interval is None else (factor * entry.interval[0], factor * entry.interval[1]),
        None if difference is None else 100 * difference.stderr,
        None if difference is None else difference.is_shown,
    )
