"""A model in memory and token ids in, the distributions of next tokens out, and how far two of them diverge.

Its own module because the check of an export and that of an import both need it, of models that they load themselves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def next_token_log_probabilities(model: torch.nn.Module, token_ids: list[int]) -> torch.Tensor:
    """Log-probabilities [length, vocabulary] of the token after each of `token_ids`, in float64; the model is on the CPU."""
    import torch

    with torch.inference_mode():
        logits = model(torch.tensor([token_ids])).logits[0]
        return logits.double().log_softmax(-1)


def kl_divergences(log_probabilities: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Kullback-Leibler divergence, nats, of the second distributions from the first, [positions] of [positions, vocabulary]."""
    return (log_probabilities.exp() * (log_probabilities - other)).sum(-1)
