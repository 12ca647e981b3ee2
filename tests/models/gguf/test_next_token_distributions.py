"""Distributions of next tokens and their divergence, beside the formula and transformers' own loss."""

import math

import pytest
import torch

from orca_bench.models.gguf.next_token_distributions import kl_divergences, next_token_log_probabilities
from orca_bench.models.model_loading import load_on_cpu


def test_the_divergence_is_that_of_the_formula():
    own, other = torch.tensor([[0.5, 0.5], [1 / 4, 3 / 4]]), torch.tensor([[0.5, 0.5], [3 / 4, 1 / 4]])
    divergences = kl_divergences(own.double().log(), other.double().log())
    assert divergences.tolist() == pytest.approx([0.0, math.log(3) / 2])


def test_log_probabilities_are_those_of_transformers_loss(llamas):
    model = load_on_cpu(llamas["mini"], "float32")
    ids = [1, 5, 9, 17, 3]
    log_probabilities = next_token_log_probabilities(model, ids)
    assert log_probabilities.shape == (5, model.config.vocab_size) and log_probabilities.dtype == torch.float64
    loss = model(torch.tensor([ids]), labels=torch.tensor([ids])).loss
    own_loss = -log_probabilities[torch.arange(4), torch.tensor(ids[1:])].mean()
    assert float(own_loss) == pytest.approx(float(loss.detach()), rel=1e-5)
