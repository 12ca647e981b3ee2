"""Causal architectures of every kind: the tree where it is exact, plain passes where it is not, and never a wrong tree."""

import json
import random
from types import SimpleNamespace

import architectures
import pytest
import torch
from transformers import AutoConfig, LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

from orca_bench import library_settings, tokenizers
from orca_bench.errors import NotFinite, UserError
from orca_bench.evaluate.engine import prefix_tree, tree_attention
from orca_bench.evaluate.engine.tree_engine import TreeEngine
from orca_bench.evaluate.request_encoding import Ids
from orca_bench.models import architecture
from orca_bench.train import student_model

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
SHAPE = dict(vocab_size=90, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4)


@pytest.fixture(scope="module", autouse=True)
def _quiet():
    library_settings.prepare()


def held(name):
    outcome = architectures.try_out(name, *architectures.questions())
    assert outcome.path == NAMES[name], outcome.reason


@pytest.mark.parametrize("name", COMMON)
def test_answers_are_those_of_plain_passes_by_the_way_of_the_table(name):
    held(name)


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


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NAMES if name not in COMMON])
def test_every_other_architecture_does_what_the_table_says(name):
    held(name)


def test_the_table_has_every_causal_architecture_of_transformers():
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    assert sorted(NAMES) == sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
    assert "differs" not in NAMES.values()


def tiny(name):
    return architectures.tiny(architectures.configuration(name, 600))


