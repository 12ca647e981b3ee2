"""Texts from anywhere in, Markdown that shows them as they are out: no text of a name, a path or a recipe becomes markup.

Its own module because every section of a card has such texts, and a card is read in a browser.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

#: An interval of numbers that no address follows is no link, and is easier to read without backslashes.
_INTERVAL = r"\[\d+\.\d, \d+\.\d\](?![(\[:])"
_INLINE_MARKUP = re.compile(rf"{_INTERVAL}|[\\`*\[\]|~$]|(?<!\w)_|_(?!\w)")
_MARKUP = re.compile(rf"{_INLINE_MARKUP.pattern}|^[#+=-]|^\d+(?=[.)])")
_BIDI_CONTROLS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def one_line(text: str) -> str:
    """A text on one line, without characters that steer a terminal or the direction of the text around it."""
    characters = (
        " " if unicodedata.category(character) in ("Cc", "Zl", "Zp", "Cs") else character
        for character in text
        if character not in _BIDI_CONTROLS
    )
    return " ".join("".join(characters).split())


def plain(text: str) -> str:
    """A text as Markdown that shows exactly it."""
    return escape(one_line(text))


def escape(line: str, *, begins_block: bool = True) -> str:
    """A line as Markdown in which nothing is HTML, a link, an image, code or stress; a sign in a table's cell begins no block."""
    html_text = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return (_MARKUP if begins_block else _INLINE_MARKUP).sub(_escaped, html_text)


def _escaped(match: re.Match[str]) -> str:
    markup = match.group()
    if len(markup) > 1 and not markup.isdecimal():
        return markup
    return f"{markup}\\" if markup.isdecimal() else f"\\{markup}"  # `1.` at the beginning is no list


def code(text: str) -> str:
    """A text as a code span, also within a table."""
    content = one_line(text).replace("|", "\\|") or " "
    fence = "`" * (1 + max((len(run) for run in re.findall(r"`+", content)), default=0))
    padding = " " if content.startswith("`") or content.endswith("`") else ""
    return f"{fence}{padding}{content}{padding}{fence}"


def code_block(text: str, language: str = "") -> str:
    """A text of several lines as a fenced block of code, with a line end after the block."""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", text)), default=0))
    return f"{fence}{language}\n{text}{'' if text.endswith(chr(10)) else chr(10)}{fence}\n"


def folded(summary: str, content: str) -> str:
    """Markdown that is folded away below a line; `summary` is text, `content` Markdown."""
    return f"<details>\n<summary>{plain(summary)}</summary>\n\n{content}\n</details>\n"


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], right_columns: Iterable[int] = ()) -> str:
    """A table of cells that are Markdown already; the columns in `right_columns` are aligned right."""
    right = frozenset(right_columns)
    rule = "|".join("--:" if number in right else "---" for number in range(len(headings)))
    lines = [f"| {' | '.join(headings)} |", f"|{rule}|", *(f"| {' | '.join(row)} |" for row in rows)]
    return "\n".join(lines) + "\n"


def bullets(lines: Iterable[str]) -> str:
    """A list of lines that are Markdown already."""
    return "".join(f"- {line}\n" for line in lines)
