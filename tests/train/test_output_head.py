"""The loss of the scored positions, computed in parts."""

import math

import pytest
import torch
from live_tensors import LiveTensors
from transformers import GemmaConfig, GemmaForCausalLM, LlamaConfig, LlamaForCausalLM

from orca_bench.train import micro_batches
from orca_bench.train.output_head import LossHead, cross_entropy_sum


def head_inputs(positions, dtype=torch.float32, hidden=32, vocabulary=700):
    torch.manual_seed(0)
    states = torch.randn(positions, hidden).to(dtype).requires_grad_()
    weight = (torch.randn(vocabulary, hidden) / 4).to(dtype).requires_grad_()
    return states, weight, torch.randint(vocabulary, (positions,))


def plain_loss(states, weight, targets):
    return torch.nn.functional.cross_entropy((states @ weight.t()).float(), targets, reduction="sum")


def plain_loss_in(states, weight, targets):
    """In the numbers' own type."""
    return torch.nn.functional.cross_entropy(states @ weight.t(), targets, reduction="sum")


@pytest.mark.parametrize("positions", [1, 255, 256, 257, 1000, 6000])
def test_loss_and_gradients_are_those_of_all_logits_at_once(positions):
    states, weight, targets = head_inputs(positions)
    expected = plain_loss(states.double(), weight.double(), targets) / positions
    expected_gradients = torch.autograd.grad(expected, (states, weight))
    loss = cross_entropy_sum(states, weight, targets) / positions
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    for gradient, expected_gradient in zip(
        torch.autograd.grad(loss, (states, weight)), expected_gradients, strict=True
    ):
        assert (gradient - expected_gradient).norm() <= 2e-6 * expected_gradient.norm()


def test_in_bfloat16_loss_and_gradients_are_as_near_as_its_numbers_are():
    states, weight, targets = head_inputs(1000, torch.bfloat16)
    exact = plain_loss(states.double(), weight.double(), targets) / 1000
    exact_gradients = torch.autograd.grad(exact, (states, weight))
    loss = cross_entropy_sum(states, weight, targets) / 1000
    assert float(loss) == pytest.approx(float(exact), rel=1e-3)
    for gradient, exact_gradient in zip(torch.autograd.grad(loss, (states, weight)), exact_gradients, strict=True):
        assert gradient.dtype == torch.bfloat16
        assert (gradient - exact_gradient).norm() <= 1e-2 * exact_gradient.norm()


def test_a_factor_that_is_announced_reaches_the_gradients_before_they_are_rounded():
    """In fp16 a gradient of 1e-9 would be 0; a loss scale must come before the rounding."""
    states, weight, targets = head_inputs(600, torch.float16)
    exact_states, exact_weight = (t.detach().double().requires_grad_() for t in (states, weight))
    factor = 2.0**14 / 600
    loss = cross_entropy_sum(states, weight, targets, factor)
    gradients = torch.autograd.grad(loss * factor, (states, weight))
    exact = torch.autograd.grad(
        plain_loss_in(exact_states, exact_weight, targets) * factor, (exact_states, exact_weight)
    )
    for gradient, exact_gradient in zip(gradients, exact, strict=True):
        assert (gradient.double() - exact_gradient).norm() <= 2e-3 * exact_gradient.norm()
    few_states, few_weight, _ = head_inputs(1, torch.float16, vocabulary=3)
    with torch.no_grad():
        few_weight.copy_(torch.tensor([[2.2], [0.0], [0.0]]).repeat(1, 32) / 4)
        few_states.fill_(1.0)
    target = torch.tensor([0])  # nearly certain: its gradient is about 1e-7
    small = [
        torch.autograd.grad(cross_entropy_sum(few_states, few_weight, target, f) * 2.0**14, few_weight)[0].abs().max()
        for f in (2.0**14, 1.0)
    ]
    exact_small = 2.0**14 / (2 + math.exp(2.2 / 4 * 32))  # at each of the two other words
    assert float(small[0]) == pytest.approx(exact_small, rel=0.02) and float(small[1]) == 0


