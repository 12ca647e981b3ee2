"""A ScoreTable in, its forms out: a grid to read, CSV and JSON for programs.

The grid rounds to two decimals; CSV and JSON do not round. Its own module because a form may change while no number does.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Sequence
from typing import TypeAlias

from orca_bench.report.comparison_lines import NO_DIFFERENCE_SHOWN
from orca_bench.report.grid import (
    SHORTER_TEXTS,
    Grid,
    TextCell,
    format_difference,
    format_score,
    printable_text,
    shorter_score_texts,
)
from orca_bench.report.notes import NotedNumber, note_line
from orca_bench.report.score_table import COMMON_MEAN, MeasuredScore, ScoreTable, TableLine
from orca_bench.report.score_table_notes import REPORTED
from orca_bench.results.models import Result
from orca_bench.suite import AVERAGE_TITLE_BY_NAME

_CSV_HEADINGS = (
    *("task", "shots", "metric", "reported", "result", "measured", "stderr", "n", "difference", "protocol"),
    *("requests_sha256", "warnings", "difference_stderr", "overlap", "without_overlap", "without_overlap_stderr"),
)
_DIFFERENCE = "Δ"
#: What the signs in a table of scores mean.
LEGENDS = {
    "±": "± standard error",
    r"±[\d.]+\*": "±* all answers scored the same: a quarter of the 95 % interval",
    r"\[\d": "[…] 95 % interval",
    r"\([+-]": f"(Δ) {NO_DIFFERENCE_SHOWN}",
    "↓": "↓ lower is better",
}
_CsvValue: TypeAlias = str | int | float | None


def to_grid(table: ScoreTable, all_tasks: bool = False) -> Grid:
    """The table as a grid: the tasks and means that some result has, or `all_tasks`.

    A column of differences that is empty is left out, and that of the reported scores; an n that all results share is there once.
    """
    lines = [line for line in table.lines if all_tasks or line.is_measured]
    if all_tasks and any(line.name == COMMON_MEAN and line.is_measured for line in lines):
        lines = [line for line in lines if line.is_measured or line.name not in AVERAGE_TITLE_BY_NAME]
    has_equal_counts = all(len({score.n for score in line.scores}) <= 1 for line in lines)
    columns = [
        ("Task", [TextCell(_line_title(line)) for line in lines]),
        ("Shots", [TextCell("" if line.shots is None else str(line.shots)) for line in lines]),
        ("Metric", [TextCell(line.metric) for line in lines]),
    ]
    if any(line.reported is not None for line in table.lines):
        columns.append(("Reported", [_number_cell(_format_number(line.reported), REPORTED, line) for line in lines]))
    for index, heading in enumerate(table.headings):
        scores = [line.scores[index] for line in lines]
        columns.append((heading, [_score_cell(heading, line, line.scores[index]) for line in lines]))
        if any(score.difference is not None for score in scores):
            columns.append((_DIFFERENCE, [_difference_cell(score) for score in scores]))
        if not has_equal_counts or index == len(table.headings) - 1:
            columns.append(("n", [TextCell("" if score.n is None else f"{score.n:,}") for score in scores]))
    task_count = sum(line.name not in (*AVERAGE_TITLE_BY_NAME, COMMON_MEAN) for line in lines)
    return Grid(
        [heading for heading, _ in columns],
        [list(row) for row in zip(*(cells for _, cells in columns), strict=True)],
        table.notes,
        table.title,
        table.conclusion,
        left_columns=frozenset({0, 2}),
        rule_after_row=task_count - 1 if 0 < task_count < len(lines) else None,
        legends=LEGENDS,
        narrowing_steps=("Metric", "Shots", "n", _DIFFERENCE, SHORTER_TEXTS, "Reported", SHORTER_TEXTS),
    )


def _line_title(line: TableLine) -> str:
    """A task's title; a further metric of a task stands below it by its own name."""
    metric_name = line.name.partition(":")[2]
    return f"· {metric_name}" if metric_name else line.title


