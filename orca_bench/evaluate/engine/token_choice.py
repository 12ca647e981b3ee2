"""How the next token of a text is chosen where it is not simply the likeliest: sampled, or with a penalty on repetitions.

A rule and the logits of the next token come in, a token id goes out. A rule has a seed of its own, so that a text depends on its
request alone, neither on the order of the requests nor on what is computed beside it. Its own module because engines, the cache
of answers and the harness share the rule, and `serve` the processors of the logits.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch
    from transformers.generation import LogitsProcessorList


@dataclass(frozen=True)
class TokenChoice:
    """One request's rule. `temperature` divides the logits; 0: the likeliest token that the penalty leaves.

    `top_k` keeps so many of the likeliest tokens (0 all), `top_p` the likeliest that have this probability together, `min_p`
    those that have at least this share of the likeliest one's probability. `repetition_penalty` divides the positive logits of
    tokens that the prompt or the text has (and multiplies the negative ones). `seed` begins the request's own random numbers.
    """

    temperature: float = 0.0
    top_k: int = 50
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int = 0

    @property
    def is_greedy(self) -> bool:
        """Whether the likeliest token is always chosen, so that no rule is needed."""
        return self.temperature == 0 and self.repetition_penalty == 1

    def for_request(self, prompt_ids: Sequence[int], repeat_index: int) -> TokenChoice:
        """The rule of one of a prompt's texts: its seed follows from the rule's own, the prompt and the number of the text."""
        identity = json.dumps([self.to_json(), list(prompt_ids), repeat_index])
        return replace(self, seed=int.from_bytes(hashlib.sha256(identity.encode()).digest()[:7], "big"))

    def to_json(self) -> dict[str, float | int]:
        """All fields, by name."""
        return asdict(self)

    @staticmethod
    def from_json(fields: dict[str, Any]) -> TokenChoice:
        """The rule that `to_json` gave."""
        return TokenChoice(**fields)


class TokenChooser(Protocol):
    """Chooses the tokens of one text after another: `choose` is called once for each token, in order."""

    @property
    def needs_logits(self) -> bool:
        """Whether log-probabilities in the place of logits would give another token."""

    def choose(self, logits: torch.Tensor, continuation_ids: Sequence[int]) -> int:
        """The id of the next token after the prompt and a continuation; `logits` is [vocabulary]."""


class RuleChooser:
    """A `TokenChooser` that follows a rule."""

    def __init__(self, rule: TokenChoice, prompt_ids: Sequence[int]):
        import torch

        self._rule, self._prompt_ids = rule, list(prompt_ids)
        self._generator = torch.Generator().manual_seed(rule.seed)
        self._processors = logits_processors(rule)

    @property
    def needs_logits(self) -> bool:
        """Whether there is a penalty on repetitions: it depends on the sign of the logits."""
        return self._rule.repetition_penalty != 1

    def choose(self, logits: torch.Tensor, continuation_ids: Sequence[int]) -> int:
        """The id of the next token by the rule."""
        import torch

        token_ids = torch.tensor([[*self._prompt_ids, *continuation_ids]])
        scores = self._processors(token_ids, logits.detach().float().cpu()[None])
        if self._rule.temperature == 0:
            return int(scores[0].argmax())
        # The inverse of the distribution function in float64: rounding elsewhere hardly ever moves a token.
        cumulative_shares = scores[0].double().softmax(dim=-1).cumsum(dim=-1)
        draw = torch.rand(1, generator=self._generator, dtype=torch.float64) * cumulative_shares[-1]
        return int(torch.searchsorted(cumulative_shares, draw, right=True).clamp_max(len(cumulative_shares) - 1))


def logits_processors(rule: TokenChoice) -> LogitsProcessorList:
    """transformers' processors of the logits for a rule, in the order of its `generate` (5.23)."""
    from transformers.generation import (
        LogitsProcessorList,
        MinPLogitsWarper,
        RepetitionPenaltyLogitsProcessor,
        TemperatureLogitsWarper,
        TopKLogitsWarper,
        TopPLogitsWarper,
    )

    processors = LogitsProcessorList()
    if rule.repetition_penalty != 1:
        processors.append(RepetitionPenaltyLogitsProcessor(rule.repetition_penalty))
    if rule.temperature == 0:
        return processors
    if rule.temperature != 1:
        processors.append(TemperatureLogitsWarper(float(rule.temperature)))
    if rule.top_k > 0:
        processors.append(TopKLogitsWarper(rule.top_k))
    if rule.top_p < 1:
        processors.append(TopPLogitsWarper(rule.top_p))
    if rule.min_p > 0:
        processors.append(MinPLogitsWarper(rule.min_p))
    return processors
