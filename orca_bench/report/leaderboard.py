"""Many results in, the leaderboard's table out: models as rows, tasks and averages as columns, reported rows among them.

The best of a column is bold only where it is significantly best: paired against every other measured row on the same
questions, unpaired against reported rows, of which only the number is known; corrected by Holm over the columns.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from orca_bench.report import table
from orca_bench.report.comparison import pair
from orca_bench.report.grid_formats import Cell, Grid
from orca_bench.results.reading import ResultFile
from orca_bench.stats.distributions import normal_p
from orca_bench.stats.estimates import wilson_interval
from orca_bench.stats.multiple_testing import SIGNIFICANCE_LEVEL, holm
from orca_bench.suite import AVERAGES, BY_NAME

_COLUMNS = (*AVERAGES, *BY_NAME)
_HEADINGS = {
    "all seven": "Mean of 7",
    "six without DROP": "Mean of 6",
    "arc_challenge": "ARC",
    "truthful_qa": "TruthfulQA",
}


_SHORTS = {
    "Mean of 6": "Mean 6",
    "Mean of 7": "Mean 7",
    "HellaSwag": "HSwag",
    "TruthfulQA": "TQA",
    "Winogrande": "WinoG",
}


class _Row:
    """One row: its label, and by column value, standard error and interval, fractions of 1; a result, or None where reported."""

    def __init__(
        self, label: str, result: ResultFile | None, numbers: dict[str, tuple[float, float | None, list | None]]
    ):
        self.label, self.result, self.numbers = label, result, numbers
        self.model = label if result is None else result.data["model"]["name"]
        self.protocol = "reported" if result is None else result.data["protocol"]["name"]


def build(results: Sequence[ResultFile], reported: Sequence[dict] = ()) -> Grid:
    """The grid of some results and reported scores, the best mean first; results without it last."""
    rows = [_measured(result) for result in results] + [_reported(told) for told in reported]
    rows.sort(key=lambda row: -max(_value(row, "six without DROP"), _value(row, "all seven")))
    best = _best(rows)
    named = [(row.model, row.protocol) for row in rows]
    headings = ["Model", "Protocol", *(_HEADINGS.get(name) or BY_NAME[name].title for name in _COLUMNS), "n"]
    lines = []
    for number, row in enumerate(rows):
        # Two results of one model and protocol are told apart by their headings.
        label = row.model if named.count((row.model, row.protocol)) == 1 else row.label
        n = "" if row.result is None else f"{sum(e.get('n', 0) for e in row.result.data['tasks'].values()):,}"
        cells = [
            Cell(_text(row.numbers.get(name)), best.get(name) == number, short=_bare(row.numbers.get(name)))
            for name in _COLUMNS
        ]
        # Without the column of protocols the label has to tell the rows apart.
        lines.append([Cell(label, short=row.label), Cell(row.protocol), *cells, Cell(n)])
    notes = ["percent ± standard error; bold: best of its column, and significantly so"]
    if any(not table.comparable(result.data) for result in results) and reported:
        notes.append("the mini suite is not the leaderboard's: its rows and the reported ones are numbers of two kinds")
    if len({row.protocol for row in rows if row.result}) > 1:
        notes.append("rows of different protocols are numbers of different kinds")
    notes += table.merged([note for result in results for note in table.task_notes(result.label, result.data)])
    limits = {result.data.get("limit") for result in results} - {None}
    if limits:
        notes.append(f"some rows are of the first questions of each task only ({', '.join(map(str, sorted(limits)))})")
    notes += [
        f"{row.label}: {told['source']}"
        for row, told in zip([r for r in rows if r.result is None], reported, strict=True)
    ]
    return Grid(headings, lines, notes, left=frozenset({0, 1}), spare=("n", "Mean of 7", "Protocol"), shorts=_SHORTS)


def _measured(result: ResultFile) -> _Row:
    numbers = {
        name: (entry["value"], entry.get("stderr"), entry.get("interval"))
        for part in ("tasks", "averages")
        for name, entry in result.data[part].items()
        if entry.get("value") is not None
    }
    return _Row(result.label, result, numbers)


def _reported(told: dict) -> _Row:
    numbers = {name: (value / 100, None, None) for part in ("tasks", "averages") for name, value in told[part].items()}
    return _Row(told["model"].split("/")[-1], None, numbers)


def _value(row: _Row, name: str) -> float:
    return row.numbers[name][0] if name in row.numbers else -1.0


def _text(number: tuple | None) -> str:
    if number is None:
        return "–"
    return table.measured(*number)


def _bare(number: tuple | None) -> str:
    """A number without its error, for where there is no room."""
    return "–" if number is None else f"{100 * number[0]:.2f}"


def _best(rows: list[_Row]) -> dict[str, int]:
    """The row that is significantly best, by column; columns in which none is are left out."""
    candidates: dict[str, tuple[int, float]] = {}
    for name in _COLUMNS:
        having = [i for i, row in enumerate(rows) if name in row.numbers]
        if len(having) < 2:
            continue
        top = max(having, key=lambda i: rows[i].numbers[name][0])
        ps = [_p(rows[other], rows[top], name) for other in having if other != top]
        candidates[name] = (top, max(ps))  # better than each of the others: the largest p of an intersection of tests
    adjusted = holm([p for _, p in candidates.values()])
    return {
        name: top for (name, (top, _)), p in zip(candidates.items(), adjusted, strict=True) if p < SIGNIFICANCE_LEVEL
    }


def _p(other: _Row, top: _Row, name: str) -> float:
    """The p of no difference between two rows in a column; 1 where they cannot be compared."""
    if other.result is not None and top.result is not None:
        if other.result.tasks and top.result.tasks:
            line = pair(other.result, top.result, name)
            return 1.0 if line is None or line.difference is None else line.difference.p
        return 1.0
    if any(row.result is not None and not table.comparable(row.result.data, name) for row in (other, top)):
        return 1.0
    if name in AVERAGES or (other.result is None and top.result is None):
        return 1.0  # of a reported average nothing is known but the number
    errors = [_error(row, name) for row in (other, top)]
    gap, error = top.numbers[name][0] - other.numbers[name][0], math.hypot(*errors)
    return normal_p(gap, error)


def _error(row: _Row, name: str) -> float:
    value, stderr, interval = row.numbers[name]
    if stderr:
        return stderr
    if interval:
        return (interval[1] - interval[0]) / 4
    n = BY_NAME[name].full_size
    low, high = wilson_interval(value, n)
    return math.sqrt(value * (1 - value) / n) or (high - low) / 4
