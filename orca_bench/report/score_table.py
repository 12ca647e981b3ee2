"""Results in, a table of scores out: reported beside measured, difference, standard error, n, and both averages.

A difference is shown only where the two numbers may be compared (score_table_notes.py says why not). Numbers are percent, as on
the leaderboard. Reads results only, no models. Its own module because the forms of the table (score_table_formats.py)
change while its numbers do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from orca_bench.report.reported_scores import ReportedScores
from orca_bench.report.score_table_notes import merge_notes, reported_notes, result_notes
from orca_bench.results.models import Average, Result, TaskResult
from orca_bench.suite import ALL_TASKS, AVERAGE_TITLE_BY_NAME, TASK_NAMES_BY_AVERAGE


@dataclass(frozen=True)
class MeasuredScore:
    """One measured number, percent: standard error, n, difference to the reported score, 95 % interval; None where unknown."""

    value: float | None = None
    stderr: float | None = None
    n: int | None = None
    difference: float | None = None
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class TableLine:
    """One task or average: `reported` in percent, and a measured score for each result."""

    name: str
    title: str
    shots: int | None
    metric: str
    reported: float | None
    scores: list[MeasuredScore]


@dataclass(frozen=True)
class ScoreTable:
    """A heading for each result, a line for each task and average, and notes on what may not be compared.

    `results` has each result by its heading, for forms that say how a number was measured.
    """

    title: str
    headings: list[str]
    lines: list[TableLine]
    notes: list[str] = field(default_factory=list)
    results: dict[str, Result] = field(default_factory=dict)


def build_score_table(results: Sequence[tuple[str, Result]], reported_scores: ReportedScores) -> ScoreTable:
    """The table of results, each with its heading, beside the reported scores."""
    lines = []
    for task in ALL_TASKS:
        reported_score = reported_scores.tasks.get(task.name)
        scores = [_task_score(result, task.name, reported_score) for _, result in results]
        metric = _task_metric(results, task.name, task.metric)
        lines.append(TableLine(task.name, task.title, task.shots, metric, reported_score, scores))
    for name, title in AVERAGE_TITLE_BY_NAME.items():
        reported_score = reported_scores.averages.get(name)
        scores = [_average_score(result, name, reported_score) for _, result in results]
        lines.append(TableLine(name, title, None, "mean", reported_score, scores))
    notes = reported_notes(reported_scores) + [
        note for label, result in results for note in result_notes(label, result)
    ]
    headings = [label for label, _ in results]
    return ScoreTable(_table_title(results, reported_scores), headings, lines, merge_notes(notes), dict(results))


def _table_title(results: Sequence[tuple[str, Result]], reported_scores: ReportedScores) -> str:
    suites = list(dict.fromkeys(result.suite.name for _, result in results))
    models = list(dict.fromkeys(result.model.name for _, result in results))
    # Where the headings do not name the one model, the title does.
    model_text = f"{models[0]}, " if len(models) == 1 and models[0] not in results[0][0] else ""
    suite_text = ", ".join(suites) or reported_scores.suite
    return f"{model_text}{suite_text}: percent ± standard error; reported: {reported_scores.name}"


def _task_metric(results: Sequence[tuple[str, Result]], name: str, default: str) -> str:
    return next((result.tasks[name].metric for _, result in results if name in result.tasks), default)


def _task_score(result: Result, name: str, reported_score: float | None) -> MeasuredScore:
    task_result = result.tasks.get(name)
    if task_result is None:
        return MeasuredScore()
    return _measured_score(task_result, task_result.n, reported_score if result.is_comparable(name) else None)


def _average_score(result: Result, name: str, reported_score: float | None) -> MeasuredScore:
    average = result.averages.get(name)
    if average is None:
        return MeasuredScore()
    return _measured_score(
        average, None, reported_score if result.is_comparable(*TASK_NAMES_BY_AVERAGE[name]) else None
    )


def _measured_score(entry: TaskResult | Average, n: int | None, reported_score: float | None) -> MeasuredScore:
    """`reported` is the score that the measured one may be compared with, percent, or None."""
    if entry.value is None:
        return MeasuredScore()
    percent = 100 * entry.value
    return MeasuredScore(
        percent,
        None if entry.stderr is None else 100 * entry.stderr,
        n,
        None if reported_score is None else percent - reported_score,
        None if entry.interval is None else (100 * entry.interval[0], 100 * entry.interval[1]),
    )
