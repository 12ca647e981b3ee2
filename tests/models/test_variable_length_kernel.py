"""The call of PyTorch's kernel for unequal lengths where several heads of queries share one of keys, without a GPU."""

import pytest
import torch
from torch.nn.attention import varlen
from variable_length_stand_in import attend_each_sequence, attend_each_sequence_without_option

from orca_bench.models.variable_length_kernel import attend_sequences

QUERY_LENGTHS, KEY_LENGTHS = (3, 1, 5), (7, 4, 5)
HEADS, KEY_HEADS, HEAD_SIZE = 6, 2, 6


def random_states():
    """Queries, keys and values in float32: [tokens, heads, head size]."""
    generator = torch.Generator().manual_seed(0)
    shapes = ((sum(QUERY_LENGTHS), HEADS), (sum(KEY_LENGTHS), KEY_HEADS), (sum(KEY_LENGTHS), KEY_HEADS))
    return [torch.randn(*shape, HEAD_SIZE, generator=generator) for shape in shapes]


def attend(query, key, value, window_tokens=None):
    starts = [torch.tensor([0, *lengths]).cumsum(0).to(torch.int32) for lengths in (QUERY_LENGTHS, KEY_LENGTHS)]
    return attend_sequences(
        query,
        key,
        value,
        *starts,
        max(QUERY_LENGTHS),
        max(KEY_LENGTHS),
        score_scaling=None,
        window_tokens=window_tokens,
    )


def attention_by_definition(query, key, value, window_tokens):
    """Each sequence and each head alone, from the formula; every head of queries has its own copy of the keys."""
    key, value = (states.repeat_interleave(HEADS // KEY_HEADS, dim=1) for states in (key, value))
    outputs, key_parts, value_parts = [], key.split(KEY_LENGTHS), value.split(KEY_LENGTHS)
    for queries, keys, values in zip(query.split(QUERY_LENGTHS), key_parts, value_parts, strict=True):
        distances = torch.arange(len(keys))[-len(queries) :, None] - torch.arange(len(keys))
        visible = (distances >= 0) & (distances < (window_tokens or len(keys)))
        scores = torch.einsum("qhd,khd->hqk", queries, keys) / HEAD_SIZE**0.5
        outputs.append(torch.einsum("hqk,khd->qhd", scores.masked_fill(~visible, -torch.inf).softmax(-1), values))
    return torch.cat(outputs)


@pytest.mark.parametrize("window_tokens", [None, 2])
@pytest.mark.parametrize("kernel", [attend_each_sequence, attend_each_sequence_without_option])
def test_shared_heads_of_keys_are_repeated_ones_whether_or_not_the_kernel_has_an_option_for_them(
    kernel, window_tokens, monkeypatch
):
    monkeypatch.setattr(varlen, "varlen_attn", kernel)
    query, key, value = random_states()
    expected = attention_by_definition(query, key, value, window_tokens)
    assert torch.allclose(attend(query, key, value, window_tokens), expected, atol=1e-6)
    copies = [states.repeat_interleave(HEADS // KEY_HEADS, dim=1) for states in (key, value)]
    assert torch.allclose(attend(query, *copies, window_tokens), expected, atol=1e-6)


def test_the_installed_pytorch_takes_shared_heads_as_far_as_its_kernel_which_cpus_have_not():
    query, key, value = random_states()
    with pytest.raises(NotImplementedError, match="_flash_attention_forward"):
        attend(query, key, value)


def test_the_installed_pytorch_still_wants_the_option_for_shared_heads():
    query, key, value = random_states()
    starts = torch.tensor([0, 5], dtype=torch.int32)
    with pytest.raises(ValueError, match="enable_gqa"):
        varlen.varlen_attn(query[:5], key[:5], value[:5], starts, starts, 5, 5)
