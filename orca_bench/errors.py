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

    `problem` says what is wrong, `where` is the file, line or key, and `hint` says what would be right.
    """

    def __init__(self, problem: str, *, where: Where | None = None, hint: str | None = None) -> None:
        self.problem, self.where, self.hint = problem, where, hint
        message = f"{where}: {problem}" if where is not None else problem
        if hint:
            message = f"{message}; {hint}"
        super().__init__(one_line(message))


class WriteError(UserError):
    """The operating system does not take a file: no permission, no space, no such folder."""


class NotFinite(UserError):
    """A model gave NaN or infinity to the request of this number."""

    def __init__(self, request_number: int, value: float):
        self.request_number, self.value = request_number, value
        super().__init__(f"the model gave {value} to request {request_number}", hint="its weights are broken")


class OutOfTime(Exception):
    """The time that the user gave an evaluation is over, and answers are still to be computed."""


class Interrupted(Exception):
    """The user pressed Ctrl-C; `str()` says what was finished and where it lies. Exit code 130."""


def one_line(error_or_text: Any, max_length: int | None = None) -> str:
    """What a library raised or logged as one line, at most `max_length` characters of it."""
    return " ".join(str(error_or_text).split())[:max_length]


def check_choice(chosen_value: str, choices: Sequence[str], where: Where) -> None:
    """Raise UserError where a value is none of the choices; `where` is its option."""
    if chosen_value not in choices:
        raise UserError(f"{chosen_value!r} is not one of {', '.join(choices)}", where=where)


def spelling_hint(word: str, known_words: Iterable[str], n: int = 1, prefix: str = "") -> str | None:
    """A hint that names the `n` known words most like `word`, each after `prefix`, or None where nothing is like it."""
    close_matches = difflib.get_close_matches(word, [*dict.fromkeys(known_words)], n=n, cutoff=0.5)
    quoted_words = [f"'{prefix}{match}'" for match in close_matches]
    return f"did you mean {' or '.join(quoted_words)}?" if quoted_words else None


def join_names(names: Sequence[str], most: int) -> str:
    """The first `most` names, and how many more there are: a, b and 3 more."""
    more_text = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more_text
