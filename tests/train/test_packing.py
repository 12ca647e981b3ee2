"""Which examples share a forward pass."""

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, LlamaConfig, LlamaForCausalLM

from orca_bench.train.model_flops import flops_utilization
from orca_bench.train.packing import example_costs, fill_rows, share_out


def share(lengths, pass_count, most_tokens, costs=None):
    lengths = np.asarray(lengths)
    numbers = np.arange(100, 100 + len(lengths))
    costs = lengths.astype(float) if costs is None else np.asarray(costs)
    shares = share_out(numbers, costs, lengths, pass_count, most_tokens)
    assert len(shares) == pass_count and sorted(np.concatenate(shares)) == numbers.tolist()
    return [share - 100 for share in shares]


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("pass_count", [1, 2, 8])
def test_passes_cost_nearly_the_same_and_hold_no_more_than_a_padded_one(seed, pass_count):
    generator = np.random.default_rng(seed)
    lengths = np.minimum(1024, generator.lognormal(4.8, 0.8, 16).astype(int) + 1)
    costs = lengths + lengths**2 / 1000
    shares = share(lengths, pass_count, 16 // pass_count * lengths.max(), costs)
    sums = [costs[s].sum() for s in shares]
    best_possible = max(costs.sum() / pass_count, costs.max())
    assert max(sums) <= 4 / 3 * best_possible + 1e-9
    assert sums == sorted(sums, reverse=True)
    assert all(lengths[s].sum() <= 16 // pass_count * lengths.max() for s in shares)
    assert all((np.diff(lengths[s]) <= 0).all() for s in shares)


def test_no_pass_exceeds_the_tokens_that_a_padded_one_would_have():
    # by cost alone the short examples, which are dear here, would be kept apart and the long ones put together
    lengths, costs = [100, 100, 100, 100, 1, 1, 1, 1], [1, 1, 1, 1, 100, 100, 1, 1]
    shares = share(lengths, 4, 200, costs)
    assert max(sum(lengths[i] for i in s) for s in shares) <= 200
    # here the room of 2 × 7 tokens is used by equal numbers of examples only: 7+7 beside 5+5, and not 7+5+5 beside 7
    shares = share([7, 7, 5, 5], 2, 14, [1, 9, 1, 1])
    assert max(sum([7, 7, 5, 5][i] for i in s) for s in shares) <= 14


def test_more_passes_than_examples_leave_some_empty():
    assert [len(s) for s in share([5, 3], 4, 10)] == [1, 1, 0, 0]
    assert [len(s) for s in share([], 2, 10)] == [0, 0]


def test_rows_are_filled_in_the_order_of_the_stream_and_no_example_is_split():
    assert fill_rows(np.array([4, 4, 3, 8, 1, 1, 7]), 8).tolist() == [2, 3, 4, 6, 7]
    lengths = np.random.default_rng(0).integers(1, 300, 5000)
    ends = fill_rows(lengths, 1024)
    tokens = np.add.reduceat(lengths, np.concatenate([[0], ends[:-1]]))
    assert ends[-1] == 5000 and tokens.max() <= 1024 and tokens.mean() > 0.85 * 1024
    assert all(tokens[:-1] + lengths[ends[:-1]] > 1024)  # no row ends where the next example would have fitted
    with pytest.raises(ValueError, match="an example of 9 tokens is longer than a row of 8"):
        fill_rows(np.array([9]), 8)


@pytest.mark.parametrize("key_heads", [4, 2])
def test_costs_are_the_operations_that_a_real_model_makes(key_heads):
    config = LlamaConfig(
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=key_heads,
        vocab_size=500,
        attn_implementation="eager",
    )
    model, length, trained = LlamaForCausalLM(config), 48, 13
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(input_ids=torch.zeros((1, length), dtype=torch.long), logits_to_keep=trained, use_cache=False)
    (cost,) = example_costs(np.array([length]), np.array([trained]), config)
    masked_half = 2 * 3 * 64 * length**2  # the counter has the whole square of attention
    assert cost + masked_half == counter.get_total_flops()


@pytest.mark.parametrize(
    "architecture", ["gpt2", "opt", "bloom", "falcon", "gptj", "mpt", "mamba", "gpt_neo", "gemma3"]
)
def test_a_model_without_llamas_sizes_costs_its_tokens(architecture):
    config = AutoConfig.for_model(architecture)
    costs = example_costs(np.array([3, 7]), np.array([1, 2]), config)
    assert costs[1] > costs[0] > 0
    if not hasattr(config.get_text_config(), "intermediate_size"):
        assert costs.tolist() == [3, 7]
    assert flops_utilization(config, 10**9, 1e12).step_flops(np.array([3])) > 0
