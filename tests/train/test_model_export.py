"""Model folders from real DeepSpeed engines: the engine's logits, the optimizer's float32 weights, in shards."""

import dataclasses
import json
import re
import sys
from types import SimpleNamespace

import pytest
import torch
from exporting_engine import CASES, EXPORT_DTYPES, SHARD_GB, logits_of, run_engines
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

from orca_bench import tokenizers
from orca_bench.models.model_folder import ModelFolder
from orca_bench.models.saved_weights import SavedWeights
from orca_bench.recipe import Train
from orca_bench.train import model_export
from recipes import RECIPE

TORCH_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@pytest.fixture(scope="module", params=[pytest.param(1, marks=pytest.mark.long), 2])
def exports(request, tmp_path_factory, mini):
    """The folder of all cases, of one process or two."""
    folder = tmp_path_factory.mktemp(f"exports-{request.param}")
    process = run_engines("cases", request.param, folder, mini)
    assert process.returncode == 0, process.stderr[-4000:]
    return folder


def weights_of(folder):
    """All weights of a sharded folder, by name."""
    return {name: tensor for path in sorted(folder.glob("*.safetensors")) for name, tensor in load_file(path).items()}


@pytest.mark.parametrize(("stage", "precision"), CASES)
def test_an_export_has_the_logits_of_its_engine(exports, stage, precision):
    folder = exports / f"{stage}-{precision}"
    expected = torch.load(folder / "logits.pt")
    assert expected.std() > 0.1
    actual = logits_of(folder / precision, TORCH_DTYPES[precision])
    assert actual.dtype == expected.dtype == TORCH_DTYPES[precision]
    assert torch.equal(actual, expected) if precision == "bf16" else torch.allclose(actual, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("stage", "precision"), CASES)
def test_every_type_is_the_optimizers_float32_weights_rounded_once(exports, stage, precision):
    folder = exports / f"{stage}-{precision}"
    expected = float32_weights(folder / "checkpoint", stage, precision)
    for dtype in EXPORT_DTYPES:
        exported = weights_of(folder / dtype)
        assert set(exported) == set(expected)
        for name, weight in exported.items():
            assert torch.equal(weight, expected[name].to(TORCH_DTYPES[dtype])), (dtype, name)
    if precision == "bf16":  # the weights that the engine computes with are not the optimizer's
        engine_weights = weights_of(folder / "bf16")
        assert any(not torch.equal(weight, engine_weights[name].float()) for name, weight in expected.items())


def float32_weights(checkpoint, stage, precision):
    """The float32 weights of a checkpoint, by DeepSpeed's own script or, for stage 0, from the optimizer's state."""
    if stage == 0:
        state = torch.load(checkpoint / "last" / "mp_rank_00_model_states.pt", weights_only=False)
        if precision == "fp32":
            return state["module"]
        return dict(zip(state["module"], state["optimizer"]["fp32_groups"][0], strict=True))
    from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint

    return get_fp32_state_dict_from_zero_checkpoint(str(checkpoint), tag="last")


@pytest.mark.parametrize(("stage", "precision"), CASES)
def test_shards_are_no_larger_than_the_recipe_says_and_the_folder_names_its_type(exports, stage, precision):
    for dtype in EXPORT_DTYPES:
        folder = exports / f"{stage}-{precision}" / dtype
        ModelFolder(str(folder)).check_model()
        paths = sorted(folder.glob("*.safetensors"))
        assert len(paths) > 3
        for number, path in enumerate(paths, 1):
            assert path.name == f"model-{number:05}-of-{len(paths):05}.safetensors"
            with safe_open(path, "pt") as shard:
                sizes = [shard.get_tensor(name).nbytes for name in shard.keys()]  # noqa: SIM118
            assert sum(sizes) <= SHARD_GB * 1e9 or len(sizes) == 1
        index = json.loads((folder / "model.safetensors.index.json").read_text())
        assert {name: set(load_file(folder / file)) & {name} for name, file in index["weight_map"].items()} == {
            name: {name} for name in weights_of(folder)
        }
        config = json.loads((folder / "config.json").read_text())
        assert config["dtype"] == str(TORCH_DTYPES[dtype]).removeprefix("torch.") and config["use_cache"]
        assert config["architectures"] == ["LlamaForCausalLM"] and re.search("chat|jinja", str(list(folder.iterdir())))


def test_a_disk_that_is_full_leaves_the_model_as_it_was_and_is_named(tmp_path, mini):
    process = run_engines("full_disk", 2, tmp_path, mini)
    assert process.returncode != 0
    assert (
        f"WriteError: {tmp_path}/model: cannot write: File too large; free space or choose another folder"
        in process.stderr
    )
    assert {weight.dtype for weight in weights_of(tmp_path / "model").values()} == {torch.bfloat16}
    assert {path.name for path in tmp_path.iterdir()} == {"model", "r.yaml"}


