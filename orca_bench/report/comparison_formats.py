"""A Comparison in, its output formats out: a grid to read, and JSON for programs.

The grid is in percent, JSON in fractions of 1. Its own module because the output format may change while the differences do not.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from orca_bench.report.comparison import Comparison
from orca_bench.report.comparison_lines import NO_DIFFERENCE_SHOWN, ComparisonLine, detectable_difference
from orca_bench.report.conclusions import comparison_sentence
from orca_bench.report.grid import (
    SHORTER_TEXTS,
    Grid,
    TextCell,
    column_unit,
    format_detectable,
    format_difference,
    format_in_unit,
    format_p,
)
from orca_bench.report.notes import Note, NotedNumber, note_line
from orca_bench.stats.multiple_testing import SIGNIFICANCE_LEVEL
from orca_bench.stats.paired_tests import Difference

_INTERVAL = "95 % interval"
_P = "p (Holm)"
_VERDICT_STYLES = {"better": "green", "worse": "red"}
_LEGENDS = {
    "±": "± standard error",
    r"\([+-]": f"( ) {NO_DIFFERENCE_SHOWN}",
    "↑": "↑ ↓ questions whose score rose, fell",
}


def to_grid(comparison: Comparison) -> Grid:
    """The grid of a comparison, percent, with a line below the tasks; how it was computed is in notes of kind `method`."""
    headings = [
        *("Task", comparison.base_label, comparison.other_label, "Δ", _INTERVAL, _P),
        *("↑", "↓", "n", "verdict"),
    ]
    # Of reported scores, a task that the result has not was not asked for.
    lines = [line for line in comparison.lines if comparison.is_paired or line.difference is not None]
    if not lines:
        return Grid([], [], conclusion=comparison_sentence(comparison))
    task_count, units = sum(not line.is_average for line in lines), [line.unit for line in lines]
    # A score says less than the verdict, which stays; a model may be called like another column.
    score_columns = [label for label in (comparison.base_label, comparison.other_label) if headings.count(label) == 1]
    return Grid(
        headings,
        [_row(comparison, line) for line in lines],
        _notes(comparison),
        f"{column_unit('percent', units)}; Δ {comparison.other_label} minus {comparison.base_label}, in "
        f"{column_unit('points', units)}",
        comparison_sentence(comparison),
        left_columns=frozenset({0, len(headings) - 1}),
        rule_after_row=task_count - 1 if 0 < task_count < len(lines) else None,
        legends=_LEGENDS,
        narrowing_steps=("n", "↑", "↓", _P, SHORTER_TEXTS, SHORTER_TEXTS, _INTERVAL, *score_columns, SHORTER_TEXTS),
    )


def to_json(comparisons: Sequence[Comparison]) -> list[dict[str, object]]:
    """All facts of some comparisons, fractions of 1; of a metric with a `unit` numbers in it."""
    return [
        {
            "first": comparison.base_label,
            "second": comparison.other_label,
            "sentence": comparison_sentence(comparison),
            "lines": [_line_json(line) for line in comparison.lines],
            "notes": _note_lines(comparison),
        }
        | ({} if comparison.left_out is None else {"left_out": comparison.left_out})
        for comparison in comparisons
    ]


def _row(comparison: Comparison, line: ComparisonLine) -> list[TextCell]:
    difference = line.difference
    if difference is None:
        return [*map(TextCell, [line.title, "–", "–", "–", "–", "–", "", "", ""]), TextCell(line.verdict)]
    has_counts = not line.is_average and comparison.is_paired
    return [
        TextCell(line.title),
        _number_cell(format_in_unit(line.base_score, line.unit), comparison.base_label, line),
        _number_cell(format_in_unit(line.other_score, line.unit), comparison.other_label, line),
        # The note on questions that are not in both is on the difference.
        _difference_cell(line, difference),
        TextCell(" … ".join(format_in_unit(end, line.unit, True) for end in (difference.low, difference.high))),
        TextCell("–" if line.p is None else format_p(line.p)),
        TextCell(str(difference.better) if has_counts else ""),
        TextCell(str(difference.worse) if has_counts else ""),
        TextCell(f"{difference.n:,}"),
        _verdict_cell(line),
    ]


def _number_cell(text: str, heading: str, line: ComparisonLine) -> TextCell:
    return TextCell(text, number=NotedNumber(heading, line.name))


def _difference_cell(line: ComparisonLine, difference: Difference) -> TextCell:
    text = format_difference(difference.value, difference.error, line.is_significant)
    if line.unit:
        text = f"{format_in_unit(difference.value, line.unit, True)} ± {format_in_unit(difference.error, line.unit)}"
        text = text if line.is_significant else f"({text})"
    return TextCell(text, style="" if line.is_significant else "dim", number=NotedNumber("", line.name))


def _verdict_cell(line: ComparisonLine) -> TextCell:
    """The verdict; where no difference is shown, with the smallest one that would have been."""
    if line.difference is None or line.is_significant:
        return TextCell(line.verdict, style=_VERDICT_STYLES.get(line.verdict, ""))
    if line.smallest_detectable is None:
        return TextCell(f"{line.verdict} (too few questions)", shorter_texts=("none shown (too few)",))
    size = format_detectable(line.smallest_detectable, line.unit)
    return TextCell(
        f"{line.verdict} ({size} {line.unit or 'points'} would be)",
        shorter_texts=(f"{line.verdict} ({size} would be)", f"none shown ({size} would be)", "none shown"),
    )


def _notes(comparison: Comparison) -> list[Note]:
    """The comparison's own notes, one plain line on the verdicts, and how the numbers were computed."""
    test_names = list(dict.fromkeys(line.difference.test for line in comparison.lines if line.difference))
    return [
        *comparison.notes,
        Note("better, worse: if both were equally good, fewer than 1 in 20 such tables would say so on any line"),
        Note(
            f"p by {', '.join(test_names)}; corrected by Holm over all lines that are compared; better or worse: "
            f"p < {SIGNIFICANCE_LEVEL}",
            "method",
            column=_P,
        ),
        Note("95 % interval and standard error: of each line alone, not corrected", "method"),
        Note(
            "would be shown: the smallest true difference that a comparison of this size shows four times in five, with this "
            "correction",
            "method",
        ),
    ]


def _note_lines(comparison: Comparison) -> list[str]:
    return [note_line(note) for note in comparison.notes]


def _line_json(line: ComparisonLine) -> dict[str, Any]:
    difference = None if line.difference is None else dataclasses.asdict(line.difference)
    if difference is not None:
        difference["smallest"] = detectable_difference(line, SIGNIFICANCE_LEVEL)
        for key in ("value", "stderr", "low", "high", "smallest"):
            difference[key] = _in_unit(line, difference[key])
    unit_fields = {"unit": line.unit, "higher_is_better": line.higher_is_better} if line.unit else {}
    return {
        "name": line.name,
        "title": line.title,
        "metric": line.metric,
        "first": _in_unit(line, line.base_score),
        "second": _in_unit(line, line.other_score),
        "difference": difference,
        "adjusted": line.corrected_p,
        "smallest_corrected": _in_unit(line, line.smallest_detectable),
        "note": line.note,
        "verdict": line.verdict,
    } | unit_fields


def _in_unit(line: ComparisonLine, number: float | None) -> float | None:
    """A number of a line in its own unit, where it has one: lines carry hundredths of it."""
    return 100 * number if line.unit and number is not None else number
