"""One server, whatever its own API is: a prompt's log-probabilities, and the text after a prompt.

The adapters (`completions_api`, `vllm_api`, `sglang_api`) each speak one documented API; the engine and the check of alignment
speak only this interface. Its own module because the adapters do not depend on one another.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

from orca_bench.errors import UserError, one_line
from orca_bench.evaluate.servers.completions_client import Endpoint

_TOKENS_THAT_SHOW_A_CACHE = 50_000  # more than a portion of requests, which share prefixes as a rule

#: Token ids, as a rule; a text is tokenized by the server.
Prompt = list[int] | str


class PromptScores(NamedTuple):
    """The log-probabilities of a prompt's tokens, in nats, one entry a token of the prompt as the server has it.

    `log_probabilities` are those of the tokens, `top_log_probabilities` those of the likeliest tokens at the same places; None
    where there is none (the first token's) or it was not requested. `next_log_probability` is that of the likeliest token after
    the prompt, None where the server does not give it. `token_ids` are the prompt's ids as the server echoes them, None where it
    does not.
    """

    log_probabilities: list[float | None]
    top_log_probabilities: list[float | None]
    next_log_probability: float | None
    token_ids: list[int] | None


class Completion(NamedTuple):
    """What a server generated after a prompt.

    `token_texts` are the texts of its tokens, `token_ids` their ids, `log_probabilities` theirs in nats; each None where the
    server does not give them. `hit_token_limit` is whether it ended because it had all tokens that it may have. `prompt_ids` are
    the prompt's ids as the server echoes them, `prompt_token_count` how many it counts; None where it does not say.
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
    """How many tokens of prompts were sent, and how many of them the server had in its prefix cache, by its answers.

    `answers_with_count` is how many answers have a count of cached tokens. vLLM leaves out a count of 0.
    """

    prompt_tokens: int = 0
    cached_tokens: int = 0
    answers_with_count: int = 0

    @property
    def is_known_to_be_off(self) -> bool:
        """Whether the server counts, with many tokens sent, that none of them was cached."""
        has_sent_enough = self.prompt_tokens > _TOKENS_THAT_SHOW_A_CACHE
        return self.answers_with_count > 0 and has_sent_enough and self.cached_tokens == 0

    def add(self, prompt_tokens: int, cached_tokens: int | None) -> None:
        """Count one answer, with how many of its prompt's tokens were cached, None where it does not say."""
        self.prompt_tokens += prompt_tokens
        if cached_tokens is not None:
            self.cached_tokens += cached_tokens
            self.answers_with_count += 1


class ServerApi(ABC):
    """The server at an `endpoint`, asked by its own API. Every method raises UserError for what it does instead of answering.

    `kind` is which program it is. `sampling_options` are what each request sends besides temperature 0; `agree_on_options` sets
    them. `cache_use` counts all answers. `vocabulary_size` is one more than the tokenizer's largest id, None where it is not
    known.
    """

    #: Whether scoring a prompt may use what the server has cached of it.
    caches_scored_prompts = False
    #: What to look at where an answer is not as the API documents it.
    _format_hint: str

    def __init__(self, endpoint: Endpoint):
        self._endpoint, self.kind = endpoint, endpoint.kind
        self.sampling_options: dict[str, Any] = {}
        self.cache_use = PrefixCacheUse()
        self.vocabulary_size: int | None = None

    @property
    def difference_sentences(self) -> list[str]:
        """Sentences for the result: what this API does otherwise than the engine in this process."""
        return []

    @abstractmethod
    async def agree_on_options(self, stop_ids: Sequence[int]) -> None:
        """Find out which sampling parameters the server takes, and set `sampling_options`; a text is to end at `stop_ids`."""

    @abstractmethod
    async def score(self, prompt: Prompt, scored_start: int = 1) -> PromptScores:
        """The log-probabilities of a prompt's tokens from `scored_start`, 1 or more, on; others may be None."""

    @abstractmethod
    async def generate(
        self, prompt: Prompt, max_new_tokens: int, stop_strings: Sequence[str] = (), with_tokens: bool = False
    ) -> Completion:
        """The greedy text after a prompt, which ends at the first of some strings; `with_tokens` requests its tokens too."""

    def _count_prompt(self, prompt: Prompt, token_count: int | None, cached_token_count: Any) -> None:
        """Count the prompt of an answer; `token_count` and `cached_token_count` are the server's, None where it has none.

        Raises UserError where the server counts another number of tokens than were sent.
        """
        sent_count = len(prompt) if isinstance(prompt, list) else token_count
        if token_count is not None and token_count != sent_count:
            raise UserError(
                f"{sent_count} token ids were sent and the server counts a prompt of {token_count}",
                where=self._endpoint.redacted_url,
                hint="the server, or what stands before it, adds tokens (a BOS?), cuts the prompt, or makes other tokens of it",
            )
        self.cache_use.add(sent_count or 0, cached_token_count if isinstance(cached_token_count, int) else None)

    def _hit_token_limit(self, finish_reason: str | None, message: str = "") -> bool | None:
        """Whether a text ended because it had all tokens that it may have; None where the server does not say why it ended.

        Raises UserError for a text that the server broke off, with its `message`.
        """
        if finish_reason not in (None, "stop", "length"):
            raise UserError(
                f"the server broke a text off ({finish_reason}{': ' if message else ''}{one_line(message, 200)})",
                where=self._endpoint.redacted_url,
                hint="every answer before is stored, and the same command goes on from there",
            )
        return None if finish_reason is None else finish_reason == "length"

    @contextmanager
    def _parsing(self, content: str) -> Iterator[None]:
        """Raise UserError where an answer does not have its `content`, a noun for the error, as the API documents it."""
        try:
            yield
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise self._format_error(content) from error

    def _format_error(self, content: str) -> UserError:
        where = self._endpoint.redacted_url
        return UserError(f"the server's answer has no {content} that can be read", where=where, hint=self._format_hint)


def as_text(value: Any) -> str:
    """A JSON value that must be a text; raises TypeError where it is none."""
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.60} is no text")
    return value


def ids_or_none(value: Any) -> list[int] | None:
    """A JSON value that may be a list of ids; None where it is anything else."""
    return value if isinstance(value, list) and all(isinstance(token_id, int) for token_id in value) else None


def top_values_of(values: Sequence[float | None], prompt_length: int) -> list[float | None]:
    """Of each token of a prompt the log-probability of the likeliest one, from a server's list, which may be empty.

    Raises ValueError where it is not empty and has none for some token.
    """
    if 0 < len(values) < prompt_length:
        raise ValueError(f"likeliest tokens of {len(values)} positions for {prompt_length} tokens")
    return [*values[:prompt_length]] or [None] * prompt_length
