"""The logits of the next token in, the token out: greedy, or sampled after temperature, top-k and top-p.

The logits are processed by the rule of `evaluate`, and tokens are drawn as transformers' `generate` draws them, so that a seed
gives its tokens. Its own module because sampling needs neither models nor texts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orca_bench.errors import UserError
from orca_bench.evaluate.engine.token_choice import TokenChoice, logits_processors

if TYPE_CHECKING:
    import torch

#: Below this temperature the likeliest token is taken: logits that are divided by less can become infinite in float32.
MIN_TEMPERATURE = 1e-6


@dataclass(frozen=True)
class Sampling:
    """How the tokens of an answer are chosen; the defaults are those of the card's example.

    `temperature` divides the logits; 0, as all below `MIN_TEMPERATURE`, is greedy. `top_p` keeps the likeliest tokens that reach
    this probability together, `top_k` so many of the likeliest (0 keeps all). `greedy` takes the likeliest token and ignores the
    three. With a `seed` the same tokens are drawn each time.
    """

    temperature: float = 0.7
    top_p: float = 1.0
    top_k: int = 50
    max_new_tokens: int = 1024
    greedy: bool = False
    seed: int | None = None

    def check(self) -> None:
        """Raise UserError for a setting by which no token can be drawn."""
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise UserError(f"a temperature of {self.temperature}", hint="it is a number from 0 on")
        if not 0 < self.top_p <= 1:
            raise UserError(f"a top_p of {self.top_p}", hint="it is more than 0 and at most 1")
        if self.seed is not None and not 0 <= self.seed < 2**63:
            raise UserError(f"a seed of {self.seed}", hint="it is a whole number from 0 to 2^63 - 1")


class Sampler:
    """Chooses the tokens of one answer. `device` is that of the logits; `rule` is what its answer has in common with others."""

    def __init__(self, sampling: Sampling, device: str | torch.device = "cpu"):
        import torch

        is_greedy = sampling.greedy or sampling.temperature < MIN_TEMPERATURE
        self.rule = TokenChoice(0 if is_greedy else sampling.temperature, sampling.top_k, sampling.top_p)
        self._processors = logits_processors(self.rule)
        self._generator = torch.Generator(device=device)
        if sampling.seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(sampling.seed)

    def __call__(self, logits: torch.Tensor) -> int:
        """The id of the next token; logits: [vocabulary]."""
        return int(logits.argmax()) if self.rule.is_greedy else self.draw(self.probabilities(logits[None])[0])

    def probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        """What is drawn from after the logits of several answers, both float32 [answers, vocabulary].

        It is the same by any sampler of the same rule.
        """
        import torch

        no_ids = torch.empty(len(logits), 0, dtype=torch.long)  # only a penalty on repetitions looks at the text
        return self._processors(no_ids, logits.float()).softmax(dim=-1)

    def draw(self, probabilities: torch.Tensor) -> int:
        """The id of the next token by its probabilities, [vocabulary]."""
        import torch

        return int(torch.multinomial(probabilities, 1, generator=self._generator))
