"""A Comparison in, its output formats out: a grid to read, and JSON for programs.

The grid is in percent, JSON in fractions of 1. Its own module because the output format may change while the differences do not.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from orca_bench.report.comparison import Comparison, ComparisonLine
from orca_bench.report.grid import Grid, TextCell, format_p, format_percent
from orca_bench.report.notes import note_line
from orca_bench.report.reported_comparison import UNPAIRED_TEST
from orca_bench.stats.multiple_testing import SIGNIFICANCE_LEVEL
from orca_bench.suite import AVERAGE_TITLE_BY_NAME

_DETECTABLE_HEADING = "smallest detectable difference"
_VERDICT_STYLES = {"better": "green", "worse": "red"}


def to_grid(comparison: Comparison) -> Grid:
    """The grid of a comparison, percent, with a line below the tasks and what the columns mean in its notes."""
    headings = [
        *("Task", comparison.base_label, comparison.other_label, "Δ", "95 % interval", "p (Holm)", _DETECTABLE_HEADING),
        *("↑", "↓", "n", "verdict"),
    ]
    rows = []
    for line in comparison.lines:
        cell_texts = _row_texts(line)
        rows.append(
            [*map(TextCell, cell_texts[:-1]), TextCell(cell_texts[-1], style=_VERDICT_STYLES.get(cell_texts[-1], ""))]
        )
    task_count = sum(line.name not in AVERAGE_TITLE_BY_NAME for line in comparison.lines)
    return Grid(
        headings,
        rows,
        _legend(comparison),
        left_columns=frozenset({0, len(headings) - 1}),
        rule_after_row=task_count - 1,
        droppable_headings=("n", "↑", "↓", _DETECTABLE_HEADING, "p (Holm)", comparison.base_label),
    )


def to_json(comparisons: Sequence[Comparison]) -> list[dict[str, object]]:
    """All facts of some comparisons, fractions of 1."""
    return [
        {
            "first": comparison.base_label,
            "second": comparison.other_label,
            "lines": [_line_json(line) for line in comparison.lines],
            "notes": _note_lines(comparison),
        }
        for comparison in comparisons
    ]


def _row_texts(line: ComparisonLine) -> list[str]:
    difference = line.difference
    if difference is None:
        return [line.title, "–", "–", "–", "–", "–", "", "", "", "", line.verdict]
    is_paired = line.name not in AVERAGE_TITLE_BY_NAME and difference.test != UNPAIRED_TEST
    detectable_difference = line.smallest_detectable
    return [
        line.title,
        format_percent(line.base_score),
        format_percent(line.other_score),
        format_percent(difference.value, signed=True),
        f"{format_percent(difference.low, signed=True)} … {format_percent(difference.high, signed=True)}",
        "–" if line.p is None else format_p(line.p),
        "" if detectable_difference is None else f"{100 * detectable_difference:.1f}",
        str(difference.better) if is_paired else "",
        str(difference.worse) if is_paired else "",
        str(difference.n),
        line.verdict,
    ]


def _legend(comparison: Comparison) -> list[str]:
    """What the columns mean, and the comparison's notes."""
    test_names = list(dict.fromkeys(line.difference.test for line in comparison.lines if line.difference))
    pairing_text = (
        "" if test_names == [UNPAIRED_TEST] else ", on the same questions; ↑ ↓ questions whose score rose, fell"
    )
    return [
        f"Δ is {comparison.other_label} minus {comparison.base_label}, in points{pairing_text}",
        f"p by {', '.join(test_names)}; corrected by Holm over all lines that are compared; better or worse: "
        f"p < {SIGNIFICANCE_LEVEL}",
        "95 % interval: of each line alone, not corrected",
        f"{_DETECTABLE_HEADING}: the smallest true difference that a comparison of this size shows four times in five",
        *_note_lines(comparison),
    ]


def _note_lines(comparison: Comparison) -> list[str]:
    titles = {line.name: line.title for line in comparison.lines}
    return [note_line(note, titles) for note in comparison.notes]


def _line_json(line: ComparisonLine) -> dict[str, Any]:
    difference = None if line.difference is None else dataclasses.asdict(line.difference)
    if difference is not None:
        difference["smallest"] = difference.pop("smallest_detectable")
    return {
        "name": line.name,
        "title": line.title,
        "metric": line.metric,
        "first": line.base_score,
        "second": line.other_score,
        "difference": difference,
        "adjusted": line.corrected_p,
        "smallest_corrected": line.smallest_detectable,
        "note": line.note,
        "verdict": line.verdict,
    }
