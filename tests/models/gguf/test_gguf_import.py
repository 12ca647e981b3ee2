"""A folder becomes a GGUF file and a folder again: weights, configuration and token ids are the same."""

import hashlib
import json
import shutil

import pytest
import torch
from gguf_copies import copy_gguf
from safetensors.torch import load_file, save_file
from tiny_llamas import make_model

from orca_bench import tokenizers
from orca_bench.errors import UserError
from orca_bench.models.gguf import gguf_import
from orca_bench.models.gguf.gguf_export import export_gguf
from orca_bench.models.model_folder import ModelFolder, locate_model
from orca_bench.tokenizers import probe_texts

KINDS = ("mini", "llama", "symbols", "no_prefix", "llama-bpe", "qwen2", "gpt-2", "smollm")


def imported(gguf_file, folder, dtype="auto"):
    gguf_import.import_gguf(gguf_import.read_gguf(gguf_file, dtype), folder)
    return folder


def weights(folder):
    return {name: tensor for file in sorted(folder.glob("*.safetensors")) for name, tensor in load_file(file).items()}


def with_dtype(folder, copy, dtype):
    """A copy of a folder with its weights in another dtype."""
    shutil.copytree(folder, copy)
    state = {name: tensor.to(dtype) for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(state, copy / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"dtype": str(dtype).removeprefix("torch.")}))
    return copy


def same_weights(folder, other_folder):
    state, other_state = weights(folder), weights(other_folder)
    return state.keys() == other_state.keys() and all(
        torch.equal(tensor, other_state[name]) and tensor.dtype == other_state[name].dtype
        for name, tensor in state.items()
    )


@pytest.mark.parametrize("kind", KINDS)
def test_weights_and_token_ids_come_back_as_they_were(llamas, gguf_files, tmp_path, kind):
    folder = imported(gguf_files[kind], tmp_path / "back")
    assert same_weights(llamas[kind], folder)
    before, after = tokenizers.load_tokenizer(llamas[kind]), tokenizers.load_tokenizer(folder)
    texts = probe_texts(1000, seed=5)
    assert before.encode_batch(texts) == after.encode_batch(texts)
    for attribute in ("bos_id", "eos_id", "adds_bos", "stop_ids"):
        assert getattr(before, attribute) == getattr(after, attribute)
    assert tokenizers.find_folder_disagreement(tokenizers.load_tokenizer(folder)) is None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_comes_back_as_it_was(llamas, tmp_path, dtype):
    half = with_dtype(llamas["mini"], tmp_path / "half", dtype)
    export_gguf(ModelFolder(str(half)), tmp_path / "half.gguf", {torch.float16: "f16", torch.bfloat16: "bf16"}[dtype])
    assert same_weights(half, imported(tmp_path / "half.gguf", tmp_path / "back"))


def test_transformers_computes_the_same_logits(llamas, gguf_files, tmp_path):
    from transformers import AutoModelForCausalLM

    folder = imported(gguf_files["llama-bpe"], tmp_path / "back")
    logits = [
        AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)(torch.arange(3, 40)[None]).logits
        for path in (llamas["llama-bpe"], folder)
    ]
    assert torch.equal(*logits)


@pytest.mark.parametrize("head_size", [16, 64, 128])
@pytest.mark.parametrize("kind", ["untied", "linear", "llama3", "yarn"])
def test_heads_and_rope_scaling_come_back(mini, tmp_path, kind, head_size):
    shape = {"hidden_size": 2 * head_size, "num_attention_heads": 2, "num_hidden_layers": 1}
    folder = make_model(tmp_path / "model", mini["mini:tokenizer"], **shape)
    config = json.loads((folder / "config.json").read_text())
    rope = config["rope_parameters"]
    llama3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
    config["rope_parameters"] = {
        "untied": rope,
        "linear": rope | {"rope_type": "linear", "factor": 4.0},
        "llama3": rope | {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 32.0, **llama3},
        "yarn": rope | {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 512},
    }[kind]
    (folder / "config.json").write_text(json.dumps(config))
    export_gguf(ModelFolder(str(folder)), tmp_path / "model.gguf", "f32")
    back = json.loads((imported(tmp_path / "model.gguf", tmp_path / "back") / "config.json").read_text())
    for key in ("rope_parameters", "tie_word_embeddings", "rms_norm_eps", "max_position_embeddings", "vocab_size"):
        assert back[key] == config[key], key


def test_a_quantised_file_is_dequantised_exactly(llamas, tmp_path):
    import gguf

    export_gguf(ModelFolder(str(llamas["mini"])), tmp_path / "m.gguf", "q4_0")
    state = weights(imported(tmp_path / "m.gguf", tmp_path / "back"))
    name = "model.layers.0.mlp.down_proj.weight"
    original = weights(llamas["mini"])[name].float().numpy()
    q4_0 = gguf.GGMLQuantizationType.Q4_0
    assert (state[name].numpy() == gguf.dequantize(gguf.quantize(original, q4_0), q4_0)).all()
    origin = json.loads((tmp_path / "back" / "gguf.json").read_text())
    assert set(origin["weights_by_type"]) == {"Q4_0", "F32"} and 4.5 <= origin["bits_per_weight"] < 4.6


