"""Causal architectures of every kind: the tree where it is exact, plain passes where it is not, and never a wrong tree."""

import architectures
import pytest
import torch
from architectures import tiny_model_of

from orca_bench import library_settings
from orca_bench.evaluate.engine.tree_engine import TreeEngine

NAMES = architectures.expected()
COMMON = [
    "bloom",
    "cohere",
    "falcon",
    "gemma",
    "gemma2",
    "gemma3_text",
    "gpt2",
    "gpt_neo",
    "gpt_neox",
    "gpt_oss",
    "gptj",
    "granite",
    "llama",
    "llama4_text",
    "mamba",
    "mistral",
    "mixtral",
    "mpt",
    "olmo2",
    "opt",
    "phi",
    "phi3",
    "qwen2",
    "qwen3",
    "smollm3",
    "stablelm",
]


@pytest.fixture(scope="module", autouse=True)
def _quiet():
    library_settings.prepare_libraries()


def assert_as_in_the_table(name):
    outcome = architectures.try_out(name, *architectures.questions())
    assert outcome.path == NAMES[name], outcome.reason


@pytest.mark.parametrize("name", COMMON)
def test_answers_are_those_of_plain_passes_by_the_way_of_the_table(name):
    assert_as_in_the_table(name)


@pytest.mark.parametrize(
    ("name", "options", "path"),
    [
        ("granite", {"logits_scaling": 6.0, "embedding_multiplier": 3.0, "residual_multiplier": 0.5}, "tree"),
        ("gemma2", {"attn_logit_softcapping": 3.0, "final_logit_softcapping": 5.0}, "tree"),
        ("qwen2", {"use_sliding_window": True, "max_window_layers": 2}, "tree"),
        ("mistral", {"sliding_window": 1}, "tree"),
        ("opt", {"word_embed_proj_dim": 16}, "tree"),
        ("gpt_bigcode", {"multi_query": False}, "tree"),
        ("bert", {"is_decoder": True}, "tree"),
        ("falcon", {"alibi": True}, "plain"),
        ("falcon", {"new_decoder_architecture": True, "num_kv_heads": 2}, "plain"),
        ("roberta", {"is_decoder": True}, "plain"),
        ("xlm", {"causal": True}, "plain"),
        ("gemma3_text", {"use_bidirectional_attention": True}, "refused"),
        ("llama", {"is_causal": False}, "refused"),
    ],
)
def test_options_that_change_how_an_architecture_attends_or_scales(name, options, path, monkeypatch):
    monkeypatch.setitem(architectures.OVERRIDES, name, options)
    outcome = architectures.try_out(name, *architectures.questions())
    assert outcome.path == path, outcome.reason


@pytest.mark.long
@pytest.mark.parametrize("name", [name for name in NAMES if name not in COMMON])
def test_every_other_architecture_does_what_the_table_says(name):
    assert_as_in_the_table(name)


def test_the_table_has_every_causal_architecture_of_transformers():
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    assert sorted(NAMES) == sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
    assert "differs" not in NAMES.values()


@pytest.mark.parametrize("name", ["falcon_h1", "jamba", "lfm2_moe", "nemotron_h", "zaya", "zamba"])
def test_a_recurrent_layer_beside_attention_is_noticed_where_rounding_would_hide_it(name):
    """In bfloat16 log-probabilities may differ by a quarter of a nat, which is more than these layers change in tiny models."""
    engine = TreeEngine(tiny_model_of(name).to(torch.bfloat16), max_batch_tokens=64, max_cache_tokens=600)
    engine.choose_path()
    assert engine.computation_path == "plain"


@pytest.mark.parametrize("name", ["llama", "mixtral", "gemma2", "gpt_oss", "gpt_neox"])
@pytest.mark.parametrize("kind", ["runs", "mask"])  # on a CPU "lengths" is "mask"
def test_bfloat16_does_not_drive_a_model_out_of_the_tree(name, kind):
    engine = TreeEngine(
        tiny_model_of(name).to(torch.bfloat16), max_batch_tokens=64, max_cache_tokens=600, attention_method=kind
    )
    engine.choose_path()
    assert engine.computation_path == "tree", engine.plain_path_reason
