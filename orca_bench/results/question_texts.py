"""The words of a question, as reports show them: what was asked, the choices, and the requests as they were sent.

A result keeps answers and no words, so these come from the benchmark's rows (evaluate/reconstructed_requests.py makes them).
Its own module because evaluation makes them and reports show them, and neither imports the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

#: (context, continuation or None, stop strings) of a request.
RequestTexts: TypeAlias = tuple[str, str | None, Sequence[str]]


@dataclass(frozen=True)
class QuestionTexts:
    """The words of one question, as a person reads them, and its requests, as a model did.

    `passage` is the text that the question is about, empty where there is none. `choices` are those that the score is computed
    from, in order; they belong to the last answers of the question (the leaderboard's TruthfulQA has mc1's before them).
    `requests` is empty where the requests cannot be made again.
    """

    question: str
    passage: str = ""
    choices: tuple[str, ...] = ()
    requests: tuple[RequestTexts, ...] = ()


#: Gives the texts of a question by task part and row number; None where they are not known.
QuestionTextsLookup: TypeAlias = Callable[[str, int], QuestionTexts | None]