def _number_cell(text: str, heading: str, line: TableLine, shorter_texts: Sequence[str] = ()) -> TextCell:
    return TextCell(text, shorter_texts=shorter_texts, number=NotedNumber(heading, line.name))


def _score_cell(heading: str, line: TableLine, score: MeasuredScore) -> TextCell:
    value, stderr, interval = _fractions(score)
    return _number_cell(
        format_score(value, stderr, interval), heading, line, shorter_score_texts(value, stderr, interval)
    )


def to_csv(table: ScoreTable) -> str:
    """One line per task and result, not rounded; empty where unknown."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(_CSV_HEADINGS)
    for line in table.lines:
        columns = list(zip(table.headings, line.scores, strict=True)) or [("", MeasuredScore())]
        writer.writerows(_csv_row(line, heading, score, table.results.get(heading)) for heading, score in columns)
    return buffer.getvalue()


def to_json(table: ScoreTable) -> str:
    """`lines` with reported and measured numbers in percent, `results` with protocols and hashes, `notes`."""
    lines = [
        {
            "task": line.name,
            "title": line.title,
            "shots": line.shots,
            "metric": line.metric,
            "reported": line.reported,
            "measured": {
                heading: dataclasses.asdict(score) for heading, score in zip(table.headings, line.scores, strict=True)
            },
        }
        for line in table.lines
    ]
    results = {heading: _result_json(result) for heading, result in table.results.items()}
    content = {
        "title": table.title,
        "sentence": table.conclusion,
        "lines": lines,
        "results": results,
        "notes": [note_line(note) for note in table.notes],
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _format_number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _difference_cell(score: MeasuredScore) -> TextCell:
    if score.difference is None:
        return TextCell("–")
    stderr = None if score.difference_stderr is None else score.difference_stderr / 100
    is_shown = score.is_difference_shown is not False
    return TextCell(format_difference(score.difference / 100, stderr, is_shown), style="" if is_shown else "dim")


def _fractions(score: MeasuredScore) -> tuple[float | None, float | None, list[float] | None]:
    """Value, standard error and interval as fractions of 1."""
    return (
        None if score.value is None else score.value / 100,
        None if score.stderr is None else score.stderr / 100,
        None if score.interval is None else [bound / 100 for bound in score.interval],
    )


def _csv_row(line: TableLine, heading: str, score: MeasuredScore, result: Result | None) -> list[_CsvValue]:
    protocol, requests_sha256, warnings = "", None, ""
    if result is not None:
        protocol = result.protocol.name_and_version
        if line.name in result.tasks:
            requests_sha256, warnings = (
                result.tasks[line.name].requests_sha256,
                "; ".join(result.tasks[line.name].warnings),
            )
        elif line.name in AVERAGE_TITLE_BY_NAME:
            requests_sha256 = result.requests_sha256
    row: list[_CsvValue] = [
        *(line.name, line.shots, line.metric, line.reported, heading),
        *(score.value, score.stderr, score.n, score.difference, protocol, requests_sha256, warnings),
        score.difference_stderr,
        *_overlap_values(line.name, result),
    ]
    return [printable_text(value) if isinstance(value, str) else value for value in row]


def _overlap_values(name: str, result: Result | None) -> tuple[_CsvValue, _CsvValue, _CsvValue]:
    """How many questions of a task are in the training records, and the score without them with its error, percent."""
    overlap = None if result is None or name not in result.tasks else result.tasks[name].overlap
    if overlap is None:
        return None, None, None
    without = overlap.without
    value = None if without is None else 100 * without.value
    stderr = None if without is None or without.stderr is None else 100 * without.stderr
    return overlap.questions, value, stderr


def _result_json(result: Result) -> dict[str, object]:
    return {
        "model": result.model.name,
        "protocol": result.protocol.name,
        "version": result.protocol.version,
        "requests_sha256": result.requests_sha256,
        "tasks": {
            name: {"requests_sha256": task_result.requests_sha256, "warnings": task_result.warnings}
            | ({} if task_result.overlap is None else {"overlap": task_result.overlap.to_json()})
            for name, task_result in result.tasks.items()
        },
    }
