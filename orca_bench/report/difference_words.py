"""Lines of a comparison in, the words for their differences and for those that they would have shown out.

Its own module because the words depend on the unit of a line, and the sentences of conclusions.py do not.
"""

from __future__ import annotations

from collections.abc import Sequence

from orca_bench.report.comparison_lines import ComparisonLine
from orca_bench.report.grid import format_detectable, format_in_unit

#: More tasks are counted, not named.
MOST_NAMED_TASKS = 3


def difference_text(line: ComparisonLine) -> str:
    """A difference that there is, with its interval, in points or in the line's unit."""
    difference = line.difference
    assert difference is not None
    if line.unit:
        value, low, high = (
            format_in_unit(number, line.unit, True) for number in (difference.value, difference.low, difference.high)
        )
        return f"{value} {line.unit}, 95 % interval {low} to {high}"
    return f"{100 * difference.value:+.1f} points, 95 % interval {100 * difference.low:+.1f} to {100 * difference.high:+.1f}"


def detectable_text(lines: Sequence[ComparisonLine]) -> str:
    """How large a difference the lines would have shown, by task where they are few; of lines with a unit each in its own."""
    unit_lines = [line for line in lines if line.unit and line.smallest_detectable is not None]
    if not unit_lines:
        return _points_text(lines)
    unit_texts = [
        f"{format_detectable(line.smallest_detectable or 0.0, line.unit)} {line.unit} on {line.title}"
        for line in unit_lines[:MOST_NAMED_TASKS]
    ]
    other_lines = [line for line in lines if line not in unit_lines]
    more_text = ", for instance" if len(unit_lines) > MOST_NAMED_TASKS else ""
    return "; ".join(
        filter(
            None,
            [_points_text(other_lines) if other_lines else "", join_words(unit_texts) + " would have been" + more_text],
        )
    )


def _points_text(lines: Sequence[ComparisonLine]) -> str:
    blind_lines = [line for line in lines if line.smallest_detectable is None]
    verb = "could" if all(line.has_too_few_questions for line in blind_lines) else "would surely"
    if len(blind_lines) == len(lines):
        return f"with so few questions none {verb} have been"
    sizes = [line.smallest_detectable for line in lines if line.smallest_detectable is not None]
    smallest, largest = format_detectable(min(sizes)), format_detectable(max(sizes))
    if len(sizes) == len(lines) <= MOST_NAMED_TASKS and smallest != largest:
        size_text = join_words([format_detectable(size) for size in sizes])
    else:
        size_text = smallest if smallest == largest else f"{smallest} to {largest}"
    blind_text = ""
    if blind_lines:
        titles = [line.title for line in blind_lines]
        titles_text = join_words(titles) if len(titles) <= MOST_NAMED_TASKS else f"{len(titles)} of them"
        blind_text = f"; on {titles_text} none {verb} have been, with so few questions"
    return f"{size_text} points would have been{blind_text}"


def join_words(texts: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"
