"""Which model an answer belongs to: whatever can change an answer changes the identity, and nothing else does."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from orca_bench.errors import UserError
from orca_bench.models import model_identity
from orca_bench.models.model_folder import ModelFolder
from orca_bench.models.model_loading import load_model


@pytest.fixture
def folder(tiny_model, tmp_path):
    """A copy of the tiny model, with every file that may hold special tokens."""
    copy = tmp_path / "model"
    shutil.copytree(tiny_model, copy)
    tokens = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    edit(
        copy / "tokenizer_config.json", tokens | {"added_tokens_decoder": {"0": {"content": "<unk>", "special": True}}}
    )
    (copy / "special_tokens_map.json").write_text(
        json.dumps(tokens | {"eos_token": {"content": "</s>", "lstrip": False}})
    )
    (copy / "added_tokens.json").write_text(json.dumps({"<pad>": 1024}))
    edit(copy / "generation_config.json", {"eos_token_id": [2, 3]})
    return copy


def edit(file, keys):
    file.write_text(json.dumps(json.loads(file.read_text()) | keys))


def other(value):
    """A value of the same kind that is not this one."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value * 2 or 1
    if isinstance(value, str):
        return "gelu" if value == "silu" else f"{value}x"
    if isinstance(value, list):
        return [*value, value[-1] if value else 1]
    return 7 if value is None else None


def leaves(content, path=()):
    """Every place in a JSON value below which there is no object."""
    if isinstance(content, dict) and content:
        for key, value in content.items():
            yield from leaves(value, (*path, key))
    else:
        yield path


def changed(content, path):
    """A copy of a JSON object with another value at one place."""
    copy = json.loads(json.dumps(content))
    inner = copy
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = other(inner[path[-1]])
    return copy


def accepted_changes(folder, content):
    """(path, identity) of each change of config.json that transformers accepts."""
    for path in leaves(content):
        (folder / "config.json").write_text(json.dumps(changed(content, path)))
        try:
            yield path, model_identity.folder_part_hashes(ModelFolder(str(folder)))
        except UserError:
            continue


#: Keys that transformers itself reads away: a window that `use_sliding_window: false` turns off.
READ_AWAY = {"qwen2": {"sliding_window"}}


@pytest.mark.parametrize("kind", ["llama", "mistral", "qwen2", "gemma2", "gpt_neox", "mixtral"])
def test_every_key_of_a_config_makes_another_model_but_the_cosmetic_ones(tmp_path, kind):
    from transformers import AutoConfig

    AutoConfig.for_model(kind).save_pretrained(tmp_path)
    content = json.loads((tmp_path / "config.json").read_text())
    before, changed_keys = model_identity.folder_part_hashes(ModelFolder(str(tmp_path))), set()
    for path, after in accepted_changes(tmp_path, content):
        changed_keys.add(path[0])
        cosmetic = path[0] in model_identity.COSMETIC_CONFIG_KEYS | READ_AWAY.get(kind, set())
        assert (after == before) == cosmetic, path
    assert {"vocab_size", "max_position_embeddings", "eos_token_id", "bos_token_id"} <= changed_keys
    assert len(changed_keys - model_identity.COSMETIC_CONFIG_KEYS) > 12


@pytest.mark.parametrize("key", ["sliding_window", "rope_scaling", "logits_scaling", "quantization_config", "made_up"])
def test_a_key_that_was_not_there_makes_another_model(folder, key):
    before = model_identity.folder_part_hashes(ModelFolder(str(folder)))
    edit(folder / "config.json", {key: {"rope_type": "linear", "factor": 2.0} if key == "rope_scaling" else 4})
    try:
        assert model_identity.folder_part_hashes(ModelFolder(str(folder)))["config"] != before["config"]
    except UserError:
        assert key == "quantization_config"


def test_a_default_that_is_written_out_makes_none(folder):
    before = model_identity.folder_part_hashes(ModelFolder(str(folder)))
    config = json.loads((folder / "config.json").read_text())
    assert config.pop("mlp_bias") is False and config.pop("hidden_act") == "silu"
    (folder / "config.json").write_text(json.dumps(dict(reversed(config.items()))))
    assert model_identity.folder_part_hashes(ModelFolder(str(folder))) == before


@pytest.mark.parametrize(
    ("name", "part", "cosmetic"),
    [
        ("tokenizer_config.json", "tokenizer", model_identity.COSMETIC_TOKENIZER_KEYS),
        ("special_tokens_map.json", "tokenizer", set()),
        ("added_tokens.json", "tokenizer", set()),
        ("generation_config.json", "generation", model_identity.COSMETIC_GENERATION_KEYS),
    ],
)
def test_every_special_token_and_every_stop_makes_another_model(folder, name, part, cosmetic):
    before, content = (
        model_identity.folder_part_hashes(ModelFolder(str(folder))),
        json.loads((folder / name).read_text()),
    )
    for path in leaves(content):
        (folder / name).write_text(json.dumps(changed(content, path)))
        after = model_identity.folder_part_hashes(ModelFolder(str(folder)))
        assert model_identity.differing_parts(before, after) == ([] if path[0] in cosmetic else [part]), path
        (folder / name).write_text(json.dumps({key: value for key, value in content.items() if key != path[0]}))
        assert (model_identity.folder_part_hashes(ModelFolder(str(folder))) == before) == (path[0] in cosmetic)


