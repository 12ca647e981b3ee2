"""What is asked of the batch scheduler and what it delivers: requests and events in token ids, without text and without HTTP.

Its own module because whoever sends requests or reads events needs these classes and no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from orca_bench.serve.sampling import Sampling

#: The most likeliest tokens that come with a score; OpenAI's API has the same bound for chats.
MAX_TOP_TOKENS = 20


@dataclass(frozen=True)
class TokenRequest:
    """What is computed for one request.

    `prompt_ids` are at least one id, as they are fed to the model, BOS included. At most `max_new_tokens` follow; 0 scores the
    prompt alone. `sampling` says how they are chosen; its own `max_new_tokens` is ignored. With each score come the `top_count`
    likeliest tokens. With `scores_prompt` the tokens of the prompt are scored too.
    """

    prompt_ids: Sequence[int]
    max_new_tokens: int
    sampling: Sampling
    top_count: int = 0
    scores_prompt: bool = False


@dataclass(frozen=True)
class TokenScore:
    """A token and its log-probability in nats, by the model's own distribution: before temperature, top-k and top-p.

    `top` has the likeliest tokens in its place, (id, log-probability), best first.
    """

    token_id: int
    log_probability: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class PromptScores:
    """The scores of a prompt's tokens, in order; None for the first, which nothing precedes."""

    scores: list[TokenScore | None]


#: Why a request has ended.
EndReason = Literal["stop", "length", "cancelled"]


@dataclass(frozen=True)
class RequestEnd:
    """The last event of a request.

    `reason` is "stop" (the model chose a token that ends a text), "length" (`max_new_tokens` are there) or "cancelled", also
    where `error` says what went wrong. Of the `prompt_tokens`, `cached_tokens` were not computed, since an earlier or another
    request began as this one does. `new_tokens` were delivered. `stop_score` is the score of the token that ended the text, which
    is not one of them; None where it was ended otherwise.
    """

    reason: EndReason
    error: str | None
    prompt_tokens: int
    cached_tokens: int
    new_tokens: int
    stop_score: TokenScore | None = None


#: What is delivered for a request: PromptScores where they are wanted, a TokenScore for each new token, a RequestEnd.
Event = PromptScores | TokenScore | RequestEnd


@dataclass(frozen=True)
class SchedulerStatistics:
    """Counts of a scheduler.

    Three are of now: the requests that are computed, those that wait, and the tokens for whose keys and values memory is
    reserved. The others are sums since its start: new tokens, tokens of prompts and how many of these were not computed again,
    passes through the model and the seconds that these took.
    """

    open_requests: int
    waiting_requests: int
    cache_tokens: int
    new_tokens: int
    prompt_tokens: int
    cached_prompt_tokens: int
    steps: int
    compute_seconds: float


class QueueFull(Exception):
    """As many requests wait as may; in about `retry_after_s` seconds there is likely to be room."""

    def __init__(self, retry_after_s: int):
        super().__init__(f"too many requests are waiting; try again in {retry_after_s} s")
        self.retry_after_s = retry_after_s


class SchedulerClosed(Exception):
    """The scheduler takes no more requests."""
