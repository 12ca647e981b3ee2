"""Training with LoRA by the command: the losses are those of plain PyTorch with peft, packed or padded, and a run continues."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import peft
import pytest
import torch
from plain_training import command_losses, plain_losses
from safetensors.torch import load_file, save_file
from tiny_llamas import make_model
from transformers import AutoModelForCausalLM

from orca_bench import recipe_file
from orca_bench.errors import UserError
from orca_bench.train.run_folder import Run

SCRIPTS = Path(__file__).resolve().parents[1] / "support"
STEPS = 20
RECIPE = """\
name: two
model:
  base: base
data:
  records: [records.jsonl]
  max_length: 128
train:
  max_steps: 20
  global_batch: 8
  micro_batch: 2
  accumulation: 2
  processes: 2
  lr: 2e-3
  warmup: linear
  warmup_min_steps: 2
  precision: fp32
  lora:
    rank: 4
    alpha: 8
  checkpoint_every: 5
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory, mini, mini_records):
    """A base model, records and a recipe with LoRA at ZeRO stage 3 in two processes, with recomputation."""
    folder = tmp_path_factory.mktemp("lora")
    make_model(folder / "base", mini["mini:tokenizer"], hidden_size=32, intermediate_size=64)
    records = [record for record in mini_records if len(record["instruction"]) < 300][:80]
    (folder / "records.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    (folder / "r.yaml").write_text(RECIPE, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def orca(folder, command_in):
    return command_in(folder)


@pytest.fixture(scope="module")
def two(orca, folder):
    """The run of the recipe, and its losses."""
    return folder / "runs" / "two", command_losses(orca, ["name=two"])


def base_with_lora(run, base):
    """The base in float32 with LoRA by peft, as the run's recipe has it."""
    names = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    torch.manual_seed(recipe_file.read_recipe_file(run / "recipe.yaml").train.seed)
    return peft.get_peft_model(model, peft.LoraConfig(r=4, lora_alpha=8, target_modules=names, task_type="CAUSAL_LM"))


def test_zero_3_in_two_processes_is_plain_pytorch_with_peft(two, folder):
    run, curve = two
    expected = plain_losses(run, base_with_lora(run, folder / "base"))
    assert len(curve) == STEPS and expected[0] - expected[-1] > 0.05
    assert curve == pytest.approx(expected, abs=2e-6)


def test_padded_training_in_one_process_has_the_losses_of_packed_training_in_two(orca, two):
    keys = ["name=padded", "train.packing=none", "train.processes=1", "train.accumulation=4"]
    assert command_losses(orca, keys) == pytest.approx(two[1], abs=2e-6)


@pytest.mark.long
@pytest.mark.parametrize("stage", [0, 1, 2])
def test_every_stage_has_the_same_losses(orca, two, stage):
    assert command_losses(orca, [f"name=stage-{stage}", f"train.zero_stage={stage}"]) == pytest.approx(two[1], abs=2e-6)


def test_a_dry_run_says_how_many_of_all_weights_are_trained(orca, two):
    manifest = json.loads((two[0] / "manifest.json").read_text())
    process = orca("train", "r.yaml", "-o", "name=dry", "--dry-run")
    text = " ".join(process.stdout.split())
    assert f"{manifest['parameters']:,} parameters, which stay, and {manifest['trained_parameters']:,} of LoRA" in text
    assert "beside q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj" in text


def test_a_checkpoint_has_no_frozen_weights_and_the_manifest_counts_the_trained_ones(two):
    run, _ = two
    manifest = json.loads((run / "manifest.json").read_text())
    adapter = load_file(run / "model" / "adapter" / "adapter_model.safetensors")
    merged = load_file(run / "model" / "model.safetensors")
    assert manifest["trained_parameters"] == sum(tensor.numel() for tensor in adapter.values())
    assert manifest["libraries"]["peft"] == peft.__version__
    assert manifest["parameters"] == sum(tensor.numel() for tensor in merged.values())
    checkpoint = run / "checkpoints" / "step-00000020"
    for path in checkpoint.glob("*model_states.pt"):
        state = torch.load(path, weights_only=False)
        assert state["module"] and all(".lora_" in name for name in state["module"])
        assert not state["frozen_param_fragments"]
    config = json.loads((run / "model" / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] is None  # the base is a folder of this machine
    byte_count = sum(path.stat().st_size for path in checkpoint.glob("*optim_states.pt"))
    assert byte_count < 12 * manifest["trained_parameters"] + 60_000


def test_a_run_that_is_stopped_goes_on_bit_for_bit_and_in_other_processes_to_rounding(folder):
    parts = ("7:", "14:", ":train.processes=1,train.micro_batch=4")
    process = subprocess.run(
        [sys.executable, SCRIPTS / "split_trainings.py", "r.yaml", "split", *parts],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr[-3000:]
    curves = json.loads(process.stdout.splitlines()[-1])
    assert len(curves["whole"]) == STEPS and curves["split"][:14] == curves["whole"][:14]
    assert curves["largest_relative_difference"] < 1e-6


def test_a_run_continues_neither_with_other_keys_of_lora_nor_where_it_began_without(folder, two, tmp_path):
    def refusal(run, *keys):
        with pytest.raises(UserError) as caught:
            run.check_same_recipe(recipe_file.read_recipe_file(folder / "r.yaml", keys))
        assert "--fresh" in str(caught.value)
        return str(caught.value)

    run = Run(two[0])
    assert "holds a run of another recipe (train.lora.rank was 4, now None)" in refusal(run, "train.lora=null")
    assert "train.lora.alpha was 8.0, now 4.0" in refusal(run, "train.lora.alpha=4")
    assert "train.lora.targets was None, now ['q_proj']" in refusal(run, "train.lora.targets=[q_proj]")
    shutil.copytree(two[0], tmp_path / "full")
    full = recipe_file.read_recipe_file(folder / "r.yaml", ["train.lora=null"])
    (tmp_path / "full" / "recipe.yaml").write_text(full.to_yaml(), encoding="utf-8")
    assert "train.lora.rank was None, now 4" in refusal(Run(tmp_path / "full"))


def test_a_run_does_not_continue_beside_other_weights_of_the_base(orca, folder, two):
    base, base_copy, run = folder / "base", folder / "base-copy", folder / "runs" / "unfinished"
    shutil.copytree(two[0], run)
    shutil.rmtree(run / "model")
    recipe = recipe_file.read_recipe_file(folder / "r.yaml", ["name=unfinished"])
    (run / "recipe.yaml").write_text(recipe.to_yaml(), encoding="utf-8")
    manifest = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps(manifest | {"status": "interrupted"}))
    shutil.copytree(base, base_copy)
    try:
        weights = load_file(base / "model.safetensors")
        weights["model.norm.weight"][3] += 0.5
        save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
        message = orca.refused("train", "r.yaml", "-o", "name=unfinished")
        assert "the weights of model.base are not those that this run began with" in message
    finally:
        shutil.rmtree(base)
        base_copy.rename(base)
