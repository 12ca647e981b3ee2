"""A Grid in, what a terminal shows out: a sentence, a table that fits its width, and a few notes.

A narrow terminal first loses what decorates, by the grid's own list, and last of all an error; a score and a verdict never. What
was left out is said in one short line, and no note explains what is not shown. Its own module because only the terminal has a
width. rich is imported when the table is printed.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from orca_bench.counts import counted
from orca_bench.report.grid import SHORTER_TEXTS, Grid, TextCell, display_text
from orca_bench.report.notes import (
    DEFAULT_KINDS,
    Note,
    NotedNumber,
    NoteKind,
    badge_letters,
    footnote_text,
    number_badges,
    select_notes,
    superscript,
)

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
    from rich.table import Table

_UNLIMITED_WIDTH = 10_000  # characters
_NARROWEST_HEADING = 10  # characters
_SHORTEST_NAME = 16  # characters, of a row's title that is folded
_LONGEST_WORD = 16  # characters, of a heading that is not folded inside a word
_MOST_NOTE_LINES = 5
_WIDEST_SENTENCE = 120  # characters: longer lines are hard to read


def to_rich(
    grid: Grid,
    kinds: Collection[NoteKind] = DEFAULT_KINDS,
    all_notes: bool = False,
    notes_option: str = "--notes",
) -> RenderableType:
    """A rich renderable of a grid, with the notes of these kinds: five lines of them, or `all_notes`.

    Notes that are always shown have lines of their own. `notes_option` is what a user types for all notes.
    """
    return _TerminalGrid(grid, kinds, all_notes, notes_option)


@dataclass(frozen=True)
class _Layout:
    """The columns of a table, and how often its texts were shortened (0: not)."""

    columns: list[int]
    shortness: int
    wraps_headings: bool = False


class _TerminalGrid:
    """A grid that fits the console's width."""

    def __init__(self, grid: Grid, kinds: Collection[NoteKind], all_notes: bool, notes_option: str) -> None:
        self._grid, self._kinds, self._all_notes, self._notes_option = grid, kinds, all_notes, notes_option

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """rich's protocol: yields the sentence, the widest table that fits, or the narrowest there is, and the notes."""
        from rich.text import Text

        grid, width = self._grid, options.max_width
        if grid.conclusion:
            for line in _wrapped(display_text(grid.conclusion), min(width, _WIDEST_SENTENCE), console):
                yield Text(line, style="bold")
            yield Text("")
        if not grid.headings:
            return
        layout, table, notes, hidden_note_count = self._fitting_table(console, options)
        texts = [text for i in layout.columns for text in _column_texts(grid, i, layout.shortness, {})]
        caption = grid.caption([*(grid.headings[i] for i in layout.columns), *texts])
        if caption:
            for line in _wrapped(display_text(caption), width, console):
                yield Text(line, style="italic")
        yield from self._tables(table, layout, number_badges(notes), console, options)
        for letter, note in zip(badge_letters(notes), notes, strict=True):
            for line in _hanging(letter or "•", footnote_text(note), width, console):
                yield Text(line, style="yellow" if note.kind == "warning" else "dim")
        remark = self._left_out_text(layout, width, hidden_note_count)
        if remark:
            for line in _hanging("…", remark, width, console):
                yield Text(line, style="dim")

    def _fitting_table(self, console: Console, options: ConsoleOptions) -> tuple[_Layout, Table, list[Note], int]:
        for layout in self._layouts():
            notes, hidden_note_count = self._notes(layout, options.max_width, console)
            table = self._build_table(layout, number_badges(notes))
            if self._width(table, console, options) <= options.max_width:
                break
        return layout, table, notes, hidden_note_count

    def _tables(
        self, table: Table, layout: _Layout, badges: dict[NotedNumber, str], console: Console, options: ConsoleOptions
    ) -> Iterator[RenderableType]:
        """The table, or, where even the narrowest is too wide, its columns in several tables one below the other."""
        names_width = self._names_width(layout)
        if self._width(table, console, options) - names_width <= options.max_width:
            yield table
            return
        row_title, *columns = layout.columns
        block: list[int] = []
        for column in columns:
            wider_table = self._build_table(replace(layout, columns=[row_title, *block, column]), badges)
            if block and self._width(wider_table, console, options) - names_width > options.max_width:
                yield self._build_table(replace(layout, columns=[row_title, *block]), badges)
                yield ""
                block = []
            block.append(column)
        yield self._build_table(replace(layout, columns=[row_title, *block]), badges)

    def _names_width(self, layout: _Layout) -> int:
        """How many characters the row titles can lose by being folded; where nothing fits, rich folds them."""
        titles = _column_texts(self._grid, layout.columns[0], layout.shortness, {})
        return max(0, max(map(len, titles), default=0) - _SHORTEST_NAME)

    @staticmethod
    def _width(table: Table, console: Console, options: ConsoleOptions) -> int:
        """The width that a table needs, in characters."""
        from rich.measure import Measurement

        return Measurement.get(console, options.update(max_width=_UNLIMITED_WIDTH), table).maximum

    def _layouts(self) -> Iterator[_Layout]:
        """From the whole table to the narrowest one."""
        layout = _Layout(list(range(len(self._grid.headings))), 0)
        yield layout
        layout = _Layout(layout.columns, 0, wraps_headings=True)
        yield layout
        for step in self._grid.narrowing_steps:
            if step == SHORTER_TEXTS:
                layout = _Layout(layout.columns, layout.shortness + 1, True)
            else:
                columns = [i for i in layout.columns if self._grid.headings[i] != step]
                if columns == layout.columns:
                    continue
                layout = _Layout(columns, layout.shortness, True)
            yield layout

    def _notes(self, layout: _Layout, width: int, console: Console) -> tuple[list[Note], int]:
        """The notes to show, warnings first, and how many found no place in five lines; these are beside those always shown."""
        headings = [self._grid.headings[i] for i in layout.columns]
        candidates = select_notes(self._grid.notes, self._grid.numbers(layout.columns), headings, self._kinds)
        hidden_count = 0
        if not self._all_notes:
            remaining_lines = _MOST_NOTE_LINES - bool(self._left_out_text(layout, width, 0))
            line_counts = [
                0 if note.is_always_shown else len(list(_hanging("•", footnote_text(note), width, console)))
                for note in candidates
            ]
            if sum(line_counts) > remaining_lines:
                remaining_lines = _MOST_NOTE_LINES - 1
                visible_notes = []
                for note, line_count in zip(candidates, line_counts, strict=True):
                    if line_count <= remaining_lines:
                        visible_notes.append(note)
                        remaining_lines -= line_count
                hidden_count = len(candidates) - len(visible_notes)
                candidates = visible_notes
        return candidates, hidden_count

    def _left_out_text(self, layout: _Layout, width: int, hidden_note_count: int) -> str:
        """What this terminal does not show, in a few words."""
        headings = [self._grid.headings[i] for i in range(len(self._grid.headings)) if i not in layout.columns]
        parts = []
        if headings:
            parts.append(
                f"left out at {width} columns: {', '.join(dict.fromkeys(headings))} (--format markdown has all)"
            )
        elif layout.shortness:
            parts.append(f"shortened to {width} columns (--format markdown has all)")
        if hidden_note_count:
            parts.append(f"{counted(hidden_note_count, 'more note')}: {self._notes_option}")
        return "; ".join(parts)

    def _build_table(self, layout: _Layout, badges: dict[NotedNumber, str]) -> Table:
        from rich import box
        from rich.cells import cell_len
        from rich.table import Table
        from rich.text import Text

        grid = self._grid
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
        texts_by_column = {i: _column_texts(grid, i, layout.shortness, badges) for i in layout.columns}
        for i in layout.columns:
            is_left, heading = i in grid.left_columns, display_text(grid.headings[i])
            if layout.shortness:
                heading = grid.short_headings.get(heading, heading)
            text_width = max((cell_len(text) for text in texts_by_column[i]), default=0)
            if layout.wraps_headings and not is_left:
                heading = _folded_heading(heading, max(text_width, _NARROWEST_HEADING))
            # A number is never cut: where nothing fits, names are folded.
            width = max(text_width, *map(cell_len, heading.split("\n")))
            if not is_left:
                # Aligned here, for rich strips the spaces that stand in the place of a badge or a parenthesis.
                heading = "\n".join(_aligned_right(line, width) for line in heading.split("\n"))
                texts_by_column[i] = [_aligned_right(text, width) for text in texts_by_column[i]]
            table.add_column(
                Text(heading),
                no_wrap=not is_left,
                min_width=None if is_left else width,
                overflow="fold",
                vertical="bottom",
            )
        for row_index, row in enumerate(grid.rows):
            cells = [
                Text(texts_by_column[i][row_index], style="bold" if row[i].bold else row[i].style)
                for i in layout.columns
            ]
            table.add_row(*cells, end_section=row_index == grid.rule_after_row)
        return table


