"""llama.cpp itself runs the file: the folder has its token ids and its probabilities, and planted faults are seen."""

import json

import pytest
import torch
from gguf_copies import copy_gguf
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

pytest.importorskip("xllamacpp")

from orca_bench.models.gguf import gguf_import  # noqa: E402
from orca_bench.models.gguf.gguf_export import export_gguf  # noqa: E402
from orca_bench.models.gguf.gguf_file import GgufFile  # noqa: E402
from orca_bench.models.gguf.gguf_verification import VerificationReport, activation_rounding, verify  # noqa: E402
from orca_bench.models.gguf.gguf_weights import permute  # noqa: E402
from orca_bench.models.model_folder import ModelFolder  # noqa: E402
from orca_bench.tokenizers import load_tokenizer  # noqa: E402


@pytest.mark.parametrize("kind", ["mini", "llama", "symbols", "no_prefix", "llama-bpe", "qwen2", "gpt-2", "smollm"])
def test_a_float32_file_is_computed_alike(gguf_files, tmp_path, kind):
    gguf_import.import_gguf(gguf_import.read_gguf(gguf_files[kind]), tmp_path / "model")
    report = verify(gguf_files[kind], tmp_path / "model", position_count=40)
    assert report.is_equal and report.largest_kl < 1e-6 and report.rounding_kl == 0, str(report)


def test_a_model_in_shards_is_verified_by_the_name_of_any(command, gguf_files):
    copy_gguf(gguf_files["mini"], command.folder / "m.gguf", split_max_tensors=8)
    shards = sorted(path.name for path in command.folder.glob("m-*.gguf"))
    process = command("import", shards[1], "--to", "model", "--verify")
    assert len(shards) > 2 and process.returncode == 0 and "verified: beside llama.cpp" in process.stdout, (
        process.stderr
    )


@pytest.mark.parametrize("fault", ["permuted", "rope base", "lost token"])
def test_planted_faults_are_seen(gguf_files, tmp_path, fault):
    folder = tmp_path / "model"
    gguf_import.import_gguf(gguf_import.read_gguf(gguf_files["llama-bpe"]), folder)
    if fault == "permuted":
        state = load_file(folder / "model.safetensors")
        name = "model.layers.1.self_attn.q_proj.weight"
        state[name] = state[name].new_tensor(permute(state[name].numpy(), 4))
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    elif fault == "rope base":
        config = json.loads((folder / "config.json").read_text())
        config["rope_parameters"]["rope_theta"] *= 2
        (folder / "config.json").write_text(json.dumps(config))
    else:
        tokenizer = json.loads((folder / "tokenizer.json").read_text())
        tokenizer["model"]["merges"] = tokenizer["model"]["merges"][:-50]
        tokenizer["model"]["ignore_merges"] = False
        (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    report = verify(gguf_files["llama-bpe"], folder, position_count=40)
    assert not report.is_equal and "NOT the same model" in str(report)


@pytest.mark.parametrize("type_name", ["f16", "q8_0"])
def test_rounded_files_are_the_same_model_within_their_rounding(llamas, tmp_path, type_name):
    export_gguf(ModelFolder(str(llamas["qwen2"])), tmp_path / "m.gguf", type_name)
    gguf_import.import_gguf(gguf_import.read_gguf(tmp_path / "m.gguf"), tmp_path / "model")
    report = verify(tmp_path / "m.gguf", tmp_path / "model", position_count=40)
    assert report.is_equal and report.mean_kl > 1e-9 and report.rounding_kl > 1e-9, str(report)


def test_a_fault_in_a_rounded_file_is_seen_by_the_limit_of_its_rounding(llamas, tmp_path):
    export_gguf(ModelFolder(str(llamas["qwen2"])), tmp_path / "m.gguf", "q8_0")
    gguf_import.import_gguf(gguf_import.read_gguf(tmp_path / "m.gguf"), tmp_path / "model")
    state = load_file(tmp_path / "model" / "model.safetensors")
    names = [f"model.layers.{layer}.self_attn.v_proj.weight" for layer in (0, 1)]
    state |= {name: state[other].clone() for name, other in zip(names, reversed(names), strict=True)}
    save_file(state, tmp_path / "model" / "model.safetensors", metadata={"format": "pt"})
    report = verify(tmp_path / "m.gguf", tmp_path / "model", position_count=40)
    assert not report.is_equal and not report.is_float32 and not report.texts_with_other_ids
    assert report.mean_kl > 3 * report.rounding_kl > 1e-6, str(report)


def test_activations_are_rounded_in_blocks_to_8_bits_and_then_no_more(llamas, tmp_path):
    export_gguf(ModelFolder(str(llamas["qwen2"])), tmp_path / "m.gguf", "q8_0")
    model = AutoModelForCausalLM.from_pretrained(llamas["qwen2"], dtype=torch.float32)
    inputs = []
    model.model.layers[0].mlp.down_proj.register_forward_hook(
        lambda module, arguments, output: inputs.append(arguments[0])
    )
    token_ids = torch.arange(3, 20)[None]
    model(token_ids)
    with activation_rounding(model, GgufFile(tmp_path / "m.gguf")):
        model.model.layers[0].mlp.down_proj(inputs[0])
    model(token_ids)
    exact, rounded, exact_again = (tensor.unflatten(-1, (-1, 32)) for tensor in inputs)
    assert torch.equal(exact, exact_again) and not torch.equal(exact, rounded)
    step = exact.abs().amax(-1, keepdim=True) / 127
    assert ((exact - rounded).abs() <= 0.51 * step + 1e-3 * exact.abs()).all()  # a block's step is in float16


@pytest.mark.parametrize("kind", ["llama", "llama-bpe", "qwen2"])
def test_bos_of_a_file_that_does_not_say_whether_it_is_added_is_llamacpps(gguf_files, tmp_path, kind):
    copy_gguf(gguf_files[kind], tmp_path / "m.gguf", {"tokenizer.ggml.add_bos_token": None})
    gguf_import.import_gguf(gguf_import.read_gguf(tmp_path / "m.gguf"), tmp_path / "model")
    assert load_tokenizer(tmp_path / "model").adds_bos == (kind != "qwen2")
    assert not verify(tmp_path / "m.gguf", tmp_path / "model", position_count=1).texts_with_other_ids


def test_import_verifies_when_asked(command, gguf_files):
    process = command("import", gguf_files["mini"], "--to", "model", "--verify")
    assert process.returncode == 0 and "verified: beside llama.cpp" in process.stdout, process.stderr


def test_a_folder_that_differs_from_llamacpp_is_exit_code_1_without_a_next_command(command, gguf_files, monkeypatch):
    monkeypatch.setattr(VerificationReport, "is_equal", False)
    process = command("import", gguf_files["mini"], "--to", "model", "--verify")
    assert process.returncode == 1 and process.stdout and "next: " not in process.stderr
