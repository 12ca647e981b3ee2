"""Many results in, the leaderboard's table out: models as rows, tasks and averages as columns, reported rows among them.

The best of a column is bold only where it is significantly best: paired against every other measured row on the same questions,
unpaired against reported rows, of which only the number is known; corrected by Holm over the columns. Its own module because
no other table tests its rows against one another.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from orca_bench.report.comparison import compare_line
from orca_bench.report.grid import Grid, TextCell
from orca_bench.report.reported_scores import ReportedScores
from orca_bench.report.score_table_formats import format_score
from orca_bench.report.score_table_notes import merge_notes, task_notes
from orca_bench.results.models import Average, TaskResult
from orca_bench.results.reading import ResultFile
from orca_bench.stats.distributions import normal_p_value
from orca_bench.stats.estimates import wilson_interval
from orca_bench.stats.multiple_testing import SIGNIFICANCE_LEVEL, correct_by_holm
from orca_bench.suite import AVERAGE_TITLE_BY_NAME, TASK_BY_NAME

_COLUMNS = (*AVERAGE_TITLE_BY_NAME, *TASK_BY_NAME)
_AVERAGE_HEADINGS = {"all seven": "Mean of 7", "six without DROP": "Mean of 6"}
_HEADINGS = {**_AVERAGE_HEADINGS, **{name: task.column_headings[0] for name, task in TASK_BY_NAME.items()}}
_SHORT_HEADINGS = {
    **{"Mean of 6": "Mean 6", "Mean of 7": "Mean 7"},
    **{
        long_heading: short_heading
        for long_heading, short_heading in (task.column_headings for task in TASK_BY_NAME.values())
        if long_heading != short_heading
    },
}


@dataclass(frozen=True)
class _Score:
    """A number of one row and column, fractions of 1; standard error and interval are None where unknown."""

    value: float
    stderr: float | None = None
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class _Row:
    """A row: its heading, model and protocol, its scores by column, and its result, None where the scores are reported."""

    label: str
    model: str
    protocol: str
    scores: dict[str, _Score]
    result_file: ResultFile | None = None


def build_leaderboard(results: Sequence[ResultFile], reported_scores: Sequence[ReportedScores] = ()) -> Grid:
    """The grid of some results and reported scores, the best mean first; rows without a mean last."""
    rows = [_measured_row(result_file) for result_file in results] + [
        _reported_row(scores) for scores in reported_scores
    ]
    rows.sort(key=lambda row: -max(_score_value(row, "six without DROP"), _score_value(row, "all seven")))
    best_rows = _significantly_best_rows(rows)
    models_and_protocols = [(row.model, row.protocol) for row in rows]
    headings = ["Model", "Protocol", *(_HEADINGS[name] for name in _COLUMNS), "n"]
    grid_rows = []
    for index, row in enumerate(rows):
        # Two results of one model and protocol are told apart by their headings.
        model = row.model if models_and_protocols.count((row.model, row.protocol)) == 1 else row.label
        score_cells = [
            TextCell(
                _format_score(row.scores.get(name)),
                bold=best_rows.get(name) == index,
                short_text=_format_score_short(row.scores.get(name)),
            )
            for name in _COLUMNS
        ]
        # Where there is no room for the column of protocols, the heading has to tell the rows apart.
        grid_rows.append(
            [
                TextCell(model, short_text=row.label),
                TextCell(row.protocol),
                *score_cells,
                TextCell(_question_count(row)),
            ]
        )
    return Grid(
        headings,
        grid_rows,
        _leaderboard_notes(results, reported_scores, rows),
        left_columns=frozenset({0, 1}),
        droppable_headings=("n", "Mean of 7", "Protocol"),
        short_headings=_SHORT_HEADINGS,
    )


def _measured_row(result_file: ResultFile) -> _Row:
    result = result_file.result
    entries: dict[str, TaskResult | Average] = {**result.tasks, **result.averages}
    scores = {
        name: _Score(entry.value, entry.stderr, entry.interval)
        for name, entry in entries.items()
        if entry.value is not None
    }
    return _Row(result_file.label, result.model.name, result.protocol.name, scores, result_file)


def _reported_row(reported_scores: ReportedScores) -> _Row:
    scores = {
        name: _Score(percent / 100)
        for name, percent in (*reported_scores.tasks.items(), *reported_scores.averages.items())
    }
    return _Row(reported_scores.name, reported_scores.name, "reported", scores)


def _score_value(row: _Row, name: str) -> float:
    return row.scores[name].value if name in row.scores else -1.0


def _format_score(score: _Score | None) -> str:
    return "–" if score is None else format_score(score.value, score.stderr, score.interval)


def _format_score_short(score: _Score | None) -> str:
    """A number without its error, for a terminal that is too narrow."""
    return "–" if score is None else f"{100 * score.value:.2f}"


def _question_count(row: _Row) -> str:
    return (
        ""
        if row.result_file is None
        else f"{sum(task_result.n for task_result in row.result_file.result.tasks.values()):,}"
    )


def _leaderboard_notes(
    results: Sequence[ResultFile], reported_scores: Sequence[ReportedScores], rows: Sequence[_Row]
) -> list[str]:
    notes = ["percent ± standard error; bold: best of its column, and significantly so"]
    if reported_scores and any(not result_file.result.is_comparable() for result_file in results):
        notes.append("the mini suite is not the leaderboard's: its rows and the reported ones are numbers of two kinds")
    if len({row.protocol for row in rows if row.result_file is not None}) > 1:
        notes.append("rows of different protocols are numbers of different kinds")
    notes += merge_notes(
        [note for result_file in results for note in task_notes(result_file.label, result_file.result)]
    )
    limits = {result_file.result.limit for result_file in results if result_file.result.limit is not None}
    if limits:
        notes.append(f"some rows are of the first questions of each task only ({', '.join(map(str, sorted(limits)))})")
    reported_labels = [row.label for row in rows if row.result_file is None]
    notes += [f"{label}: {scores.source}" for label, scores in zip(reported_labels, reported_scores, strict=True)]
    return notes


def _significantly_best_rows(rows: Sequence[_Row]) -> dict[str, int]:
    """By column, the index of the row that is significantly best; columns in which none is are left out."""
    candidates: dict[str, tuple[int, float]] = {}
    for name in _COLUMNS:
        indices = [index for index, row in enumerate(rows) if name in row.scores]
        if len(indices) < 2:
            continue
        best_index = max(indices, key=lambda index: rows[index].scores[name].value)
        p_values = [
            _p_value(rows[other_index], rows[best_index], name) for other_index in indices if other_index != best_index
        ]
        candidates[name] = (
            best_index,
            max(p_values),
        )  # better than each of the others: the largest p of an intersection of tests
    adjusted_ps = correct_by_holm([p for _, p in candidates.values()])
    return {
        name: best_index
        for (name, (best_index, _)), p in zip(candidates.items(), adjusted_ps, strict=True)
        if p < SIGNIFICANCE_LEVEL
    }


def _p_value(other_row: _Row, best_row: _Row, name: str) -> float:
    """The p of no difference between two rows in a column; 1 where they cannot be compared."""
    if other_row.result_file is not None and best_row.result_file is not None:
        if not (other_row.result_file.questions_by_task and best_row.result_file.questions_by_task):
            return 1.0
        line = compare_line(other_row.result_file, best_row.result_file, name)
        return 1.0 if line is None or line.difference is None else line.difference.p
    if any(
        row.result_file is not None and not row.result_file.result.is_comparable(name) for row in (other_row, best_row)
    ):
        return 1.0
    if name in AVERAGE_TITLE_BY_NAME or (other_row.result_file is None and best_row.result_file is None):
        return 1.0  # a reported average has no standard error
    stderr = math.hypot(_standard_error(other_row.scores[name], name), _standard_error(best_row.scores[name], name))
    return normal_p_value(best_row.scores[name].value - other_row.scores[name].value, stderr)


def _standard_error(score: _Score, name: str) -> float:
    """A standard error above 0: the score's own, a quarter of its 95 % interval, or that of right-or-wrong scores."""
    if score.stderr:
        return score.stderr
    if score.interval:
        return (score.interval[1] - score.interval[0]) / 4
    n = TASK_BY_NAME[name].full_question_count
    low, high = wilson_interval(score.value, n)
    return math.sqrt(score.value * (1 - score.value) / n) or (high - low) / 4
