"""Attention in the tree: options of layers, sliding windows, and lengths beyond which a tree is not exact."""

import functools
import random

import architectures
import pytest
import torch
from architectures import tiny_model_of
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM
from variable_length_stand_in import attend_each_sequence

from orca_bench import library_settings
from orca_bench.evaluate.engine import attention_interface, prefix_tree, tree_attention, variable_length_attention
from orca_bench.evaluate.engine.attention_interface import AttentionOptions, AttentionPattern, UnfitForTree
from orca_bench.evaluate.engine.tree_engine import TreeEngine
from orca_bench.evaluate.request_encoding import ScoredSequence
from orca_bench.models import variable_length_kernel

SHAPE = dict(vocab_size=90, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4)


@pytest.fixture(scope="module", autouse=True)
def _quiet():
    library_settings.prepare_libraries()


def model_with_large_weights(kind, config):
    """A random model whose answers differ."""
    torch.manual_seed(0)
    model = kind(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(5)
    return model


@pytest.mark.parametrize("option", [{"softcap": 30.0}, {"s_aux": torch.ones(4)}])
def test_what_an_attention_takes_is_computed(option):
    """Caps and sinks, under masks of both kinds, as transformers' eager attention of Gemma 2 and gpt-oss computes them."""
    query, key, value = (torch.randn(1, 4, 6, 8, generator=torch.Generator().manual_seed(n)) * 3 for n in range(3))
    options = AttentionOptions(0.5, option.get("softcap"), option.get("s_aux"))
    visible = torch.ones(6, 6, dtype=torch.bool).tril()
    scores = (query @ key.transpose(-1, -2)) * 0.5
    if "softcap" in option:
        scores = 30.0 * torch.tanh(scores / 30.0)
    exponentials = scores.exp() * visible
    total = exponentials.sum(-1, keepdim=True) + (torch.e if "s_aux" in option else 0.0)
    wanted = (exponentials / total) @ value
    added = torch.zeros(6, 6).masked_fill(~visible, float("-inf"))
    for mask, causal in ((visible, False), (added, False), (None, True)):
        assert torch.allclose(
            attention_interface.masked_attention(query, key, value, options, mask, causal), wanted, atol=1e-5
        )


@pytest.mark.parametrize("option", [{}, {"softcap": 30.0}, {"s_aux": torch.ones(4)}])
def test_heads_that_share_a_head_of_keys_attend_as_if_each_had_its_copy(option):
    heads = ((4, 6), (2, 6), (2, 6))
    query, key, value = (
        torch.randn(1, *shape, 8, generator=torch.Generator().manual_seed(n)) for n, shape in enumerate(heads)
    )
    copies = [states.repeat_interleave(2, dim=1) for states in (key, value)]
    options = AttentionOptions(None, option.get("softcap"), option.get("s_aux"))
    for mask, is_causal in ((None, True), (torch.ones(6, 6, dtype=torch.bool).tril(), False)):
        attended = attention_interface.masked_attention(query, key, value, options, mask, is_causal)
        assert torch.allclose(
            attended, attention_interface.masked_attention(query, *copies, options, mask, is_causal), atol=1e-6
        )


def test_an_attention_that_takes_something_unknown_is_left_to_the_model():
    pattern = AttentionPattern()
    module, heads = torch.nn.Module(), torch.ones(1, 2, 3, 4)
    config = LlamaConfig(**SHAPE)
    with (
        attention_interface.use_attention_pattern(config, pattern),
        pytest.raises(UnfitForTree, match="takes bias_of_heads"),
    ):
        attention_interface.attend_layer(module, heads, heads, heads, None, bias_of_heads=torch.ones(2))
    module.is_causal = False
    with attention_interface.use_attention_pattern(config, pattern), pytest.raises(UnfitForTree, match="not causal"):
        attention_interface.attend_layer(module, heads, heads, heads, None)
    with (
        attention_interface.use_attention_pattern(config, pattern),
        pytest.raises(UnfitForTree, match="mask of its own"),
    ):
        attention_interface.attend_layer(
            torch.nn.Module(), heads, heads, heads, torch.ones(1, 1, 3, 3, dtype=torch.bool)
        )


# --- windows --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", tree_attention.ATTENTION_METHODS)
@pytest.mark.parametrize(("budget", "cache_tokens"), [(5, 1), (40, 400), (2048, 100_000)])
def test_a_sliding_window_narrower_than_the_input_is_exact_in_the_tree(kind, budget, cache_tokens):
    model = model_with_large_weights(
        MistralForCausalLM, MistralConfig(**SHAPE, num_key_value_heads=2, head_dim=8, sliding_window=7)
    )
    engine = TreeEngine(model, budget, kind, cache_tokens)
    engine.choose_path()
    assert engine.computation_path == "tree" and engine.tree_forward.layout.window_tokens_by_mask == (7,)
    assert architectures.differences(engine, *architectures.questions(90, longest=70)) is None


@pytest.mark.parametrize("window", [None, 7])
@pytest.mark.parametrize("budget", [5, 2048])
def test_spans_as_sequences_of_unequal_lengths_are_the_tree(window, budget, monkeypatch):
    model = model_with_large_weights(
        MistralForCausalLM, MistralConfig(**SHAPE, num_key_value_heads=2, head_dim=6, sliding_window=window)
    )
    calls = []

    @functools.wraps(attend_each_sequence)
    def note_call(*arguments, **options):
        calls.append(arguments)
        return attend_each_sequence(*arguments, **options)

    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", note_call)
    monkeypatch.setattr(
        variable_length_attention.GatheredSpans, "can_attend", lambda *_: not torch.is_grad_enabled()
    )  # no GPU here
    engine = TreeEngine(model, budget, "lengths", 100_000)
    engine.choose_path()
    assert engine.computation_path == "tree"
    assert architectures.differences(engine, *architectures.questions(90, longest=70)) is None
    assert engine.attention_method == "lengths"
    assert calls and all(query.shape[-1] == 8 for query, *_ in calls)  # padded from 6
    assert {key.shape[1] for _, key, *_ in calls} == {2}  # no copy for each of the four heads
    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", lambda query, *_, **__: query)
    assert architectures.differences(engine, *architectures.questions(90, longest=70)) is not None


def test_where_the_kernel_for_unequal_lengths_fails_the_tree_is_computed_by_mask(monkeypatch):
    model = model_with_large_weights(LlamaForCausalLM, LlamaConfig(**SHAPE))
    monkeypatch.setattr(variable_length_attention, "has_kernel", lambda *_: True)  # it is not on CPUs, and raises
    engine = TreeEngine(model, 40, "lengths", 400)
    with pytest.raises(NotImplementedError):
        engine.check_tree()
    engine.choose_path()
    assert (engine.computation_path, engine.attention_method) == ("tree", "mask")
    assert "computed by mask, which is slower, because PyTorch's kernel fails" in engine.path_note
    assert architectures.differences(engine, *architectures.questions(90, longest=70)) is None


@pytest.mark.parametrize(
    ("device_name", "dtype", "capability", "method"),
    [
        ("cpu", torch.bfloat16, None, "runs"),
        ("cuda:0", torch.bfloat16, (9, 0), "lengths"),
        ("cuda:1", torch.float16, (8, 0), "lengths"),
        ("cuda:2", torch.float32, (9, 0), "mask"),
        ("cuda:3", torch.float16, (7, 5), "mask"),
        ("mps", torch.float16, None, "mask"),
    ],
)
def test_a_gpu_with_the_kernel_attends_by_lengths_in_half_precision(
    device_name, dtype, capability, method, monkeypatch
):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    without_cache = variable_length_kernel.has_kernel.__wrapped__
    monkeypatch.setattr(variable_length_kernel, "has_kernel", without_cache)
    assert tree_attention.default_attention_method(torch.device(device_name), dtype) == method


def plain_span_key_indices(batch):
    """As `span_key_indices`, from the definition: a span's ancestors, then itself."""
    cached_count = len(batch.cached_indices)
    keys_by_span = [
        [*span.ancestor_indices, *range(cached_count + span.start, cached_count + span.end)]
        for span in batch.token_spans
    ]
    return sum(keys_by_span, [])


@pytest.mark.parametrize("budget", [1, 2, 7, 40, 1000])
@pytest.mark.parametrize("max_ended_paths", [None, 3])
def test_the_keys_of_all_spans_are_their_ancestors_and_themselves(budget, max_ended_paths):
    generator = random.Random(budget)
    requests = [
        ScoredSequence([generator.randrange(3) for _ in range(generator.randrange(2, 12))], 1) for _ in range(60)
    ]
    batches = [*prefix_tree.tree_batches(requests, budget, max_ended_paths)]
    assert any(batch.cached_indices for batch in batches) == (budget < 1000 or max_ended_paths is not None)
    for batch in batches:
        assert variable_length_attention.span_key_indices(batch).tolist() == plain_span_key_indices(batch)


def test_a_batch_whose_spans_share_much_is_not_copied_for_each_of_them():
    shared_ids = list(range(40))
    requests = [ScoredSequence([*shared_ids, token_id, token_id], 41) for token_id in range(50, 80)]
    (batch,) = prefix_tree.tree_batches(requests, 1000)
    spans = variable_length_attention.GatheredSpans(batch, torch.device("cpu"))
    assert spans.copies_of_keys == pytest.approx((41 + 29 * 41) / 70)
    assert spans.copies_of_keys > variable_length_attention.MAX_COPIES_OF_KEYS


def test_a_window_that_is_never_reached_by_the_check_is_known_from_the_model():
    model = MistralForCausalLM(MistralConfig(**SHAPE, num_key_value_heads=2, sliding_window=4096))
    assert TreeEngine(model).tree_forward.layout.window_tokens_by_mask == (4096,)
    assert TreeEngine(LlamaForCausalLM(LlamaConfig(**SHAPE))).tree_forward.layout.window_tokens_by_mask == (None,)


def test_beyond_blocks_of_attention_only_long_requests_go_the_plain_way(monkeypatch):
    engine = TreeEngine(tiny_model_of("llama4_text"), max_batch_tokens=64, max_cache_tokens=600)
    engine.choose_path()
    assert (engine.computation_path, engine.max_tree_tokens) == (
        "tree",
        32,
    ) and "more than 32 tokens" in engine.path_note
    alone, whole = [], engine.plain_passes.log_probabilities
    monkeypatch.setattr(
        engine.plain_passes, "log_probabilities", lambda ids, *more: alone.append(len(ids)) or whole(ids, *more)
    )
    requests, prompts = architectures.questions()
    counts = []
    assert architectures.differences(engine, requests, prompts) is None
    engine.log_likelihoods(requests, counts.append)
    assert alone and min(alone) > 32
    assert sum(counts) == prefix_tree.count_distinct_tokens(requests)


@pytest.mark.parametrize("kind", ["dynamic", "longrope"])
def test_rotary_frequencies_that_depend_on_the_whole_input_are_those_of_each_request_alone(kind):
    factors = {"short_factor": [1.0] * 4, "long_factor": [3.0] * 4} if kind == "longrope" else {}
    rope = {"rope_type": kind, "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 40} | factors
    config = LlamaConfig(**SHAPE, rope_parameters=rope, max_position_embeddings=160 if kind == "longrope" else 40)
    model = model_with_large_weights(LlamaForCausalLM, config)
    engine = TreeEngine(model)
    engine.choose_path()
    assert engine.computation_path == "tree" and engine.max_tree_tokens == 39
    draw = random.Random(1)
    requests = [
        ScoredSequence([draw.randrange(90) for _ in range(length)], 3) for length in (120, 30, 60, 41, 40, 39, 80, 20)
    ]
    for sequence, (logprob, _) in zip(requests, engine.log_likelihoods(requests), strict=True):
        fresh = model_with_large_weights(LlamaForCausalLM, config)  # nothing was asked of it before
        with torch.inference_mode():
            table = fresh(torch.tensor([sequence.token_ids[:-1]])).logits[0].log_softmax(-1)
        assert logprob == pytest.approx(float(table[range(2, len(table)), sequence.token_ids[3:]].sum()), abs=1e-3)
