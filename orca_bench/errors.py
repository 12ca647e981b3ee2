"""The errors that a user can cause. Each is one line with what is wrong, where, and what would be right.

The command line prints a `UserError` as `error: …` on standard error and ends with exit code 2. Its own module because every
layer raises it; it imports no other module of the package.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

#: Where something is wrong: a file, `FILE:LINE`, an option or a key.
Where = str | Path


class UserError(Exception):
    """Something that the user can correct.

    `what` says what is wrong, `where` is the file, line or key, and `hint` says what would be right.
    """

    def __init__(self, what: str, *, where: Where | None = None, hint: str | None = None) -> None:
        self.what, self.where, self.hint = what, where, hint
        line = f"{where}: {what}" if where is not None else what
        if hint:
            line = f"{line}; {hint}"
        super().__init__(one_line(line))


class NotFinite(UserError):
    """A model gave NaN or infinity to the request of this number."""

    def __init__(self, number: int, value: float):
        self.number, self.value = number, value
        super().__init__(f"the model gave {value} to request {number}", hint="its weights are broken")


class OutOfTime(Exception):
    """The time that the user gave an evaluation is over, and answers are still to be computed."""


class Interrupted(Exception):
    """The user pressed Ctrl-C; `str()` says what was finished and where it lies. Exit code 130."""


def one_line(value: Any, length: int | None = None) -> str:
    """What a library raised or logged as one line, at most `length` characters of it."""
    return " ".join(str(value).split())[:length]


def check_choice(value: str, choices: Sequence[str], where: Where) -> None:
    """Raise UserError where a value is none of the choices; `where` is its option."""
    if value not in choices:
        raise UserError(f"{value!r} is not one of {', '.join(choices)}", where=where)


def spelling_hint(word: str, candidates: Iterable[str]) -> str | None:
    """A hint that names the known word most like `word`, or None where nothing is like it."""
    close_matches = difflib.get_close_matches(word, list(candidates), n=1, cutoff=0.5)
    return f"did you mean '{close_matches[0]}'?" if close_matches else None
