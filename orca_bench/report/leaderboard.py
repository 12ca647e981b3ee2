"""Many results in, the leaderboard's table out: models as rows, tasks and averages as columns, reported rows among them.

The best of a column is bold only where it is significantly best: paired against every other measured row on the same questions,
unpaired against reported rows, of which only the number is known; corrected by Holm over the columns. Its own module because
no other table tests its rows against one another.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from orca_bench.question_limit import QuestionLimit
from orca_bench.report.best_scores import paired_p_value, significantly_best
from orca_bench.report.grid import SHORTER_TEXTS, Grid, TextCell, format_score, shorter_score_texts
from orca_bench.report.notes import Note, NotedNumber, merge_notes
from orca_bench.report.reported_comparison import reported_difference
from orca_bench.report.reported_scores import ReportedScores
from orca_bench.report.result_groups import mean_value
from orca_bench.report.score_table import COMMON_MEAN, common_task_names
from orca_bench.report.score_table_formats import LEGENDS
from orca_bench.report.score_table_notes import REPORTED, reported_notes, result_notes
from orca_bench.results.reading import ResultFile
from orca_bench.results.summary import mean_of_tasks
from orca_bench.results.task_facts import is_suite_task, report_scale, suite_title, tasks_of
from orca_bench.results.task_results import Average, HarnessTaskResult, TaskResult
from orca_bench.suite import AVERAGE_TITLE_BY_NAME, TASK_BY_NAME

_MEANS = (*AVERAGE_TITLE_BY_NAME, COMMON_MEAN)
_RANKED = frozenset((*_MEANS, *TASK_BY_NAME))
_AVERAGE_HEADINGS = {"all seven": "Mean of 7", "six without DROP": "Mean w/o DROP"}
_HEADINGS = {**_AVERAGE_HEADINGS, **{name: task.column_headings[0] for name, task in TASK_BY_NAME.items()}}
_SHORT_HEADINGS = {
    long_heading: short_heading
    for long_heading, short_heading in (task.column_headings for task in TASK_BY_NAME.values())
    if long_heading != short_heading
}
_PROTOCOL = "Protocol"


@dataclass(frozen=True)
class _Score:
    """A number of one row and column, fractions of 1 (`report_scale`); standard error and interval are None where unknown."""

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


def build_leaderboard(
    result_files: Sequence[ResultFile],
    reported_scores: Sequence[ReportedScores] = (),
    conclusion: str = "",
    protocol_title: str = "",
) -> Grid:
    """The grid of some results and reported scores, the best mean first, by the first column; rows without a mean last.

    Reported scores are left out where no result may be compared with them, and columns that no result has. Where not all rows
    may be compared with them, they stand apart, below a line.
    """
    visible_reported = [
        scores
        for scores in reported_scores
        if any(file.result.suite.comparable for file in result_files) or not result_files
    ]
    common_names = common_task_names([result_file.result for result_file in result_files])
    measured_rows = [_measured_row(result_file, common_names) for result_file in result_files]
    rows = measured_rows + [_reported_row(scores, common_names) for scores in visible_reported]
    other_tasks = [task for task in tasks_of(file.result for file in result_files) if not is_suite_task(task.name)]
    column_names = (*_MEANS, *TASK_BY_NAME, *(task.name for task in other_tasks))
    columns = [name for name in column_names if any(name in row.scores for row in measured_rows or rows)]
    # Rows are never ranked by means over different tasks; what all have stands first.
    ranking_mean = next((name for name in _MEANS if all(name in row.scores for row in measured_rows or rows)), None)
    columns.sort(key=lambda name: name != ranking_mean)
    has_reported_apart = any(not file.result.is_comparable(*file.result.tasks) for file in result_files)
    rows.sort(key=lambda row: (has_reported_apart and row.result_file is None, *_sort_key(row, ranking_mean)))
    headings_by_name = _HEADINGS | {COMMON_MEAN: f"Mean of {len(common_names)}"}
    headings_by_name |= {task.name: task.title if task.higher_is_better else f"{task.title} ↓" for task in other_tasks}
    mean_columns = [name for name in columns if name in _MEANS]
    best_rows = _significantly_best_rows(
        rows, columns, frozenset(task.name for task in other_tasks if not task.higher_is_better)
    )
    protocols = {row.protocol for row in measured_rows}
    models_and_protocols = [(row.model, row.protocol) for row in rows]
    headings = [
        "Model",
        *([_PROTOCOL] if len(protocols) > 1 else []),
        *(headings_by_name[name] for name in columns),
        "n",
    ]
    grid_rows = []
    for index, row in enumerate(rows):
        # Two results of one model and protocol are told apart by their headings.
        is_unique = models_and_protocols.count((row.model, row.protocol)) == 1
        model = row.model if is_unique else row.label
        if row.result_file is None:
            model = f"{model} ({REPORTED})"
        # Where there is no room for the column of protocols, the heading has to tell the rows apart.
        cells = [TextCell(model, shorter_texts=(row.label,) if len(protocols) > 1 and row.result_file else ())]
        if len(protocols) > 1:
            cells.append(TextCell(row.protocol))
        cells += [_score_cell(row, name, best_rows.get(name) == index) for name in columns]
        grid_rows.append([*cells, TextCell(_question_count(row))])
    suites = list(dict.fromkeys(suite_title(file.result) for file in result_files))
    protocol_text = f", protocol {protocol_title or next(iter(protocols))}" if len(protocols) == 1 else ""
    unit_text = "percent, or the metric's own unit" if any(task.unit for task in other_tasks) else "percent"
    return Grid(
        headings,
        grid_rows,
        _leaderboard_notes(result_files, visible_reported, rows, has_best=bool(best_rows)),
        f"{', '.join(suites)}{protocol_text}: {unit_text}",
        conclusion,
        left_columns=frozenset({0, 1} if len(protocols) > 1 else {0}),
        legends=LEGENDS,
        rule_after_row=len(measured_rows) - 1 if has_reported_apart and len(rows) > len(measured_rows) > 0 else None,
        # The mean by which the rows are sorted stays.
        narrowing_steps=(
            "n",
            *(headings_by_name[name] for name in mean_columns[1:]),
            SHORTER_TEXTS,
            _PROTOCOL,
            SHORTER_TEXTS,
        ),
        short_headings=_SHORT_HEADINGS | {headings_by_name[name]: "Mean" for name in mean_columns[:1]},
    )


def _sort_key(row: _Row, ranking_mean: str | None) -> tuple[float, bool, float]:
    """Rows without a limit first, those of a limit together; in these, rows with a mean first, by the one that all have.

    The sentence ranks by the same mean. Where there is none, each row stands by the first mean that it has, and one without any
    by that of its tasks.
    """
    limit = QuestionLimit() if row.result_file is None else row.result_file.result.question_limit
    descending_limit = -limit.sort_key[0]
    for name in _MEANS if ranking_mean is None else (ranking_mean,):
        if name in row.scores:
            return descending_limit, False, -row.scores[name].value
    values = [score.value for name, score in row.scores.items() if name in _RANKED] or [
        mean_value(row.result_file) if row.result_file is not None else 0.0
    ]
    return descending_limit, True, -sum(values) / len(values) if values else 0.0


def _score_cell(row: _Row, name: str, is_best: bool) -> TextCell:
    heading = REPORTED if row.result_file is None else row.label
    score = row.scores.get(name)
    if score is None:
        return TextCell("–", number=NotedNumber(heading, name))
    return TextCell(
        format_score(score.value, score.stderr, score.interval),
        bold=is_best,
        shorter_texts=shorter_score_texts(score.value, score.stderr, score.interval),
        number=NotedNumber(heading, name),
    )


def _measured_row(result_file: ResultFile, common_names: Sequence[str]) -> _Row:
    result = result_file.result
    entry_by_name: dict[str, TaskResult | Average] = {**result.tasks, **result.averages}
    if common_names:
        entry_by_name[COMMON_MEAN] = mean_of_tasks([result.tasks[name] for name in common_names])
    score_by_name = {
        name: _score(entry.value, entry) for name, entry in entry_by_name.items() if entry.value is not None
    }
    return _Row(result_file.label, result.model.name, result.protocol.name, score_by_name, result_file)


def _score(value: float, entry: TaskResult | Average) -> _Score:
    if not isinstance(entry, HarnessTaskResult):
        return _Score(value, entry.stderr, entry.interval)
    scale = report_scale(entry)
    return _Score(
        scale * value,
        None if entry.stderr is None else scale * entry.stderr,
        None if entry.interval is None else (scale * entry.interval[0], scale * entry.interval[1]),
    )


def _reported_row(reported_scores: ReportedScores, common_names: Sequence[str]) -> _Row:
    score_by_name = {
        name: _Score(percent / 100)
        for name, percent in (*reported_scores.tasks.items(), *reported_scores.averages.items())
    }
    if common_names and all(name in score_by_name for name in common_names):
        common_sum = math.fsum(score_by_name[name].value for name in common_names)
        score_by_name[COMMON_MEAN] = _Score(common_sum / len(common_names))
    return _Row(reported_scores.name, reported_scores.name, "reported", score_by_name)


def _question_count(row: _Row) -> str:
    return (
        ""
        if row.result_file is None
        else f"{sum(task_result.n for task_result in row.result_file.result.tasks.values()):,}"
    )


def _leaderboard_notes(
    result_files: Sequence[ResultFile], reported_scores: Sequence[ReportedScores], rows: Sequence[_Row], has_best: bool
) -> list[Note]:
    notes = [Note("bold: best of its column, and significantly so")] if has_best else []
    if reported_scores and any(not result_file.result.is_comparable() for result_file in result_files):
        text = "the mini suite is not the leaderboard's: its rows and the reported ones are numbers of two kinds"
        notes.append(Note(text, "warning"))
    if len({row.protocol for row in rows if row.result_file is not None}) > 1:
        notes.append(Note("rows of different protocols are numbers of different kinds", "warning"))
    notes += [
        note for result_file in result_files for note in result_notes(result_file.label, result_file.result, False)
    ]
    notes += [note for scores in reported_scores for note in reported_notes(scores)]
    return merge_notes(notes, [row.label for row in rows if row.result_file is not None])


def _significantly_best_rows(
    rows: Sequence[_Row], columns: Sequence[str], lower_is_better: Collection[str]
) -> dict[str, int]:
    """By column, the index of the row that is significantly best; columns in which none is are left out.

    `lower_is_better` names columns whose lowest score is the best.
    """
    scores_by_column = {
        name: {
            index: (-1 if name in lower_is_better else 1) * row.scores[name].value
            for index, row in enumerate(rows)
            if name in row.scores
        }
        for name in columns
    }
    return significantly_best(
        scores_by_column, lambda other_index, best_index, name: _p_value(rows[other_index], rows[best_index], name)
    )


def _p_value(other_row: _Row, best_row: _Row, name: str) -> float:
    """The p of no difference between two rows in a column; 1 where they cannot be compared."""
    if other_row.result_file is not None and best_row.result_file is not None:
        return paired_p_value(other_row.result_file, best_row.result_file, name)
    measured_row, reported_row = (best_row, other_row) if other_row.result_file is None else (other_row, best_row)
    if measured_row.result_file is None or name not in TASK_BY_NAME:
        return 1.0  # two reported rows, or a reported average, which has no standard error
    result = measured_row.result_file.result
    if not result.is_comparable(name):
        return 1.0
    return reported_difference(TASK_BY_NAME[name], 100 * reported_row.scores[name].value, result.tasks[name]).p
