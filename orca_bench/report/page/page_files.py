"""The files of the page's style sheet and script, in the order in which they are joined.

Its own module because the order matters: each script uses the names of those before it, all inside one function.
"""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path(__file__).parent
_STYLE_SHEETS = ("page.css", "tables.css", "questions.css", "print.css")
_SCRIPTS = ("basics.js", "unpack.js", "tables.js", "list.js", "search.js", "answers.js", "question.js", "start.js")


def style_sheet() -> str:
    """The whole style sheet."""
    return "".join(_read(name) for name in _STYLE_SHEETS)


def script() -> str:
    """The whole script: one function, so that it leaves no names behind."""
    return '"use strict";\n(() => {\n' + "".join(_read(name) for name in _SCRIPTS) + "})();\n"


def questions_section() -> str:
    """The section of the questions, which the script fills."""
    return _read("questions.html")


def _read(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")