def loud(kind, config):
    """A random model whose answers differ."""
    torch.manual_seed(0)
    model = kind(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(5)
    return model


@pytest.mark.parametrize("name", ["falcon_h1", "jamba", "lfm2_moe", "nemotron_h", "zaya", "zamba"])
def test_a_recurrent_layer_beside_attention_is_noticed_where_rounding_would_hide_it(name):
    """In bfloat16 log-probabilities may differ by a quarter of a nat, which is more than these layers change in tiny models."""
    engine = TreeEngine(tiny(name).to(torch.bfloat16), batch_tokens=64, kept_tokens=600)
    engine.choose_path()
    assert engine.path == "plain"


@pytest.mark.parametrize("name", ["llama", "mixtral", "gemma2", "gpt_oss", "gpt_neox"])
@pytest.mark.parametrize("kind", tree_attention.KINDS)
def test_bfloat16_does_not_drive_a_model_out_of_the_tree(name, kind):
    engine = TreeEngine(tiny(name).to(torch.bfloat16), batch_tokens=64, kept_tokens=600, attention=kind)
    engine.choose_path()
    assert engine.path == "tree", engine.reason


@pytest.mark.parametrize("option", [{"softcap": 30.0}, {"s_aux": torch.ones(4)}])
def test_what_an_attention_takes_is_computed(option):
    """Caps and sinks, under masks of both kinds, as transformers' eager attention of Gemma 2 and gpt-oss computes them."""
    query, key, value = (torch.randn(1, 4, 6, 8, generator=torch.Generator().manual_seed(n)) * 3 for n in range(3))
    variant = tree_attention.Variant(0.5, option.get("softcap"), option.get("s_aux"))
    visible = torch.ones(6, 6, dtype=torch.bool).tril()
    scores = (query @ key.transpose(-1, -2)) * 0.5
    if "softcap" in option:
        scores = 30.0 * torch.tanh(scores / 30.0)
    exponentials = scores.exp() * visible
    total = exponentials.sum(-1, keepdim=True) + (torch.e if "s_aux" in option else 0.0)
    wanted = (exponentials / total) @ value
    added = torch.zeros(6, 6).masked_fill(~visible, float("-inf"))
    for mask, causal in ((visible, False), (added, False), (None, True)):
        assert torch.allclose(tree_attention._attention(query, key, value, variant, mask, causal), wanted, atol=1e-5)


def test_an_attention_that_takes_something_unknown_is_left_to_the_model():
    seen = tree_attention.Seen()
    module, heads = torch.nn.Module(), torch.ones(1, 2, 3, 4)
    config = LlamaConfig(**SHAPE)
    with tree_attention.attending(config, seen), pytest.raises(tree_attention.Unfit, match="takes bias_of_heads"):
        tree_attention._attend(module, heads, heads, heads, None, bias_of_heads=torch.ones(2))
    module.is_causal = False
    with tree_attention.attending(config, seen), pytest.raises(tree_attention.Unfit, match="not causal"):
        tree_attention._attend(module, heads, heads, heads, None)
    with tree_attention.attending(config, seen), pytest.raises(tree_attention.Unfit, match="mask of its own"):
        tree_attention._attend(torch.nn.Module(), heads, heads, heads, torch.ones(1, 1, 3, 3, dtype=torch.bool))


# --- windows --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", tree_attention.KINDS)
@pytest.mark.parametrize(("budget", "kept"), [(5, 1), (40, 400), (2048, 100_000)])
def test_a_sliding_window_narrower_than_the_input_is_exact_in_the_tree(kind, budget, kept):
    model = loud(MistralForCausalLM, MistralConfig(**SHAPE, num_key_value_heads=2, head_dim=8, sliding_window=7))
    engine = TreeEngine(model, budget, kind, kept)
    engine.choose_path()
    assert engine.path == "tree" and engine.layout.windows == (7,)
    assert architectures.differences(engine, *architectures.questions(90, longest=70)) is None


def test_a_window_that_is_never_reached_by_the_check_is_known_from_the_model():
    model = MistralForCausalLM(MistralConfig(**SHAPE, num_key_value_heads=2, sliding_window=4096))
    assert TreeEngine(model).layout.windows == (4096,)
    assert TreeEngine(LlamaForCausalLM(LlamaConfig(**SHAPE))).layout.windows == (None,)


def test_beyond_blocks_of_attention_only_long_requests_go_the_plain_way(monkeypatch):
    engine = TreeEngine(tiny("llama4_text"), batch_tokens=64, kept_tokens=600)
    engine.choose_path()
    assert (engine.path, engine.limit) == ("tree", 32) and "more than 32 tokens" in engine.note
    alone, whole = [], engine.plain.log_probabilities
    monkeypatch.setattr(
        engine.plain, "log_probabilities", lambda ids, *more: alone.append(len(ids)) or whole(ids, *more)
    )
    requests, prompts = architectures.questions()
    counts = []
    assert architectures.differences(engine, requests, prompts) is None
    engine.log_likelihoods(requests, counts.append)
    assert alone and min(alone) > 32
    assert sum(counts) == prefix_tree.distinct(requests)


@pytest.mark.parametrize("kind", ["dynamic", "longrope"])
def test_rotary_frequencies_that_depend_on_the_whole_input_are_those_of_each_request_alone(kind):
    factors = {"short_factor": [1.0] * 4, "long_factor": [3.0] * 4} if kind == "longrope" else {}
    rope = {"rope_type": kind, "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 40} | factors
    config = LlamaConfig(**SHAPE, rope_parameters=rope, max_position_embeddings=160 if kind == "longrope" else 40)
    model = loud(LlamaForCausalLM, config)
    engine = TreeEngine(model)
    engine.choose_path()
    assert engine.path == "tree" and engine.limit == 39
    draw = random.Random(1)
    requests = [Ids([draw.randrange(90) for _ in range(length)], 3) for length in (120, 30, 60, 41, 40, 39, 80, 20)]
    for sequence, (logprob, _) in zip(requests, engine.log_likelihoods(requests), strict=True):
        fresh = loud(LlamaForCausalLM, config)  # nothing was asked of it before
        with torch.inference_mode():
            table = fresh(torch.tensor([sequence.ids[:-1]])).logits[0].log_softmax(-1)
        assert logprob == pytest.approx(float(table[range(2, len(table)), sequence.ids[3:]].sum()), abs=1e-3)


@pytest.mark.parametrize(
    ("options", "tokens"),
    [
        ({"model_type": "gpt2", "n_positions": 77}, 77),
        ({"model_type": "mpt", "max_seq_len": 78}, 78),
        ({"model_type": "bloom", "seq_length": 79}, 79),
        ({"model_type": "bloom"}, 2048),
        ({"model_type": "mamba"}, 2048),
        ({"model_type": "openai-gpt", "n_positions": 80}, 80),
        ({"model_type": "llama4", "text_config": {"max_position_embeddings": 81}}, 81),
        ({"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 1}, 512),
        (
            {
                "model_type": "llama",
                "max_position_embeddings": 82,
                "rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4},
            },
            82,
        ),
    ],
)
def test_the_context_window_has_many_names(options, tokens):
    options = dict(options)
    assert architecture.window(AutoConfig.for_model(options.pop("model_type"), **options)) == tokens


# --- plain passes ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def plain_engine():
    engine = TreeEngine(tiny("falcon"))
    engine.choose_path()
    assert engine.path == "plain" and engine.plain.cache
    return engine


def test_progress_of_plain_passes_adds_up_to_the_tree_that_was_announced(plain_engine):
    requests, prompts = architectures.questions()
    counts, texts = [], []
    plain_engine.log_likelihoods(requests, counts.append)
    plain_engine.generate_ids(prompts, lambda number, ids: False, 3, texts.append)
    assert sum(counts) == prefix_tree.distinct(requests) and sum(texts) == len(prompts)


def test_requests_that_feed_the_same_share_a_pass(plain_engine, monkeypatch):
    passes, whole = [], plain_engine.plain.log_probabilities
    monkeypatch.setattr(
        plain_engine.plain, "log_probabilities", lambda ids, *more: passes.append(len(ids)) or whole(ids, *more)
    )
    plain_engine.log_likelihoods([Ids([5, 6, 7, choice], 3) for choice in (10, 11, 12, 13)] + [Ids([5, 6, 9], 1)])
    assert sorted(passes) == [2, 3]


def test_greedy_texts_ignore_what_a_folder_says_of_sampling(plain_engine):
    prompt = [[5, 9, 11, 20]]
    wanted = plain_engine.generate_ids(prompt, lambda number, ids: False, 12)
    model = plain_engine.model
    before = model.generation_config
    model.generation_config = type(before)(
        do_sample=True, temperature=3.0, repetition_penalty=9.0, eos_token_id=wanted[0][2], max_length=6
    )
    try:
        assert plain_engine.generate_ids(prompt, lambda number, ids: False, 12) == wanted
        assert model.generation_config.repetition_penalty == 9.0
    finally:
        model.generation_config = before


def test_stops_and_room_hold_without_a_tree_with_and_without_a_cache(plain_engine, monkeypatch):
    prompts = [[5, 9, 11], [7, 8]]
    with_cache = plain_engine.generate_ids(prompts, lambda number, ids: len(ids) == 2 + number, 9)
    assert [len(ids) for ids in with_cache] == [2, 3]
    monkeypatch.setattr(plain_engine.plain, "cache", False)
    assert plain_engine.generate_ids(prompts, lambda number, ids: len(ids) == 2 + number, 9) == with_cache


def test_memory_that_is_too_small_for_one_sequence_is_said(plain_engine, monkeypatch):
    def full(*_, **__):
        raise torch.OutOfMemoryError("as a GPU would")

    monkeypatch.setattr(plain_engine.model, "forward", full)
    with pytest.raises(UserError, match="out of memory with one sequence of 3 tokens"):
        plain_engine.log_likelihoods([Ids([1, 2, 3, 4], 1)])


def test_nan_is_named_on_the_plain_way():
    engine = TreeEngine(tiny("mpt"))
    engine.choose_path()
    engine.model.get_output_embeddings().weight.data[3] = float("nan")
    with pytest.raises(NotFinite, match="request 1"):
        engine.log_likelihoods([Ids([5, 6, 7, 8], 4), Ids([5, 6, 7, 9], 2)])
    with pytest.raises(NotFinite, match="nan to request 0"):
        engine.generate_ids([[1, 2, 3]], lambda number, ids: True, 4)
    with pytest.raises(NotFinite):
        engine.choose_path()


def test_a_model_that_sees_what_is_behind_is_refused():
    """A BERT that calls itself a decoder and is none: nothing in its configuration gives it away."""
    model = tiny("bert")
    model.config.is_decoder = True
    with pytest.raises(UserError, match="depends on the tokens behind it"):
        TreeEngine(model).choose_path()


# --- the command ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("bert", "encoder, unless"),
        ("xlnet", "not causal"),
        ("bart", "an encoder and a decoder"),
        ("t5", "an encoder and a decoder"),
        ("whisper", "an encoder and a decoder"),
        ("gemma3", "pictures or sounds"),
        ("git", "pictures or sounds"),
        ("clip", "no causal language model"),
    ],
)
def test_what_is_no_causal_model_of_text_is_refused_by_its_configuration(kind, reason, tmp_path):
    from orca_bench.models import model_folder as folder

    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    (tmp_path / "model.safetensors").write_bytes(b"never read")
    with pytest.raises(UserError, match=reason):
        folder.check(str(tmp_path))


def model_folder(name, tokenizer_file, folder):
    tokenizer = tokenizers.load(tokenizer_file)
    model = architectures.tiny(architectures.configuration(name, tokenizer.vocab_size))
    student_model.save(model, model.state_dict(), tokenizer, folder, {})
    return folder


@pytest.mark.parametrize(
    ("name", "path", "line"),
    [
        ("gemma2", "tree", None),
        (
            "mamba",
            "plain",
            "answers are computed by plain forward passes, which is slower, because its attention does not",
        ),
    ],
)
def test_the_way_is_said_once_and_stands_in_the_result(name, path, line, mini, command, tmp_path):
    folder = model_folder(name, mini["mini:tokenizer"], tmp_path / name)
    words = ["eval", "--model", folder, "--tasks", "arc_challenge,gsm8k", "--limit", "1", "--protocol", "leaderboard"]
    done = command(*words, "--benchmarks", mini["mini:benchmarks"])
    assert done.returncode == 0, done.stderr
    spoken = done.stdout + done.stderr
    if line is None:
        assert "plain forward passes" not in spoken
    else:
        assert " ".join(spoken.split()).count(line) == 1
    (result,) = (tmp_path / "runs" / name / "results").glob("*limit1.json")
    engine = json.loads(result.read_text())["model"]["engine"]
    assert engine["path"] == path and ("reason" in engine) == (path == "plain")


def test_training_examples_longer_than_the_base_models_window_are_refused(tiny_model, mini, command):
    recipe = {
        "name": "long",
        "model": {"base": str(tiny_model)},
        "data": {"records": [str(mini["mini:records"])], "max_length": 1025},
    }
    path = command.folder / "long.yaml"
    path.write_text(json.dumps(recipe))
    line = command.refused("train", path, "--dry-run")
    assert "data.max_length" in line and "1025" in line and "1024" in line


@pytest.mark.parametrize("name", ["falcon", "gpt2", "jamba", "mamba", "openai-gpt", "rwkv"])
def test_generate_answers_with_every_kind_of_cache(name, mini, tmp_path):
    from orca_bench.serve.text_generation import Generator, Sampling

    generator = Generator(str(model_folder(name, mini["mini:tokenizer"], tmp_path / name)))
    generator.tokenizer = SimpleNamespace(stop_ids=())  # whatever is likeliest, the answer goes on
    prompt = [5, 9, 11, 20, 7]
    token_ids = list(generator._tokens(prompt, 8, Sampling(greedy=True)))
    engine = TreeEngine(generator.model)
    engine.choose_path()
    assert token_ids == engine.generate_ids([prompt], lambda number, ids: False, 8)[0]