def test_rows_that_are_no_whole_blocks_stand_in_float16(mini, tmp_path):
    folder = make_model(tmp_path / "model", mini["mini:tokenizer"], hidden_size=48, intermediate_size=96)
    export_gguf(ModelFolder(str(folder)), tmp_path / "m.gguf", "q8_0")
    assert set(gguf_import.read_gguf(tmp_path / "m.gguf").file.types()) == {"F16", "Q8_0", "F32"}


def test_a_file_stands_where_a_folder_can_and_is_imported_once(gguf_files, tmp_path, monkeypatch):
    monkeypatch.setenv("ORCA_BENCH_CACHE", str(tmp_path / "cache"))
    messages: list[str] = []
    sources = [locate_model(str(gguf_files["mini"]), show_message=messages.append) for _ in range(2)]
    assert sources[0] == sources[1] and len(messages) == 1 and str(tmp_path / "cache") in messages[0]
    assert sources[0].name == "mini" and sources[0].path_or_hub_id == str(gguf_files["mini"])


def test_a_generic_file_is_named_after_its_folder_not_after_the_cache(gguf_files, tmp_path, monkeypatch):
    monkeypatch.setenv("ORCA_BENCH_CACHE", str(tmp_path / "cache"))
    for folder_name in ("tulip", "rose"):
        (tmp_path / folder_name).mkdir()
        shutil.copy(gguf_files["mini"], tmp_path / folder_name / "model.gguf")
        assert locate_model(str(tmp_path / folder_name / "model.gguf")).name == folder_name


def test_another_file_of_the_same_name_is_imported_anew(llamas, gguf_files, tmp_path, monkeypatch):
    monkeypatch.setenv("ORCA_BENCH_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "model.gguf"
    folders = []
    for kind in ("mini", "llama-bpe"):
        shutil.copy(gguf_files[kind], file)
        folders.append(gguf_import.folder_of(file))
    assert same_weights(folders[0], llamas["mini"]) and same_weights(folders[1], llamas["llama-bpe"])


def test_an_evaluation_of_a_file_has_the_scores_of_its_folder(command, llamas, gguf_files, mini):
    options = ["--benchmarks", mini["mini:benchmarks"], "--limit", 4, "--tasks", "winogrande,arc", "--out"]
    environment = {"ORCA_BENCH_CACHE": str(command.folder / "cache")}
    for model, out in ((llamas["mini"], "folder.json"), (gguf_files["mini"], "file.json")):
        process = command.process("eval", "--model", model, *options, out, env=environment)
        assert process.returncode == 0, process.stderr
    results = [json.loads((command.folder / name).read_text()) for name in ("folder.json", "file.json")]
    assert results[0]["questions_sha256"] == results[1]["questions_sha256"]
    assert results[1]["model"]["bits"] == 32.0 and results[0]["model"].get("bits") is None


def test_a_quantised_files_result_says_how_many_bits_and_what_is_not_measured(command, llamas, mini):
    export_gguf(ModelFolder(str(llamas["mini"])), command.folder / "m.gguf", "q4_0")
    options = ["--benchmarks", mini["mini:benchmarks"], "--limit", 2, "--tasks", "winogrande", "--out", "r.json"]
    environment = {"ORCA_BENCH_CACHE": str(command.folder / "cache")}
    process = command.process("eval", "--model", "m.gguf", *options, env=environment)
    assert process.returncode == 0 and "llama.cpp's own rounding" in process.stderr, process.stderr
    model = json.loads((command.folder / "r.json").read_text())["model"]
    assert model["path"] == "m.gguf" and 4.5 <= model["bits"] < 4.6
    file_hash = hashlib.sha256((command.folder / "m.gguf").read_bytes()).hexdigest()
    assert model["gguf_sha256"] == hashlib.sha256(json.dumps([file_hash]).encode()).hexdigest()


def test_import_writes_a_folder_and_refuses_one_that_exists(command, gguf_files):
    process = command("import", gguf_files["mini"], "--to", "model")
    assert process.returncode == 0 and "32.00 bits a weight" in process.stdout, process.stderr
    assert process.stderr == "next: orca-bench eval --model model\n"
    process = command("import", gguf_files["mini"], "--to", "model")
    assert process.returncode == 2 and "exists already" in process.stderr


def test_the_vocabulary_fits_into_the_embedding(gguf_files, tmp_path):
    changed = {
        "llama.vocab_size": None,
        "tokenizer.ggml.tokens": lambda tokens: [*tokens, "more"],
        "tokenizer.ggml.scores": lambda scores: [*scores, 0.0],
        "tokenizer.ggml.token_type": lambda types: [*types, 1],
    }
    copy_gguf(gguf_files["mini"], tmp_path / "m.gguf", changed)
    with pytest.raises(UserError, match="tokens and the embedding"):
        gguf_import.read_gguf(tmp_path / "m.gguf")
