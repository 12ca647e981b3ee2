"""A Grid in, one of the forms that people read out: terminal, Markdown, LaTeX, HTML.

Every text is escaped for its form. Its own module because all reports share these forms. rich is imported when the terminal's
form is asked for.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from orca_bench.report.grid import Grid, TextCell

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
    from rich.table import Table

_UNLIMITED_WIDTH = 10_000  # characters


def to_rich(grid: Grid) -> RenderableType:
    """A rich renderable with the notes below the table; a narrow terminal gets fewer columns."""
    from rich.console import Group
    from rich.text import Text

    return Group(_FittingTable(grid), *(Text(f"• {note}", style="dim") for note in grid.notes))


class _FittingTable:
    """A table that drops columns and shortens cells until it fits the console; in the end, the first columns are folded."""

    def __init__(self, grid: Grid) -> None:
        self._grid = grid

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """rich's protocol: yields the widest table that fits, or the narrowest there is."""
        from rich.measure import Measurement

        for columns, use_short_texts in self._layouts():
            table = self._build_table(columns, use_short_texts)
            width = Measurement.get(console, options.update(max_width=_UNLIMITED_WIDTH), table).maximum
            if width <= options.max_width:
                break
        yield table

    def _layouts(self) -> Iterator[tuple[list[int], bool]]:
        """(columns, whether with short texts), from the whole table to the narrowest one."""
        column_sets = [list(range(len(self._grid.headings)))]
        for heading in self._grid.droppable_headings:
            column_sets.append([i for i in column_sets[-1] if self._grid.headings[i] != heading])
        has_short_texts = any(cell.short_text for row in self._grid.rows for cell in row)
        yield from ((columns, False) for columns in (column_sets[:2] if has_short_texts else column_sets))
        if has_short_texts:
            yield from ((columns, True) for columns in column_sets[1:])

    def _build_table(self, columns: list[int], use_short_texts: bool) -> Table:
        from rich import box
        from rich.table import Table
        from rich.text import Text

        grid = self._grid
        table = Table(
            title=grid.title or None, title_justify="left", box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0)
        )
        texts = [[(cell.short_text if use_short_texts else "") or cell.text for cell in row] for row in grid.rows]
        for i in columns:
            is_left, heading = i in grid.left_columns, grid.headings[i]
            heading = grid.short_headings.get(heading, heading) if use_short_texts else heading
            # A number is never cut: where nothing fits, names are folded.
            min_width = None if is_left else max([len(heading), *(len(row_texts[i]) for row_texts in texts)])
            table.add_column(
                Text(heading),
                justify="left" if is_left else "right",
                no_wrap=not is_left,
                min_width=min_width,
                overflow="fold",
            )
        for row_index, (row, row_texts) in enumerate(zip(grid.rows, texts, strict=True)):
            cells = [Text(row_texts[i], style="bold" if row[i].bold else row[i].style) for i in columns]
            table.add_row(*cells, end_section=row_index == grid.rule_after_row)
        return table


def to_markdown(grid: Grid) -> str:
    """GitHub's Markdown, with the notes as a list below the table."""
    alignments = "|".join("---" if i in grid.left_columns else "--:" for i in range(len(grid.headings)))
    rows = [_markdown_row([f"**{cell.text}**" if cell.bold else cell.text for cell in row]) for row in grid.rows]
    lines = [_markdown_row(grid.headings), f"|{alignments}|", *rows]
    return "\n".join([*lines, *([""] if grid.notes else []), *(f"- {note}" for note in grid.notes)]) + "\n"


def _markdown_row(texts: list[str]) -> str:
    return "| " + " | ".join(text.replace("|", "\\|").replace("\n", " ") for text in texts) + " |"


_LATEX_ESCAPES = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "Δ": r"$\Delta$",
    "–": "--",
    "−": "$-$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "≤": r"$\le$",
    "…": r"\ldots{}",
    "<": r"$<$",
    ">": r"$>$",
}


def to_latex(grid: Grid) -> str:
    """A `tabular` of the booktabs package, with title and notes as comments above it."""
    columns = "".join("l" if i in grid.left_columns else "r" for i in range(len(grid.headings)))
    lines = [f"% {note}" for note in [*filter(None, [grid.title]), *grid.notes]] + [r"% \usepackage{booktabs}"]
    lines += [
        rf"\begin{{tabular}}{{{columns}}}",
        r"  \toprule",
        _latex_row(map(_escape_latex, grid.headings)),
        r"  \midrule",
    ]
    for row_index, row in enumerate(grid.rows):
        lines.append(
            _latex_row(rf"\textbf{{{_escape_latex(c.text)}}}" if c.bold else _escape_latex(c.text) for c in row)
        )
        if row_index == grid.rule_after_row:
            lines.append(r"  \midrule")
    return "\n".join([*lines, r"  \bottomrule", r"\end{tabular}"]) + "\n"


def _latex_row(texts: Iterable[str]) -> str:
    return "  " + " & ".join(texts) + r" \\"


def _escape_latex(text: str) -> str:
    return "".join(_LATEX_ESCAPES.get(character, character) for character in text)


def to_html(grid: Grid) -> str:
    """A `table` element and its notes in a list, everything escaped; the only style is the alignment of each column."""
    lines = ["<table>", *([f"<caption>{html.escape(grid.title)}</caption>"] if grid.title else [])]
    headings = [html.escape(heading) for heading in grid.headings]
    lines += ["<thead>", _html_row(grid, headings, "th"), "</thead>", "<tbody>"]
    for row_index, row in enumerate(grid.rows):
        lines.append(_html_row(grid, [_html_text(cell) for cell in row], "td"))
        if row_index == grid.rule_after_row:
            lines += ["</tbody>", "<tbody>"]
    lines += ["</tbody>", "</table>"]
    if grid.notes:
        lines += ["<ul>", *(f"<li>{html.escape(note)}</li>" for note in grid.notes), "</ul>"]
    return "\n".join(lines) + "\n"


def _html_row(grid: Grid, texts: list[str], tag: str) -> str:
    cells = "".join(
        f'<{tag} style="text-align:{"left" if i in grid.left_columns else "right"}">{text}</{tag}>'
        for i, text in enumerate(texts)
    )
    return f"<tr>{cells}</tr>"


def _html_text(cell: TextCell) -> str:
    text = html.escape(cell.text)
    return f"<b>{text}</b>" if cell.bold else text