def test_a_factor_is_not_rounded_to_bfloat16():
    """8 / 510 in bfloat16 is 0.4 % wrong, and the gradient of a whole step would be."""
    states, weight, targets = head_inputs(2040, torch.bfloat16, vocabulary=50)
    factor = 8 / 510
    with_factor, without = (
        torch.autograd.grad(cross_entropy_sum(states, weight, targets, f) * f, weight)[0].double().flatten()
        for f in (factor, 1.0)
    )
    assert float(with_factor @ without / (without @ without)) == pytest.approx(factor, rel=2e-4)
    rounded = float(torch.tensor(factor, dtype=torch.bfloat16))
    assert rounded != pytest.approx(factor, rel=2e-3)


def test_no_position_gives_no_loss_and_gradients_of_zero():
    states, weight, targets = head_inputs(0)
    loss = cross_entropy_sum(states, weight, targets)
    loss.backward()
    assert float(loss) == 0 and not weight.grad.any() and states.grad.shape == (0, 32)


def test_large_logits_neither_overflow_nor_become_nan():
    states, weight, targets = head_inputs(300)
    loss = cross_entropy_sum(states * 1e4, weight, targets)
    assert float(loss) == pytest.approx(float(plain_loss(states * 1e4, weight, targets)), rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_loss_takes_an_eighth_of_the_memory_of_all_logits_in_float32(dtype):
    positions, vocabulary, hidden = 8192, 4000, 16
    states, weight, targets = head_inputs(positions, dtype, hidden, vocabulary)
    gradient_bytes = (4 + states.element_size()) * vocabulary * hidden + states.element_size() * positions * hidden
    with LiveTensors() as ours:
        cross_entropy_sum(states, weight, targets)
    with LiveTensors() as plain:
        plain_loss(states, weight, targets)
    all_logits = 4 * positions * vocabulary
    assert plain.peak >= all_logits
    assert ours.peak - gradient_bytes <= all_logits / 8


def test_without_gradients_nothing_is_computed_for_them():
    states, weight, targets = head_inputs(4096)
    with torch.no_grad(), LiveTensors() as live:
        loss = cross_entropy_sum(states, weight, targets)
    assert not loss.requires_grad and live.peak < 4 * 4096 * 700 / 4


def tiny(config_class, model_class, **options):
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    return model_class(config_class(vocab_size=300, head_dim=8, num_key_value_heads=4, **sizes, **options))


@pytest.mark.parametrize("is_tied", [False, True])
def test_a_model_returns_the_loss_of_the_scored_positions(is_tied):
    import numpy as np

    generator = np.random.default_rng(0)
    sequences = [micro_batches.ScoredSequence(generator.integers(0, 300, n), n // 2) for n in (9, 30, 17)]
    model = tiny(LlamaConfig, LlamaForCausalLM, tie_word_embeddings=is_tied)
    expected = torch.zeros((), dtype=torch.float64)
    for sequence in sequences:
        logits = model(input_ids=torch.from_numpy(sequence.token_ids)[None]).logits[0, sequence.prompt_length - 1 : -1]
        targets = torch.from_numpy(sequence.token_ids[sequence.prompt_length :])
        expected = expected + torch.nn.functional.cross_entropy(logits.double(), targets, reduction="sum")
    expected_gradients = torch.autograd.grad(expected, list(model.parameters()))
    head = LossHead(model)
    for computes_loss in (True, False):
        head.computes_loss = computes_loss
        micro_batch = micro_batches.pad(sequences, torch.device("cpu"))
        loss = head.sum_of_losses(model, micro_batch)
        assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        for gradient, expected_gradient in zip(gradients, expected_gradients, strict=True):
            assert (gradient - expected_gradient).norm() <= 1e-5 * expected_gradient.norm() + 1e-8


def test_a_head_with_a_bias_leaves_the_loss_to_its_logits():
    model = tiny(GemmaConfig, GemmaForCausalLM)
    assert LossHead(model).computes_loss
    model.lm_head = torch.nn.Linear(32, 300, bias=True)
    assert not LossHead(model).computes_loss
