"""The passes of models that are built as LLaMA is: those of transformers in float32, and nearer to them in bfloat16."""

import copy
import platform
import random

import pytest
import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from orca_bench import library_settings
from orca_bench.evaluate.engine import matrix_products, product_attention
from orca_bench.evaluate.engine.attention_interface import AttentionOptions, masked_attention
from orca_bench.evaluate.engine.tree_engine import TreeEngine
from orca_bench.evaluate.request_encoding import ScoredSequence

SHAPE = dict(vocab_size=90, hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4)
MODELS = {
    "llama": (LlamaForCausalLM, LlamaConfig(**SHAPE)),
    "llama, shared keys, biases, tied": (
        LlamaForCausalLM,
        LlamaConfig(
            **SHAPE, num_key_value_heads=2, attention_bias=True, mlp_bias=True, tie_word_embeddings=True, head_dim=24
        ),
    ),
    "mistral, window of 7": (MistralForCausalLM, MistralConfig(**SHAPE, num_key_value_heads=2, sliding_window=7)),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config(**SHAPE, num_key_value_heads=1)),
    "qwen2, a window of 5 in one layer": (
        Qwen2ForCausalLM,
        Qwen2Config(
            **SHAPE,
            num_key_value_heads=4,
            use_sliding_window=True,
            sliding_window=5,
            layer_types=["full_attention", "sliding_attention", "full_attention"],
        ),
    ),
}


@pytest.fixture(scope="module", autouse=True)
def _quiet():
    library_settings.prepare_libraries()


def random_model(kind):
    """A random model with biases and norms that matter."""
    model_class, config = MODELS[kind]
    torch.manual_seed(0)
    model = model_class(copy.deepcopy(config)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(4)
            else:
                parameter.add_(torch.randn_like(parameter) * 0.2)
    return model


def random_sequences(count=40):
    rng = random.Random(0)
    stems = [[rng.randrange(90) for _ in range(rng.randint(20, 70))] for _ in range(5)]
    tails = [[rng.randrange(90) for _ in range(rng.randint(2, 9))] for _ in range(count)]
    return [ScoredSequence(stems[n % 5] + tail, len(stems[n % 5]) + 1) for n, tail in enumerate(tails)]


def plain_log_probability(model, sequence):
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([sequence.token_ids])).logits[0, :-1]
    places = range(sequence.scored_start - 1, len(sequence.token_ids) - 1)
    return float(logits.float().log_softmax(-1)[places, sequence.token_ids[sequence.scored_start :]].double().sum())


@pytest.mark.parametrize("kind", MODELS)
def test_answers_and_texts_are_those_of_transformers(kind):
    model = random_model(kind)
    engine = TreeEngine(model, max_batch_tokens=50, max_cache_tokens=200)
    assert engine.tree_forward.llama_decoder is not None
    assert engine.check_tree() < 1e-4 and engine.computation_path == "tree"
    sequences = random_sequences()
    for sequence, answer in zip(sequences, engine.log_likelihoods(sequences), strict=True):
        assert answer.log_probability == pytest.approx(plain_log_probability(model, sequence), abs=1e-4)
    prompts = [sequence.token_ids[:30] for sequence in sequences[:5]]
    for prompt, ids in zip(prompts, engine.generate_ids(prompts, lambda n, ids: False, 8), strict=True):
        out = model.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            max_new_tokens=8,
            do_sample=False,
            pad_token_id=0,
            eos_token_id=None,
        )
        assert ids == out[0, len(prompt) :].tolist()


@pytest.mark.parametrize("has_amx", [True, False])
def test_in_bfloat16_it_is_at_most_half_as_far_from_float32_as_transformers(has_amx, monkeypatch):
    """With AMX queries, keys and values are rounded too; what is computed then is the same, and slower, without."""
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: has_amx)
    exact = random_model("llama, shared keys, biases, tied")
    rounded = copy.deepcopy(exact).to(torch.bfloat16)
    exact.load_state_dict(rounded.state_dict())  # the same weights, so that only the computation differs
    sequences = random_sequences()
    expected = [plain_log_probability(exact, sequence) for sequence in sequences]
    engine = TreeEngine(rounded)
    assert engine.tree_forward.llama_decoder is not None
    engine.choose_path()
    assert engine.computation_path == "tree"
    here = [answer.log_probability for answer in engine.log_likelihoods(sequences)]
    there = [plain_log_probability(rounded, sequence) for sequence in sequences]
    change_here, change_there = (
        sum(abs(a - b) for a, b in zip(values, expected, strict=True)) for values in (here, there)
    )
    assert 0 < change_here <= change_there / 2
    # Answers that are cached by an engine with other sums are none of this one.
    more_fields = {"attention_inputs": "bfloat16"} if has_amx else {}
    assert engine.rounding_fields == {"sums": "float32"} | more_fields and TreeEngine(exact).rounding_fields == {}
    layout = engine.tree_forward.layout
    bytes_per_number = 2 if has_amx else 4
    assert (
        layout.cache_bytes_per_token == 3 * 2 * 2 * 24 * bytes_per_number
    )  # layers, keys and values, heads, head size


