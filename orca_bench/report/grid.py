"""A table of texts, as every report builds it before an output format is chosen.

Nothing is computed here: reports fill a Grid, grid_formats.py and grid_terminal.py write it. Its own module because every
report builds one.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from orca_bench.report.notes import Note, NotedNumber
from orca_bench.stats.multiple_testing import SIGNIFICANCE_LEVEL

#: A step of `Grid.narrowing_steps`: shorter texts and headings instead of a column less.
SHORTER_TEXTS = "shorter texts"
_LEAST_VALUE_OF_TWO_DECIMALS, _LEAST_VALUE_WITHOUT_DECIMALS = 10, 1000
_RIGHT_TO_LEFT = frozenset({"R", "AL", "AN"})
_ALLOWED_FORMAT_CHARACTERS = "\u200c\u200d"  # joiners, of Persian words and of emoji
_ISOLATE, _END_OF_ISOLATE = "\u2068", "\u2069"


@dataclass(frozen=True)
class TextCell:
    """One text, bold or not; `style` is a colour of the terminal, `number` says whose notes stand on it as badges.

    `shorter_texts` are for a terminal that is too narrow, each shorter than the one before it.
    """

    text: str
    bold: bool = False
    style: str = ""
    shorter_texts: Sequence[str] = ()
    number: NotedNumber | None = None


@dataclass(frozen=True)
class Grid:
    """A sentence, headings, rows of cells [rows, columns], and notes below the table.

    `left_columns` are the numbers of the columns that are aligned left, the others are aligned right. A line is drawn below
    row `rule_after_row` (None: no line). `legends` explain signs, each a regular expression: it belongs to the title where a text
    has its sign.
    A terminal that is too narrow follows `narrowing_steps`, in this order: each is the heading of a column to leave out, or
    SHORTER_TEXTS, which takes shorter texts, and headings from `short_headings`.
    """

    headings: list[str]
    rows: list[list[TextCell]]
    notes: Sequence[Note] = ()
    title: str = ""
    conclusion: str = ""
    left_columns: frozenset[int] = frozenset({0})
    rule_after_row: int | None = None
    legends: Mapping[str, str] = field(default_factory=dict)
    narrowing_steps: Sequence[str] = ()
    short_headings: Mapping[str, str] = field(default_factory=dict)

    def caption(self, texts: Iterable[str] | None = None) -> str:
        """The title with the legends of what is in `texts` (None: in all texts of the grid)."""
        if texts is None:
            texts = [*self.headings, *(cell.text for row in self.rows for cell in row)]
        all_text = "\n".join(texts)
        return "; ".join(
            filter(None, [self.title, *(text for sign, text in self.legends.items() if re.search(sign, all_text))])
        )

    def numbers(self, columns: Sequence[int] | None = None) -> list[NotedNumber]:
        """The numbers that stand in these columns (None: in all), row by row."""
        visible_columns = range(len(self.headings)) if columns is None else columns
        return [number for row in self.rows for i in visible_columns if (number := row[i].number) is not None]


def printable_text(text: str) -> str:
    """The text on one line; characters that would move the cursor or turn the direction of the text around are replaced."""
    return "".join(
        character if character.isprintable() or character in _ALLOWED_FORMAT_CHARACTERS else "\ufffd"
        for character in text.replace("\n", " ").replace("\t", " ")
    )


def display_text(text: str) -> str:
    """The text as it may stand in one line of a table or below it.

    As `printable_text`; and words of right-to-left letters are isolated, so that the numbers and words beside them keep their
    order.
    """
    safe_text = printable_text(text)
    if safe_text.isascii():
        return safe_text
    pieces: list[str] = []
    start: int | None = None  # of the right-to-left words that are open
    end = 0
    for index, character in enumerate(safe_text):
        direction = unicodedata.bidirectional(character)
        if direction in _RIGHT_TO_LEFT:
            if start is None:
                pieces.append(safe_text[end:index])
                start = index
            end = index + 1
        elif direction == "L" and start is not None:
            pieces.append(f"{_ISOLATE}{safe_text[start:end]}{_END_OF_ISOLATE}")
            start = None
    if start is not None:
        pieces.append(f"{_ISOLATE}{safe_text[start:end]}{_END_OF_ISOLATE}")
    return "".join([*pieces, safe_text[end:]])


def format_p(p: float, level: float = SIGNIFICANCE_LEVEL) -> str:
    """A p-value in as many digits as a reader needs, and as tell it from `level`: 0.0547 is 0.055, not 0.05."""
    if p < min(1e-4, level):
        return "<0.0001"
    digits = 4 if p < 0.01 else 2
    while digits < 8 and p != level and (round(p, digits) == level or (round(p, digits) < level) != (p < level)):
        digits += 1
    return f"{p:.{digits}f}"


def format_percent(value: float | None, signed: bool = False) -> str:
    """A fraction of 1 as percent with two decimals, with its sign where `signed`; a dash for None."""
    return "–" if value is None else f"{100 * value:+.2f}" if signed else f"{100 * value:.2f}"


def format_score(value: float | None, stderr: float | None, interval: Sequence[float] | None) -> str:
    """A score, a fraction of 1, as percent with its standard error; a dash for None.

    Where all answers have the same score, the standard error is 0; then the text has the 95 % interval instead.
    """
    if value is None:
        return "–"
    if not stderr and interval:
        return f"{100 * value:.2f} [{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]"
    return f"{100 * value:.2f}" if not stderr else f"{100 * value:.2f} ± {100 * stderr:.2f}"


def shorter_score_texts(value: float | None, stderr: float | None, interval: Sequence[float] | None) -> tuple[str, ...]:
    """The text of `format_score` for a narrow terminal: first with one decimal, then without the error."""
    if value is None:
        return ()
    short_text = f"{100 * value:.1f}"
    if stderr:
        short_text += f"±{100 * stderr:.1f}"
    elif interval:
        # Where all scores are the same, a quarter of the interval stands for the error; the star says so.
        short_text += f"±{100 * (interval[1] - interval[0]) / 4:.1f}*"
    return short_text, f"{100 * value:.2f}"


def format_in_unit(value: float | None, unit: str, signed: bool = False) -> str:
    """As `format_percent` without a unit; with one, four decimals of a small value, and two of one from ten on."""
    if value is None or not unit:
        return format_percent(value, signed)
    decimals = 2 if abs(100 * value) >= _LEAST_VALUE_OF_TWO_DECIMALS else 4
    return f"{100 * value:{'+' if signed else ''}.{decimals}f}"


def format_detectable(difference: float, unit: str = "") -> str:
    """The smallest difference that would have been shown, a fraction of 1, in points; rounded up, so that it would have been.

    One with a unit is given in it, with three digits.
    """
    if unit:
        return (
            f"{100 * difference:,.0f}"
            if 100 * difference >= _LEAST_VALUE_WITHOUT_DECIMALS
            else f"{100 * difference:.3g}"
        )
    return f"{math.ceil(1000 * difference - 1e-9) / 10:.1f}"


def column_unit(fraction_unit: str, units: Iterable[str]) -> str:
    """The unit of a column, from those of its lines: `fraction_unit` for fractions of 1, whose unit is empty, else their own."""
    distinct_units = set(units)
    if len(distinct_units) <= 1:
        return "".join(distinct_units) or fraction_unit
    return f"{fraction_unit}, or the metric's own unit" if "" in distinct_units else "each metric's own unit"


def format_difference(value: float, stderr: float | None, is_shown: bool) -> str:
    """A difference, a fraction of 1, in points with its standard error; in parentheses where no difference is shown."""
    text = format_percent(value, signed=True) + ("" if stderr is None else f" ± {100 * stderr:.2f}")
    return text if is_shown else f"({text})"