def _column_texts(grid: Grid, column: int, shortness: int, badges: dict[NotedNumber, str]) -> list[str]:
    """The texts of a column with their badges, which have a place of their own, so that digits stay below one another."""
    cells = [row[column] for row in grid.rows]
    texts = [_shortened(cell, shortness) for cell in cells]
    if column not in grid.left_columns and any(text.endswith(")") for text in texts):
        texts = [text if text.endswith(")") else f"{text} " for text in texts]
    cell_badges = [superscript(badges.get(cell.number, "")) if cell.number else "" for cell in cells]
    badge_width = max(map(len, cell_badges), default=0)
    return [
        text + (f" {badge.ljust(badge_width)}" if badge_width else "")
        for text, badge in zip(texts, cell_badges, strict=True)
    ]


def _aligned_right(text: str, width: int) -> str:
    from rich.cells import cell_len

    return " " * (width - cell_len(text)) + text


def _shortened(cell: TextCell, shortness: int) -> str:
    if not shortness or not cell.shorter_texts:
        return display_text(cell.text)
    return display_text(cell.shorter_texts[min(shortness, len(cell.shorter_texts)) - 1])


def _folded_heading(heading: str, width: int) -> str:
    """The heading in lines of at most `width` characters, folded after a space, -, _, / or dot where there is one."""
    if heading.startswith("\u2068"):
        return heading  # a right-to-left name stays in one piece, isolated
    lines = [""]
    for piece in re.findall(r"[^\s\-_/.]*[\s\-_/.]?", heading):
        if lines[-1] and len(lines[-1]) + len(piece.rstrip()) > width:
            lines.append("")
        lines[-1] += piece
        while len(lines[-1].rstrip()) > max(width, _LONGEST_WORD):
            lines[-1:] = [lines[-1][:_LONGEST_WORD], lines[-1][_LONGEST_WORD:]]
    return "\n".join(line.strip() for line in lines)


def _hanging(mark: str, text: str, width: int, console: Console) -> Iterator[str]:
    """The lines of a note: its mark, its text, and the text's further lines below the text."""
    indent = " " * (len(mark) + 1)
    for index, line in enumerate(_wrapped(display_text(text), max(20, width - len(indent)), console)):
        yield f"{indent if index else f'{mark} '}{line}"


def _wrapped(text: str, width: int, console: Console) -> Sequence[str]:
    from rich.text import Text

    return [line.plain.rstrip() for line in Text(text).wrap(console, width)]
