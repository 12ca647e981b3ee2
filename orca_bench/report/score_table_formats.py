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

from orca_bench.report.grid import Grid, TextCell
from orca_bench.report.score_table import MeasuredScore, ScoreTable, TableLine
from orca_bench.results.models import Result
from orca_bench.suite import ALL_TASKS, AVERAGE_TITLE_BY_NAME

_CSV_HEADINGS = (
    *("task", "shots", "metric", "reported", "result", "measured", "stderr", "n", "difference", "protocol"),
    *("requests_sha256", "warnings"),
)
_CsvValue: TypeAlias = str | int | float | None


def to_grid(table: ScoreTable) -> Grid:
    """The table as a grid. A column of differences that is empty is left out; an n that all results share is there once."""
    has_equal_counts = all(len({score.n for score in line.scores}) <= 1 for line in table.lines)
    columns = [
        ("Task", [line.title for line in table.lines]),
        ("Shots", ["" if line.shots is None else str(line.shots) for line in table.lines]),
        ("Metric", [line.metric for line in table.lines]),
        ("Reported", [_format_number(line.reported) for line in table.lines]),
    ]
    for index, heading in enumerate(table.headings):
        scores = [line.scores[index] for line in table.lines]
        columns.append((heading, [_format_measured(score) for score in scores]))
        if any(score.difference is not None for score in scores):
            columns.append(("Δ", [_format_number(score.difference, signed=True) for score in scores]))
        if not has_equal_counts or index == len(table.headings) - 1:
            columns.append(("n", ["" if score.n is None else str(score.n) for score in scores]))
    return Grid(
        [heading for heading, _ in columns],
        [[TextCell(text) for text in row] for row in zip(*(texts for _, texts in columns), strict=True)],
        table.notes,
        table.title,
        left_columns=frozenset({0, 2}),
        rule_after_row=len(ALL_TASKS) - 1,
        droppable_headings=("Metric", "Shots", "n", "Δ"),
    )


def format_score(value: float | None, stderr: float | None, interval: Sequence[float] | None) -> str:
    """A score, a fraction of 1, as percent with its standard error; a dash for None.

    Where all answers have the same score, the standard error is 0; then the text has the 95 % interval instead.
    """
    if value is None:
        return "–"
    if not stderr and interval:
        return f"{100 * value:.2f} [{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]"
    return f"{100 * value:.2f}" if not stderr else f"{100 * value:.2f} ± {100 * stderr:.2f}"


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
    content = {"title": table.title, "lines": lines, "results": results, "notes": table.notes}
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _format_number(value: float | None, signed: bool = False) -> str:
    return "–" if value is None else f"{value:+.2f}" if signed else f"{value:.2f}"


def _format_measured(score: MeasuredScore) -> str:
    if score.value is None:
        return "–"
    interval = None if score.interval is None else [bound / 100 for bound in score.interval]
    return format_score(score.value / 100, None if score.stderr is None else score.stderr / 100, interval)


def _csv_row(line: TableLine, heading: str, score: MeasuredScore, result: Result | None) -> list[_CsvValue]:
    protocol, requests_sha256, warnings = "", None, ""
    if result is not None:
        version = "" if result.protocol.version is None else f" v{result.protocol.version}"
        protocol = f"{result.protocol.name}{version}"
        if line.name in result.tasks:
            requests_sha256, warnings = (
                result.tasks[line.name].requests_sha256,
                "; ".join(result.tasks[line.name].warnings),
            )
        elif line.name in AVERAGE_TITLE_BY_NAME:
            requests_sha256 = result.requests_sha256
    return [
        *(line.name, line.shots, line.metric, line.reported, heading),
        *(score.value, score.stderr, score.n, score.difference, protocol, requests_sha256, warnings),
    ]


def _result_json(result: Result) -> dict[str, object]:
    return {
        "model": result.model.name,
        "protocol": result.protocol.name,
        "version": result.protocol.version,
        "requests_sha256": result.requests_sha256,
        "tasks": {
            name: {"requests_sha256": task_result.requests_sha256, "warnings": task_result.warnings}
            for name, task_result in result.tasks.items()
        },
    }
