"""The logits of the next token in, the token out: greedy, or sampled after temperature, top-k and top-p.

The rules are transformers' own logits warpers, in the order in which its `generate` applies them. Its own module because
everything that lets a model talk shares it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen; defaults are the card's. `greedy` takes the likeliest and ignores the rest.

    temperature 0 is greedy too; top_k 0 keeps all tokens. With a seed the same tokens are drawn again.
    """

    temperature: float = 0.7
    top_p: float = 1.0
    top_k: int = 50
    max_new_tokens: int = 1024
    greedy: bool = False
    seed: int | None = None


class Sampler:
    """Chooses the tokens of one generation. `device` is where the logits are."""

    def __init__(self, sampling: Sampling, device: str | torch.device = "cpu"):
        import torch

        self._greedy = sampling.greedy or sampling.temperature == 0
        self._warpers = None if self._greedy else _warpers(sampling)
        self._generator = torch.Generator(device=device)
        if sampling.seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(sampling.seed)

    def __call__(self, logits: torch.Tensor) -> int:
        """The next token's id. logits: [vocabulary]."""
        import torch

        if self._greedy:
            return int(logits.argmax())
        probabilities = self._warpers(None, logits.float()[None]).softmax(dim=-1)
        return int(torch.multinomial(probabilities, 1, generator=self._generator))


def _warpers(sampling: Sampling):
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
