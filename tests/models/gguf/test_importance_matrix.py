"""The importance of a column is the mean square of what goes into it, over the tokens of records in the Orca prompt."""

import json
import math
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

pytest.importorskip("libgguf")

from orca_bench.errors import UserError  # noqa: E402
from orca_bench.models.gguf.gguf_export import export_gguf  # noqa: E402
from orca_bench.models.gguf.gguf_import import read_gguf  # noqa: E402
from orca_bench.models.gguf.importance_matrix import measure_importance  # noqa: E402
from orca_bench.models.model_folder import ModelFolder  # noqa: E402
from orca_bench.train.record_files import read_records  # noqa: E402
from orca_bench.train.record_sample import sample_examples  # noqa: E402


@pytest.fixture(scope="module")
def records_file(tmp_path_factory, mini_records):
    path = tmp_path_factory.mktemp("records") / "records.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in mini_records[:300]), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def sequences(wide_llama, records_file):
    records, _ = read_records([str(records_file)])
    examples = sample_examples(records, ModelFolder(str(wide_llama)).tokenizer, 512, 3000, "--imatrix")
    return [examples.example(index).tolist() for index in range(len(examples))]


def measure(folder, sequences):
    return measure_importance(ModelFolder(str(folder)), sequences, "records.jsonl")


def test_the_importance_is_the_mean_square_over_all_tokens(wide_llama, sequences):
    matrix = measure(wide_llama, sequences)
    assert matrix.token_count == sum(map(len, sequences)) >= 3000 and matrix.sequence_count == len(sequences)
    model = AutoModelForCausalLM.from_pretrained(wide_llama, dtype=torch.float32).eval()
    with torch.no_grad():
        states = [model(torch.tensor([ids]), output_hidden_states=True).hidden_states for ids in sequences]
    for layer in (0, 1):
        norm = model.model.layers[layer].input_layernorm
        inputs = torch.cat([norm(state[layer])[0] for state in states]).double()
        expected = inputs.square().mean(0).detach().numpy()
        for name in ("attn_q", "attn_k", "attn_v"):
            assert np.allclose(matrix.importance_by_tensor[f"blk.{layer}.{name}.weight"], expected, rtol=1e-4)


def test_every_matrix_of_the_blocks_has_one_and_no_other(wide_llama, sequences):
    matrix = measure(wide_llama, sequences)
    names = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
    assert set(matrix.importance_by_tensor) == {f"blk.{layer}.{name}.weight" for layer in (0, 1) for name in names}
    assert matrix.importance_by_tensor["blk.1.ffn_down.weight"].shape == (512,)
    assert all(values.min() > 0 for values in matrix.importance_by_tensor.values())


def test_a_file_says_what_its_importance_matrix_is_from(wide_llama, sequences, tmp_path):
    export_gguf(ModelFolder(str(wide_llama)), tmp_path / "m.gguf", "q4_k_m", measure(wide_llama, sequences))
    file = read_gguf(tmp_path / "m.gguf").file
    assert file.get("quantize.imatrix.dataset", str) == "records.jsonl"
    assert file.get("quantize.imatrix.entries_count", int) == 14
    assert file.get("quantize.imatrix.chunks_count", int) == len(sequences)


@pytest.mark.parametrize("type_name", ["q2_k", "q4_0"])
def test_the_logits_are_nearer_with_it(wide_llama, sequences, tmp_path, type_name):
    """On prompts that are not among the records."""
    importance = measure(wide_llama, sequences)
    without, with_importance = (
        export_gguf(ModelFolder(str(wide_llama)), tmp_path / f"{number}.gguf", type_name, matrix)
        for number, matrix in enumerate((None, importance))
    )
    assert with_importance.mean_kl < without.mean_kl and with_importance.types == without.types


def test_too_few_tokens_are_refused(wide_llama, sequences):
    with pytest.raises(UserError, match="tokens are too few for an importance matrix; at least 2,048"):
        measure(wide_llama, sequences[:3])


def test_activations_that_are_no_finite_numbers_name_their_tensor(wide_llama, sequences, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(wide_llama, folder)
    state = load_file(folder / "model.safetensors")
    state["model.layers.1.mlp.up_proj.weight"][3] = math.inf
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"inputs of blk\.1\.ffn_down\.weight are not finite"):
        measure(folder, sequences)


def test_the_command_measures_it_over_the_records(command, wide_llama, records_file):
    record = {"system": "", "instruction": "Hello", "input": "", "response": ""}
    (command.folder / "records.jsonl").write_text(
        records_file.read_text("utf-8") + json.dumps(record), encoding="utf-8"
    )
    words = ["export", wide_llama, "--gguf", "q4_k_m", "--out", "m.gguf", "--imatrix", "records.jsonl"]
    process = command(*words, "--imatrix-tokens", 2500)
    assert process.returncode == 0, process.stderr
    assert "importance matrix: " in process.stderr and "2,5" in process.stderr
    assert "left out: 1 row without an answer; the first is records.jsonl:301" in process.stderr
    assert read_gguf(command.folder / "m.gguf").file.get("quantize.imatrix.dataset", str) == "records.jsonl"


@pytest.mark.parametrize(
    "type_name, options, message",
    [
        ("q4_k_m", ["--imatrix", "text.txt"], "text.txt"),
        ("q4_k_m", ["--imatrix", "other.jsonl"], "columns text are not those of records"),
        ("q4_k_m", ["--imatrix", "few.jsonl"], "tokens are too few"),
        ("q4_k_m", ["--imatrix", "absent.jsonl"], "absent.jsonl"),
        ("q4_k_m", ["--imatrix", "long.jsonl"], "--imatrix long.jsonl: all 1 records lose their whole response"),
        ("q4_k_m", ["--imatrix", "few.jsonl", "--imatrix-tokens", "100"], "--imatrix-tokens: 100 tokens are too few"),
        ("q4_k_m", ["--imatrix-tokens", "5000"], "only with --imatrix"),
        ("f16", ["--imatrix", "few.jsonl"], "an importance matrix changes nothing in a file of f16"),
    ],
)
def test_what_is_no_importance_matrix_is_refused(command, wide_llama, type_name, options, message):
    (command.folder / "text.txt").write_text("plain text\n", encoding="utf-8")
    (command.folder / "other.jsonl").write_text('{"text": "x"}\n', encoding="utf-8")
    record = {"system": "", "instruction": "Hello", "input": "", "response": "Yes"}
    (command.folder / "few.jsonl").write_text(json.dumps(record) + "\n", encoding="utf-8")
    long_record = record | {"instruction": "Hello " * 5000}
    (command.folder / "long.jsonl").write_text(json.dumps(long_record) + "\n", encoding="utf-8")
    error = command.refused("export", wide_llama, "--gguf", type_name, "--out", "m.gguf", *options)
    assert message in error and not (command.folder / "m.gguf").exists()