def test_cosmetic_keys_of_tokenizer_and_generation_make_none(folder):
    before = model_identity.folder_part_hashes(ModelFolder(str(folder)))
    edit(folder / "tokenizer_config.json", dict.fromkeys(model_identity.COSMETIC_TOKENIZER_KEYS, "x"))
    edit(folder / "generation_config.json", dict.fromkeys(model_identity.COSMETIC_GENERATION_KEYS, "x"))
    (folder / "README.md").write_text("x")
    assert model_identity.folder_part_hashes(ModelFolder(str(folder))) == before


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt"])
def test_every_file_of_a_vocabulary_belongs_to_the_model(folder, name):
    before = model_identity.folder_part_hashes(ModelFolder(str(folder)))
    with open(folder / name, "ab") as handle:
        handle.write(b" ")
    assert model_identity.differing_parts(before, model_identity.folder_part_hashes(ModelFolder(str(folder)))) == [
        "tokenizer"
    ]
    (folder / name).unlink()
    assert name in ("vocab.json", "merges.txt") or model_identity.differing_parts(
        before, model_identity.folder_part_hashes(ModelFolder(str(folder)))
    )


def identity_of(folder, dtype="float32", engine=None):
    model = load_model(ModelFolder(str(folder)), dtype, "auto")
    return model_identity.loaded_model_identity(
        model, ModelFolder(str(folder)), torch.device("cpu"), engine or {"attention": "runs"}
    )


def test_each_weight_the_dtype_and_the_way_of_attending_belong_to_a_loaded_model(folder):
    before = identity_of(folder)
    assert identity_of(folder) == before and len(before["sha256"]) == 64
    assert model_identity.differing_parts(before, identity_of(folder, engine={"attention": "mask"})) == ["engine"]
    assert model_identity.differing_parts(before, identity_of(folder, dtype="bfloat16")) == ["dtype", "weights"]
    state = load_file(folder / "model.safetensors")
    for name in ("model.norm.weight", "lm_head.weight"):
        file = folder / "model.safetensors"
        save_file(state | {name: state[name] + 1e-3}, file, metadata={"format": "pt"})
        after = identity_of(folder)
        assert model_identity.differing_parts(before, after) == ["weights"] and after["sha256"] != before["sha256"]


def test_a_server_is_known_by_its_address_its_model_and_the_tokenizer_and_one_started_here_by_the_weights(folder):
    served = {"name": "api", "served_model": "a", "base_url": "http://x/v1"}
    before = model_identity.server_model_identity(served, ModelFolder(str(folder)))
    for key in served:
        assert model_identity.differing_parts(
            before, model_identity.server_model_identity(served | {key: "b"}, ModelFolder(str(folder)))
        ) == ["server"]
    here = model_identity.server_model_identity({"name": "vllm"}, ModelFolder(str(folder)), "bfloat16")
    assert model_identity.differing_parts(
        here, model_identity.server_model_identity({"name": "vllm"}, ModelFolder(str(folder)), "float16")
    ) == ["dtype"]
    with open(folder / "model.safetensors", "r+b") as handle:
        handle.seek(-2, 2)
        handle.write(b"\x00\x01")
    assert model_identity.server_model_identity(served, ModelFolder(str(folder))) == before
    assert model_identity.differing_parts(
        here, model_identity.server_model_identity({"name": "vllm"}, ModelFolder(str(folder)), "bfloat16")
    ) == ["weights"]


def test_answers_of_another_rope_are_not_used_again(command, folder, mini):
    words = ["--model", folder, "--benchmarks", mini["mini:benchmarks"], "--tasks", "arc", "--limit", "4"]
    first = command("eval", *words, "--out", "first.json")
    assert first.returncode == 0, first.stderr
    again = command("eval", *words, "--out", "again.json")
    assert "answers were cached by an earlier run" in again.stderr
    rope = json.loads((folder / "config.json").read_text())["rope_parameters"]
    edit(folder / "config.json", {"rope_parameters": rope | {"rope_theta": 500.0}})
    other_rope = command("eval", *words, "--out", "other.json")
    assert other_rope.returncode == 0 and "were kept" not in other_rope.stderr

    def read(name):
        result = json.loads((command.folder / f"{name}.json").read_text())
        return result["model"]["identity"], (command.folder / f"{name}.questions.jsonl").read_text()

    assert read("first") == read("again")
    assert model_identity.differing_parts(read("first")[0], read("other")[0]) == ["config"]
    assert read("first")[1] != read("other")[1]
