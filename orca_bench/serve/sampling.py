"""The logits of the next token in, the token out: greedy, or sampled after temperature, top-k and top-p.

The rules are transformers' own logits warpers, in the order in which its `generate` applies them. Its own module because
sampling needs neither models nor texts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from transformers.generation import LogitsProcessorList


@dataclass(frozen=True)
class Sampling:
    """How the tokens of an answer are chosen; the defaults are those of the card's example.

    `temperature` divides the logits; 0 is greedy. `top_p` keeps the likeliest tokens that reach this probability together,
    `top_k` so many of the likeliest (0 keeps all). `greedy` takes the likeliest token and ignores the three. With a `seed` the
    same tokens are drawn each time.
    """

    temperature: float = 0.7
    top_p: float = 1.0
    top_k: int = 50
    max_new_tokens: int = 1024
    greedy: bool = False
    seed: int | None = None


class Sampler:
    """Chooses the tokens of one answer. `device` is that of the logits."""

    def __init__(self, sampling: Sampling, device: str | torch.device = "cpu"):
        import torch

        self._warpers = None if sampling.greedy or sampling.temperature == 0 else _build_warpers(sampling)
        self._generator = torch.Generator(device=device)
        if sampling.seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(sampling.seed)

    def __call__(self, logits: torch.Tensor) -> int:
        """The id of the next token; logits: [vocabulary]."""
        import torch

        if self._warpers is None:
            return int(logits.argmax())
        probabilities = self._warpers(None, logits.float()[None]).softmax(dim=-1)
        return int(torch.multinomial(probabilities, 1, generator=self._generator))


def _build_warpers(sampling: Sampling) -> LogitsProcessorList:
    """transformers' warpers of the logits, in the order of its `generate`."""
    from transformers.generation import (
        LogitsProcessorList,
        TemperatureLogitsWarper,
        TopKLogitsWarper,
        TopPLogitsWarper,
    )

    warpers = LogitsProcessorList([TemperatureLogitsWarper(float(sampling.temperature))])
    if sampling.top_k > 0:
        warpers.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1:
        warpers.append(TopPLogitsWarper(sampling.top_p))
    return warpers