def test_a_weight_that_fp16_cannot_hold_is_named_and_no_infinity_is_written(tmp_path, mini):
    process = run_engines("overflow", 1, tmp_path, mini)
    assert process.returncode != 0
    assert "UserError: train.export_dtype: model.norm.weight has a number of magnitude 1e+06" in process.stderr
    assert {weight.dtype for weight in weights_of(tmp_path / "model").values()} == {torch.bfloat16}


@pytest.mark.parametrize("rank", [0, 1])
def test_every_process_gathers_the_weights_in_the_order_in_which_they_are_written(tmp_path, mini, monkeypatch, rank):
    tokenizer = tokenizers.load_tokenizer(mini["mini:tokenizer"])
    config = LlamaConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=4, vocab_size=300
    )
    model = LlamaForCausalLM(config)
    plan = SavedWeights.plan(model, "float32")
    plan = dataclasses.replace(plan, groups=(plan.groups[2] + plan.groups[0], plan.groups[1], *plan.groups[3:]))
    monkeypatch.setattr(SavedWeights, "plan", lambda *args: plan)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: rank)
    monkeypatch.setattr(torch.distributed, "barrier", lambda: None)
    gathered_names = []

    def whole_weight(engine, name, dtype):
        gathered_names.append(name)
        return engine.module.get_parameter_or_buffer(name).detach().to(dtype)

    monkeypatch.setattr(model_export, "_whole_weight", whole_weight)
    section = Train(precision="fp32")
    model_export.export_model(
        SimpleNamespace(module=model), section, tokenizer, tmp_path / "model", {"run": "r", "step": 1}
    )
    names = list(plan.dtype_by_name)
    assert gathered_names == [names[2], names[0], names[1], *names[3:]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory, mini, mini_records, command_in):
    """A command in a folder with a run that was trained for six steps in bf16, and what it always gets."""
    folder = tmp_path_factory.mktemp("trained")
    records = [record for record in mini_records if len(record["instruction"]) < 400][:48]
    (folder / "records.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    (folder / "r.yaml").write_text(RECIPE.format(name="e", tokenizer=mini["mini:tokenizer"]))
    keys = ["train.processes=1", "train.micro_batch=4", "train.precision=bf16", f"train.export_shard_gb={SHARD_GB}"]
    words = ["train", "r.yaml", *(word for key in keys for word in ("-o", key))]
    command = command_in(folder)
    process = command(*words)
    assert process.returncode == 0, process.stderr + (folder / "runs/e/train.log").read_text()
    return command, words, folder / "runs" / "e"


def test_a_trained_run_is_written_in_another_type_without_training_and_its_model_is_kept(trained):
    command, words, run = trained
    (run / "model" / "note.txt").write_text("mine")
    metrics = (run / "metrics.jsonl").read_text()
    rounded = weights_of(run / "model")
    file_count = len(list((run / "model").glob("*.safetensors")))
    card = (run / "model/README.md").read_text()
    assert file_count > 3 and re.search(rf"The weights are `bfloat16`, [0-9.]+ kB in {file_count} files\.", card)
    process = command(*words, "-o", "train.export_dtype=fp32")
    assert process.returncode == 0, process.stderr
    assert "the model in bfloat16 is now in runs/e/exports/bfloat16" in process.stdout
    assert (run / "exports/bfloat16/note.txt").read_text() == "mine" and (run / "metrics.jsonl").read_text() == metrics
    exact = weights_of(run / "model")
    assert all(torch.equal(weight.bfloat16(), rounded[name]) for name, weight in exact.items())
    assert any(not torch.equal(weight, rounded[name].float()) for name, weight in exact.items())
    assert "The weights are `float32`, " in (run / "model/README.md").read_text()
    ModelFolder(str(run / "model")).check_model()
    assert "already trained" in command(*words, "-o", "train.export_dtype=fp32").stdout


def test_a_run_without_checkpoints_is_not_trained_again_for_another_type(trained):
    command, words, run = trained
    dtype = json.loads((run / "model/config.json").read_text())["dtype"]
    (run / "checkpoints").rename(run / "elsewhere")
    try:
        process = command(*words, "-o", "train.export_dtype=fp16")
    finally:
        (run / "elsewhere").rename(run / "checkpoints")
    assert process.returncode == 2
    assert f"runs/e/model: this model's weights are {dtype}, and no checkpoint is left" in process.stderr
    assert weights_of(run / "model") and json.loads((run / "manifest.json").read_text())["status"] == "finished"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="no /proc/self/status on this machine")
def test_process_0_needs_memory_for_one_shard_and_not_for_the_model(tmp_path, mini):
    process = run_engines("memory", 2, tmp_path, mini)
    assert process.returncode == 0, process.stderr[-4000:]
    memory = json.loads((tmp_path / "memory.json").read_text())
    assert memory["model"] > 200e6
    added = memory["added"]
    assert added["one file"] > 0.9 * memory["model"], memory  # the measurement sees the whole model
    assert added["small shards"] < 0.2 * memory["model"], memory
