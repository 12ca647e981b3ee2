"""A Grid in, one of the formats that people paste elsewhere out: Markdown, LaTeX, HTML.

Every text is escaped for its format. A note on single numbers is a letter on them, explained below the table. Its own module
because all reports share these formats; the terminal's is in grid_terminal.py.
"""

from __future__ import annotations

import html
from collections.abc import Collection, Iterable

from orca_bench.cards import markdown
from orca_bench.report.grid import Grid, TextCell, display_text, printable_text
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


def to_markdown(grid: Grid, kinds: Collection[NoteKind] = DEFAULT_KINDS) -> str:
    """GitHub's Markdown: the sentence, the table, and the notes of these kinds as a list below it.

    A grid without columns is its sentence alone, here and in the other formats.
    """
    notes, badge_by_number = _notes_and_badges(grid, kinds)
    alignments = "|".join("---" if i in grid.left_columns else "--:" for i in range(len(grid.headings)))
    rows = [_markdown_row([_markdown_cell(cell, badge_by_number) for cell in row]) for row in grid.rows]
    lines = [markdown_line(grid.conclusion), ""] if grid.conclusion else []
    if not grid.headings:
        return "\n".join(lines)
    caption = grid.caption()
    lines += [_markdown_row([markdown_cell(heading) for heading in grid.headings]), f"|{alignments}|", *rows]
    lines += ([""] if notes or caption else []) + ([f"- {markdown_line(caption)}"] if caption else [])
    lines += [
        f"- {f'{superscript(letter)} ' if letter else ''}{markdown_line(footnote_text(note))}"
        for letter, note in zip(badge_letters(notes), notes, strict=True)
    ]
    return "\n".join(lines) + "\n"


def _notes_and_badges(grid: Grid, kinds: Collection[NoteKind]) -> tuple[list[Note], dict[NotedNumber, str]]:
    notes = select_notes(grid.notes, grid.numbers(), grid.headings, kinds)
    return notes, number_badges(notes)


def _badge(cell: TextCell, badge_by_number: dict[NotedNumber, str]) -> str:
    return "" if cell.number is None else badge_by_number.get(cell.number, "")


def _markdown_cell(cell: TextCell, badge_by_number: dict[NotedNumber, str]) -> str:
    text, badge = markdown_cell(cell.text), superscript(_badge(cell, badge_by_number))
    text = f"**{text}**" if cell.bold else text
    return f"{text} {badge}" if badge else text


def _markdown_row(texts: list[str]) -> str:
    return "| " + " | ".join(texts) + " |"


def markdown_line(text: str) -> str:
    """A line of any text as Markdown that shows exactly it."""
    return markdown.escape(display_text(text))


def markdown_cell(text: str) -> str:
    """Any text as the cell of a table, or as a part of a line, in Markdown that shows exactly it."""
    return markdown.escape(display_text(text), begins_block=False)


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
    "\ufffd": "?",
}


def to_latex(grid: Grid, kinds: Collection[NoteKind] = DEFAULT_KINDS) -> str:
    """A `tabular` of the booktabs package; sentence, title and notes on whole results are comments above it.

    Notes on single numbers stand below it as text.
    """
    notes, badge_by_number = _notes_and_badges(grid, kinds)
    letters = badge_letters(notes)
    comments = [grid.conclusion, grid.caption()]
    comments += [footnote_text(note) for letter, note in zip(letters, notes, strict=True) if not letter]
    columns = "".join("l" if i in grid.left_columns else "r" for i in range(len(grid.headings)))
    lines = [f"% {display_text(comment)}" for comment in filter(None, comments)]
    if not grid.headings:
        return "\n".join(lines) + "\n"
    lines.append(r"% \usepackage{booktabs}")
    lines += [
        rf"\begin{{tabular}}{{{columns}}}",
        r"  \toprule",
        _latex_row(map(_escape_latex, grid.headings)),
        r"  \midrule",
    ]
    for row_index, row in enumerate(grid.rows):
        lines.append(_latex_row(_latex_cell(cell, _badge(cell, badge_by_number)) for cell in row))
        if row_index == grid.rule_after_row:
            lines.append(r"  \midrule")
    lines += [r"  \bottomrule", r"\end{tabular}"]
    lines += [
        rf"\par{{\footnotesize\textsuperscript{{{letter}}} {_escape_latex(note.text)}}}"
        for letter, note in zip(letters, notes, strict=True)
        if letter
    ]
    return "\n".join(lines) + "\n"


def _latex_cell(cell: TextCell, badge: str) -> str:
    text = rf"\textbf{{{_escape_latex(cell.text)}}}" if cell.bold else _escape_latex(cell.text)
    return rf"{text}\textsuperscript{{{badge}}}" if badge else text


def _latex_row(texts: Iterable[str]) -> str:
    return "  " + " & ".join(texts) + r" \\"


def _escape_latex(text: str) -> str:
    """The text on one line, in which nothing is a command."""
    return "".join(_LATEX_ESCAPES.get(character, character) for character in printable_text(text))


def to_html(grid: Grid, kinds: Collection[NoteKind] = DEFAULT_KINDS) -> str:
    """The sentence, a `table` element and its notes in a list, everything escaped; the only style is the alignment."""
    notes, badge_by_number = _notes_and_badges(grid, kinds)
    letters = badge_letters(notes)
    text_by_letter = {letter: note.text for letter, note in zip(letters, notes, strict=True)}
    lines = [f"<p>{_escape_html(grid.conclusion)}</p>"] if grid.conclusion else []
    if not grid.headings:
        return "\n".join(lines) + "\n"
    caption = grid.caption()
    lines += ["<table>", *([f"<caption>{_escape_html(caption)}</caption>"] if caption else [])]
    lines += [
        "<thead>",
        _html_row(grid, [_escape_html(heading) for heading in grid.headings], "th"),
        "</thead>",
        "<tbody>",
    ]
    for row_index, row in enumerate(grid.rows):
        lines.append(
            _html_row(grid, [_html_cell(cell, _badge(cell, badge_by_number), text_by_letter) for cell in row], "td")
        )
        if row_index == grid.rule_after_row:
            lines += ["</tbody>", "<tbody>"]
    lines += ["</tbody>", "</table>"]
    if notes:
        items = [
            f"<li>{f'<sup>{letter}</sup> ' if letter else ''}{_escape_html(footnote_text(note))}</li>"
            for letter, note in zip(letters, notes, strict=True)
        ]
        lines += ["<ul>", *items, "</ul>"]
    return "\n".join(lines) + "\n"


def _html_row(grid: Grid, texts: list[str], tag: str) -> str:
    cells = "".join(
        f'<{tag} style="text-align:{"left" if i in grid.left_columns else "right"}">{text}</{tag}>'
        for i, text in enumerate(texts)
    )
    return f"<tr>{cells}</tr>"


def _html_cell(cell: TextCell, badge: str, text_by_letter: dict[str, str]) -> str:
    text = _escape_html(cell.text)
    if cell.bold:
        text = f"<b>{text}</b>"
    if not badge:
        return text
    explanation = "; ".join(text_by_letter[letter] for letter in badge.split(","))
    return f'{text}<sup title="{_escape_html(explanation)}">{badge}</sup>'


def _escape_html(text: str) -> str:
    return html.escape(display_text(text))


def escape_html(text: str) -> str:
    """Any text on one line as HTML that shows exactly it; a page isolates right-to-left names by its own elements."""
    return html.escape(printable_text(text))
