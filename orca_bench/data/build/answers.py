"""What became of a request and of an attempt, and what was spent: what a ledger, a teacher and an output share.

Its own module because whoever reads a reply or writes a record needs these, and no table.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final, Literal, get_args

from orca_bench.data.build.prices import Usage

#: What became of a request.
Outcome = Literal["answered", "truncated", "refused", "filtered", "empty", "unfinished", "rejected", "failed"]
#: All of them, in the order in which they are shown.
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
#: What the next build asks again: `failed`, which may have been given up too early, and `rejected`, which the teacher does not
#: take (it is too long) and does not bill. A build with requests of the second kind is complete all the same: asking again helps
#: only where the teacher has changed.
RETRYABLE_OUTCOMES: tuple[Outcome, ...] = ("rejected", "failed")

#: What became of an attempt. One that is `unknown, possibly paid` alone may have been paid without its tokens being known.
AttemptState = Literal["in flight", "in a batch", "answered", "failed", "unknown, possibly paid"]
IN_FLIGHT_STATE: Final = "in flight"
IN_BATCH_STATE: Final = "in a batch"  # which stays at the server when the build ends
ANSWERED_STATE: Final = "answered"
FAILED_STATE: Final = "failed"
UNKNOWN_STATE: Final = "unknown, possibly paid"


@dataclass(frozen=True)
class Answer:
    """What became of a request, as far as the teacher answered.

    Attributes:
        outcome: What it counts as.
        text: The answer without thinking; empty where there is none.
        reasoning: The thinking of a reasoning model, None where there is none.
        finish_reason: Why the teacher stopped, in its own word.
        model: The model's name as the teacher gives it.
        prompt_tokens: Tokens of the messages by the teacher's count, None where it does not tell.
        completion_tokens: Tokens of answer and thinking, likewise.
        dollars: Price of the attempt that gave the answer; its worst case where the tokens are not known.
        error: What went wrong where the teacher gave no answer; None of every answer that it gave.
    """

    outcome: Outcome
    text: str = ""
    reasoning: str | None = None
    finish_reason: str | None = None
    model: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    dollars: float = 0.0
    error: str | None = None

    @property
    def is_unmetered(self) -> bool:
        """Whether the teacher replied without both counts of tokens, so that the worst case is the price."""
        return self.error is None and not Usage(self.prompt_tokens, self.completion_tokens).is_known


@dataclass
class Spending:
    """What was spent: `dollars` and tokens of all attempts that the teacher counted, failed ones included.

    `unknown_attempts` may have been paid besides, with `unknown_dollars` at most. `unmetered_answers` (`Answer.is_unmetered`) are
    in `dollars` with their worst case. `requests_by_outcome` counts requests.
    """

    requests_by_outcome: Counter[str] = field(default_factory=Counter)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    dollars: float = 0.0
    unknown_attempts: int = 0
    unknown_dollars: float = 0.0
    unmetered_answers: int = 0
