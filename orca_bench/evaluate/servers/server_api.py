"""What every server can be asked for, whatever it calls it: a prompt's log-probabilities, and the text after a prompt.

The adapters (`completions_api`, `vllm_api`, `sglang_api`) each speak one documented API; the engine and the check of alignment
speak only this interface. Its own module because they do not depend on one another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from orca_bench.errors import UserError, one_line
from orca_bench.evaluate.servers.server_kinds import ServerKind

_TOKENS_THAT_SHOW_A_CACHE = 50_000  # more than a portion of requests, which share prefixes as a rule


class PromptScores(NamedTuple):
    """The log-probabilities of a prompt's tokens, in nats, one entry a token of the prompt as the server has it.

    `log_probabilities` are those of the tokens, `top_log_probabilities` those of the likeliest tokens at the same places; None
    where there is none (the first token's) or it was not asked for. `next_log_probability` is that of the likeliest token after
    the prompt, None where the server does not tell. `token_ids` are the prompt's ids as the server echoes them, None where it
    does not.
    """

    log_probabilities: list[float | None]
    top_log_probabilities: list[float | None]
    next_log_probability: float | None
    token_ids: list[int] | None


class Completion(NamedTuple):
    """What a server generated after a prompt.

    `token_texts` are the texts of its tokens, `token_ids` their ids, `log_probabilities` theirs in nats; each None where the
    server does not tell. `hit_token_limit` is whether it ended because it had all tokens that it may have. `prompt_ids` are the
    prompt's ids as the server echoes them, `prompt_token_count` how many it counts; None where it does not tell.
    """

    text: str
    token_texts: list[str] | None
    token_ids: list[int] | None
    log_probabilities: list[float] | None
    hit_token_limit: bool | None
    prompt_ids: list[int] | None = None
    prompt_token_count: int | None = None


@dataclass
class PrefixCacheUse:
    """How many tokens of prompts were sent, and how many of them the server had in its prefix cache; counted by answers.

    `answers_that_tell` is how many answers said so. vLLM says it only where there were some, so of the others there were none.
    """

    prompt_tokens: int = 0
    cached_tokens: int = 0
    answers_that_tell: int = 0

    @property
    def is_known_to_be_off(self) -> bool:
        """Whether the server says, with many tokens sent, that none of them was cached."""
        return self.answers_that_tell > 0 and self.prompt_tokens > _TOKENS_THAT_SHOW_A_CACHE and self.cached_tokens == 0

    def add(self, prompt_tokens: int, cached_tokens: int | None) -> None:
        """Count one answer, whose server says how many of its prompt's tokens were cached, or None."""
        self.prompt_tokens += prompt_tokens
        if cached_tokens is not None:
            self.cached_tokens += cached_tokens
            self.answers_that_tell += 1


def hit_token_limit(finish_reason: str | None, message: str, where: str) -> bool | None:
    """Whether a text ended because it had all tokens that it may have; None where the server does not say why it ended.

    Raises UserError for a text that the server broke off, with its `message`.
    """
    if finish_reason not in (None, "stop", "length"):
        raise UserError(
            f"the server broke a text off ({finish_reason}{': ' if message else ''}{one_line(message, 200)})",
            where=where,
            hint="every answer before is stored, and the same command goes on from there",
        )
    return None if finish_reason is None else finish_reason == "length"


class ServerApi(Protocol):
    """One server, asked by its own API. Every method raises UserError for what it does instead of answering."""

    kind: ServerKind
    #: What each request sends besides temperature 0; set by `agree_on_options`.
    sampling_options: dict[str, Any]
    #: Counts all answers.
    cache_use: PrefixCacheUse

    @property
    def caches_scored_prompts(self) -> bool:
        """Whether scoring a prompt may use what the server has cached of it."""

    async def agree_on_options(self, stop_ids: Sequence[int]) -> None:
        """Find out which sampling parameters the server takes, and set `sampling_options`; a text is to end at `stop_ids`."""

    async def score(
        self, prompt: list[int] | str, scored_start: int = 1, is_first_request: bool = False
    ) -> PromptScores:
        """The log-probabilities of a prompt's tokens from `scored_start`, 1 or more, on; others may be None."""

    async def generate(
        self,
        prompt: list[int] | str,
        max_new_tokens: int,
        stop_strings: Sequence[str] = (),
        tells_tokens: bool = False,
        is_first_request: bool = False,
    ) -> Completion:
        """The greedy text after a prompt, which ends at the first of some strings; with `tells_tokens` its tokens too."""
