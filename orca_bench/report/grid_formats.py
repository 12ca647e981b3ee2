"""One grid of texts in the forms that people read: terminal, Markdown, LaTeX, HTML."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Cell:
    """A text, bold or not, in a colour of the terminal or in none; `short` stands for it where there is no room."""

    text: str
    bold: bool = False
    style: str = ""
    short: str = ""


@dataclass(frozen=True)
class Grid:
    """Headings, rows of cells, and notes below.

    `left` are the columns that begin at the left; a line is drawn behind row `rule` (None: nowhere). `spare` are headings of
    columns that a terminal which is too narrow does without, in this order; `shorts` are headings in short.
    """

    headings: list[str]
    rows: list[list[Cell]]
    notes: list[str] = field(default_factory=list)
    title: str = ""
    left: frozenset[int] = frozenset({0})
    rule: int | None = None
    spare: Sequence[str] = ()
    shorts: Mapping[str, str] = field(default_factory=dict)


def p_value(p: float) -> str:
    """A p in as many digits as a reader needs."""
    return "<0.0001" if p < 1e-4 else f"{p:.4f}" if p < 0.01 else f"{p:.2f}"


def to_rich(grid: Grid):
    """A rich renderable, notes below it; a narrow terminal gets fewer columns."""
    from rich.console import Group
    from rich.text import Text

    return Group(_Fitting(grid), *(Text(f"• {note}", style="dim") for note in grid.notes))


class _Fitting:
    """A table that leaves columns out, and says cells in short, until it fits the console; at last, first columns are folded."""

    def __init__(self, grid: Grid):
        self._grid = grid

    def __rich_console__(self, console, options):
        from rich.measure import Measurement

        for kept, short in self._attempts():
            drawn = self._drawn(kept, short)
            if Measurement.get(console, options.update(max_width=10_000), drawn).maximum <= options.max_width:
                break
        yield drawn

    def _attempts(self) -> Iterator[tuple[list[int], bool]]:
        """(columns, whether in short): from the whole table to the least of it."""
        fewer = [list(range(len(self._grid.headings)))]
        for name in self._grid.spare:
            fewer.append([i for i in fewer[-1] if self._grid.headings[i] != name])
        shorter = any(cell.short for row in self._grid.rows for cell in row)
        whole = fewer[:2] if shorter else fewer
        yield from ((kept, False) for kept in whole)
        if shorter:
            yield from ((kept, True) for kept in fewer[1:])

    def _drawn(self, kept: list[int], short: bool):
        from rich import box
        from rich.table import Table
        from rich.text import Text

        grid = self._grid
        drawn = Table(
            title=grid.title or None, title_justify="left", box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0)
        )
        said = [[(cell.short if short else "") or cell.text for cell in row] for row in grid.rows]
        for i in kept:
            left, heading = i in grid.left, grid.headings[i]
            heading = grid.shorts.get(heading, heading) if short else heading
            # A number is never cut: where nothing fits, names are folded.
            least = None if left else max([len(heading), *(len(texts[i]) for texts in said)])
            drawn.add_column(
                Text(heading),
                justify="left" if left else "right",
                no_wrap=not left,
                min_width=least,
                overflow="fold",
            )
        for number, (row, texts) in enumerate(zip(grid.rows, said, strict=True)):
            cells = [Text(texts[i], style="bold" if row[i].bold else row[i].style) for i in kept]
            drawn.add_row(*cells, end_section=number == grid.rule)
        return drawn


def to_markdown(grid: Grid) -> str:
    """GitHub's Markdown, notes as a list below."""

    def row(cells: list[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"

    rule = "|" + "|".join("---" if i in grid.left else "--:" for i in range(len(grid.headings))) + "|"
    rows = [row([f"**{cell.text}**" if cell.bold else cell.text for cell in cells]) for cells in grid.rows]
    lines = [row(grid.headings), rule, *rows]
    return "\n".join([*lines, *([""] if grid.notes else []), *(f"- {note}" for note in grid.notes)]) + "\n"


_LATEX = {
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
    """A tabular of the booktabs package, notes as comments above it."""

    def row(cells: list[str]) -> str:
        return "  " + " & ".join(cells) + r" \\"

    columns = "".join("l" if i in grid.left else "r" for i in range(len(grid.headings)))
    lines = [f"% {note}" for note in [*filter(None, [grid.title]), *grid.notes]] + [r"% \usepackage{booktabs}"]
    lines += [rf"\begin{{tabular}}{{{columns}}}", r"  \toprule", row([_latex(h) for h in grid.headings]), r"  \midrule"]
    for number, cells in enumerate(grid.rows):
        lines.append(row([rf"\textbf{{{_latex(c.text)}}}" if c.bold else _latex(c.text) for c in cells]))
        if number == grid.rule:
            lines.append(r"  \midrule")
    return "\n".join([*lines, r"  \bottomrule", r"\end{tabular}"]) + "\n"


def _latex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)


def to_html(grid: Grid) -> str:
    """A table element with its notes in a list, everything escaped; no style but the side of each column."""

    def row(cells: list[str], tag: str) -> str:
        made = "".join(
            f'<{tag} style="text-align:{"left" if i in grid.left else "right"}">{cell}</{tag}>'
            for i, cell in enumerate(cells)
        )
        return f"<tr>{made}</tr>"

    lines = ["<table>", *([f"<caption>{html.escape(grid.title)}</caption>"] if grid.title else [])]
    lines += ["<thead>", row([html.escape(h) for h in grid.headings], "th"), "</thead>", "<tbody>"]
    for number, cells in enumerate(grid.rows):
        texts = [html.escape(cell.text) for cell in cells]
        lines.append(row([f"<b>{t}</b>" if c.bold else t for t, c in zip(texts, cells, strict=True)], "td"))
        if number == grid.rule:
            lines += ["</tbody>", "<tbody>"]
    lines += ["</tbody>", "</table>"]
    if grid.notes:
        lines += ["<ul>", *(f"<li>{html.escape(note)}</li>" for note in grid.notes), "</ul>"]
    return "\n".join(lines) + "\n"