@pytest.mark.parametrize("kind", ["llama, shared keys, biases, tied", "mistral, window of 7", "qwen2"])
def test_texts_of_attention_in_bfloat16_are_those_of_its_own_log_probabilities(kind, monkeypatch):
    """Generation attends step by step to keys that are kept in bfloat16, the tree to all at once."""
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    engine = TreeEngine(random_model(kind).to(torch.bfloat16), max_batch_tokens=50, max_cache_tokens=200)
    prompts = [sequence.token_ids[:30] for sequence in random_sequences()[:5]]
    texts = engine.generate_ids(prompts, lambda n, ids: False, 4)
    for prompt, ids in zip(prompts, texts, strict=True):
        candidates = [ScoredSequence([*prompt, token_id], len(prompt)) for token_id in range(90)]
        log_probabilities = [answer.log_probability for answer in engine.log_likelihoods(candidates)]
        assert log_probabilities[ids[0]] > max(log_probabilities) - 0.25
        continued = [ScoredSequence([*prompt, *ids[:-1], token_id], len(prompt) + 3) for token_id in range(90)]
        log_probabilities = [answer.log_probability for answer in engine.log_likelihoods(continued)]
        assert log_probabilities[ids[-1]] > max(log_probabilities) - 0.25


def test_a_product_in_bfloat16_of_float32_is_as_exact_as_its_inputs_and_leaves_pytorchs_setting():
    """Its output is not rounded, and products in float32 are not computed so from then on."""
    generator = torch.Generator().manual_seed(0)
    inputs, weight = (torch.randn(shape, generator=generator).bfloat16().float() for shape in ((1, 64, 96), (48, 96)))
    exact_inputs = torch.randn((1, 64, 96), generator=generator)
    products, setting = matrix_products.products_of_this_cpu(), torch.backends.mkldnn.matmul.fp32_precision
    with torch.inference_mode():
        before = products.linear(exact_inputs, weight, None)
        result = products.linear_in_bfloat16(inputs, weight, None)
        rounded = products.linear_in_bfloat16(exact_inputs, weight, None)
        assert torch.equal(products.linear(exact_inputs, weight, None), before)
    torch.testing.assert_close(result, inputs @ weight.T, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(rounded, exact_inputs @ weight.T, rtol=0.02, atol=0.2)
    assert torch.backends.mkldnn.matmul.fp32_precision == setting and torch.get_float32_matmul_precision() == "highest"


@pytest.mark.parametrize("change", ["hook", "adapter", "activation", "norm", "float16"])
def test_a_changed_model_is_computed_by_its_own_code(change):
    """What such a part does would be left out."""
    model = random_model("llama")
    layer = model.model.layers[1]
    if change == "hook":
        layer.mlp.register_forward_hook(lambda module, inputs, output: output * 2)
    elif change == "adapter":
        layer.self_attn.q_proj = torch.nn.Sequential(layer.self_attn.q_proj)
    elif change == "activation":
        model.config.hidden_act = "gelu"
    elif change == "norm":
        model.model.norm = torch.nn.LayerNorm(64)
    else:
        model = model.half()
    engine = TreeEngine(model)
    assert engine.tree_forward.llama_decoder is None


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="oneDNN's operators are used on x86-64")
@pytest.mark.parametrize("row_count", [7, 40])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_products_of_onednn_are_those_of_pytorch(dtype, row_count):
    """Fails where PyTorch no longer has the operators (2.13 has them), which are no public interface."""
    products, expected = matrix_products.products_of_this_cpu(), matrix_products.TorchProducts()
    assert isinstance(products, matrix_products.OneDnnProducts)
    generator = torch.Generator().manual_seed(0)
    inputs, weight, bias, factors = (
        torch.randn(shape, generator=generator).to(dtype)
        for shape in ((1, row_count, 64), (48, 64), (48,), (1, row_count, 48))
    )
    summands = torch.randn(1, row_count, 48, generator=generator)
    tolerance = dict(rtol=0.02, atol=0.05) if dtype == torch.bfloat16 else dict(rtol=1e-5, atol=2e-5)
    with torch.inference_mode():
        for offset in (None, bias):
            for name, more in (
                ("linear", ()),
                ("linear_silu", ()),
                ("linear_multiplied", (factors,)),
                ("linear_added", (summands,)),
            ):
                result = getattr(products, name)(inputs, weight, offset, *(tensor.clone() for tensor in more))
                torch.testing.assert_close(result, getattr(expected, name)(inputs, weight, offset, *more), **tolerance)
                assert result.dtype == (torch.float32 if name == "linear_added" else dtype)


@pytest.mark.parametrize("value_size", [16, 12])  # latent attention, as DeepSeek's, has values of another head size
@pytest.mark.parametrize("heads,key_heads,queries,keys", [(6, 2, 100, 300), (3, 3, 256, 256), (4, 1, 64, 193)])
def test_attention_by_products_is_pytorchs(heads, key_heads, queries, keys, value_size):
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(1, heads, queries, 16, generator=generator)
    key, value = (
        torch.randn(1, keys, key_heads, size, generator=generator).transpose(1, 2) for size in (16, value_size)
    )
    mask = torch.ones(queries, keys, dtype=torch.bool).tril(keys - queries)
    with torch.inference_mode():
        assert product_attention.is_faster(query, key) == (platform.machine() in ("x86_64", "AMD64"))
        result = product_attention.causal_attention(query, key, value, 0.3)
        expected = masked_attention(query, key, value, AttentionOptions(0.3), mask)
    torch.testing.assert_close(result, expected, rtol=1e-5, atol=1e-5)


def test_long_spans_after_other_tokens_are_the_plain_ones():
    """So long that blocks are attended by products."""
    model = random_model("llama, shared keys, biases, tied")
    rng = random.Random(1)
    stem = [rng.randrange(90) for _ in range(200)]
    tails = [[rng.randrange(90) for _ in range(count)] for count in (300, 310, 3)]
    sequences = [ScoredSequence(stem + tail, 200) for tail in tails]
    for sequence, answer in zip(sequences, TreeEngine(model, 400).log_likelihoods(sequences), strict=True):
        expected = plain_log_probability(model, sequence)
        assert answer.log_probability == pytest.approx(expected, abs=1e-3)
