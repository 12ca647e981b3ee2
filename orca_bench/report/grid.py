"""A table of texts, as every report builds it before a form is chosen.

Nothing is computed here: reports fill a Grid, grid_formats.py renders it. Its own module because every report builds one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class TextCell:
    """One text, bold or not; `style` is a colour of the terminal, `short_text` the text for a terminal that is too narrow."""

    text: str
    bold: bool = False
    style: str = ""
    short_text: str = ""


@dataclass(frozen=True)
class Grid:
    """Headings, rows of cells [rows, columns], and notes below the table.

    `left_columns` are the numbers of the columns that are aligned left, the others are aligned right. A line is drawn below
    row `rule_after_row` (None: no line). A terminal that is too narrow leaves out the columns headed by
    `droppable_headings`, in this order, and takes headings from `short_headings`.
    """

    headings: list[str]
    rows: list[list[TextCell]]
    notes: list[str] = field(default_factory=list)
    title: str = ""
    left_columns: frozenset[int] = frozenset({0})
    rule_after_row: int | None = None
    droppable_headings: Sequence[str] = ()
    short_headings: Mapping[str, str] = field(default_factory=dict)


def format_p(p: float) -> str:
    """A p-value in as many digits as a reader needs."""
    return "<0.0001" if p < 1e-4 else f"{p:.4f}" if p < 0.01 else f"{p:.2f}"


def format_percent(value: float | None, signed: bool = False) -> str:
    """A fraction of 1 as percent with two decimals, with its sign where `signed`; a dash for None."""
    return "–" if value is None else f"{100 * value:+.2f}" if signed else f"{100 * value:.2f}"
