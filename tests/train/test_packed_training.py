"""Packed training with a real DeepSpeed engine: the updates are those of padded training, however a step is split."""

import json
import os
import subprocess
import sys

import gathered_gradient
import numpy as np
import pytest
import torch
from plain_training import command_losses, plain_losses

from orca_bench import recipe_file, tokenizers
from orca_bench import train as training
from orca_bench.train import student_model
from orca_bench.train.run_folder import Run
from recipes import RECIPE

EXACT_STEPS = 10


@pytest.fixture(scope="module")
def folder(tmp_path_factory, mini, mini_records):
    """Records of very different lengths and a recipe of 16 examples a step, whose base is written first."""
    folder = tmp_path_factory.mktemp("packed")
    generator = np.random.default_rng(3)
    records = [mini_records[i] for i in generator.permutation(len(mini_records))[:400]]
    for record in records:  # ragged: some responses are a few words, others several joined
        others = generator.choice(len(mini_records), int(generator.integers(0, 4)))
        record["response"] = "\n".join([record["response"], *(mini_records[i]["response"] for i in others)])
    (folder / "records.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records), encoding="utf-8")
    recipe = RECIPE.replace("global_batch: 8", "global_batch: 16").replace("micro_batch: 2", "micro_batch: 4")
    recipe = recipe.replace("epochs: 1", "epochs: 3").replace("checkpoint_every: 5", "checkpoint_every: 1000")
    recipe = recipe.replace("  export_every: 5\n", "  max_steps: 50\n")
    (folder / "r.yaml").write_text(recipe.format(name="r", tokenizer=mini["mini:tokenizer"]), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def orca(folder, command_in):
    return command_in(folder)


def split_keys(processes, accumulation, packing):
    return [
        f"name={packing}-{processes}-{accumulation}",
        f"train.processes={processes}",
        f"train.accumulation={accumulation}",
        f"train.micro_batch={16 // processes // accumulation}",
        f"train.packing={packing}",
    ]


def new_student(run):
    """The student that the run began with."""
    recipe = recipe_file.read_recipe_file(run / "recipe.yaml")
    tokenizer = tokenizers.load_tokenizer(recipe.model.tokenizer)
    return student_model.build_random_model(student_model.student_config(recipe, tokenizer), recipe.train.seed)


def assert_same_curve(curve, expected):
    """Within 2e-6 over the first ten steps, and 1e-4 over the others, which rounding pulls apart."""
    assert len(curve) == len(expected)
    differences = np.abs(np.subtract(curve, expected))
    assert differences[:EXACT_STEPS].max() <= 2e-6, differences
    assert differences.max() <= 1e-4, differences


@pytest.mark.parametrize(
    "steps", [EXACT_STEPS, pytest.param(50, marks=pytest.mark.long)], ids=lambda steps: f"{steps} steps"
)
def test_packed_and_padded_training_are_plain_pytorch(orca, folder, steps):
    limit = [f"train.max_steps={steps}"]
    packed, padded = split_keys(2, 2, "exact"), split_keys(1, 8, "none")
    for keys in (packed, padded):
        keys[0] += f"-{steps}"
    curves = [command_losses(orca, [*keys, *limit]) for keys in (packed, padded)]
    run = folder / "runs" / packed[0].partition("=")[2]
    expected = plain_losses(run, new_student(run))
    assert max(expected) - min(expected) > 0.05 and len(expected) == steps
    for curve in curves:
        assert_same_curve(curve, expected)


@pytest.mark.long
def test_every_split_has_the_curve_of_plain_pytorch(orca, folder):
    curves = {
        (processes, accumulation, packing): command_losses(orca, split_keys(processes, accumulation, packing))
        for processes in (1, 2, 4)
        for accumulation in (1, 2, 8)
        if processes * accumulation <= 16
        for packing in ("none", "exact")
    }
    expected = plain_losses(folder / "runs" / "exact-2-2", new_student(folder / "runs" / "exact-2-2"))
    for curve in curves.values():
        assert_same_curve(curve, expected)


def gathered(orca, keys, *options):
    """The gradient of the first step of a prepared run."""
    run, file = orca.folder / "runs" / keys[0].partition("=")[2], orca.folder / "gradient.pt"
    if not run.is_dir():
        prepared = training.compute_prepared_run(recipe_file.read_recipe_file("r.yaml", keys))
        training.prepare_run_folder(prepared, Run(run))
    process_count = keys[1].partition("=")[2]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", process_count]
    process = subprocess.run(
        [sys.executable, *launcher, gathered_gradient.__file__, str(run), str(file), *options],
        cwd=orca.folder,
        env=os.environ | {"DS_ACCELERATOR": "cpu"},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    return torch.load(file)


SPLITS = [(2, 2, "exact"), (2, 2, "none"), (1, 8, "exact")]


def test_the_gradient_of_a_step_is_the_same_for_every_split_and_a_mean_of_means_is_not(orca, monkeypatch):
    monkeypatch.chdir(orca.folder)

    def named(*split):
        keys = split_keys(*split)
        keys[0] += "-gradient"
        return keys

    expected = gathered(orca, named(1, 1, "none"))
    for split in SPLITS:
        assert (gathered(orca, named(*split)) - expected).norm() <= 1e-5 * expected.norm(), split
    naive = gathered(orca, named(2, 2, "none"), "--mean-of-means")
    assert (naive - expected).norm() > 1e-2 * expected.norm()


def test_dense_rows_train_and_say_that_a_step_has_more_examples(orca, folder):
    keys = split_keys(2, 2, "dense")
    process = orca("train", "r.yaml", *(word for key in keys for word in ("-o", key)), "--dry-run")
    assert "rows of 256 tokens" in process.stdout, process.stdout
    curve = command_losses(orca, keys)
    assert 3 < len(curve) < 50 and curve[-1] < curve[0] - 0.5
    lines = [json.loads(line) for line in (folder / "runs" / "dense-2-2" / "metrics.jsonl").read_text().splitlines()]
    assert all(16 * 256 * 0.6 < line["tokens"] <= 16 * 256 for line in lines[:-1])


def test_a_run_from_before_packing_goes_on_padded(orca, folder):
    """Its resolved recipe has no such key."""
    keys = split_keys(1, 4, "none")
    keys[0] += "-old"
    limit = ["train.max_steps=4"]
    command_losses(orca, [*keys, *limit])
    run = folder / "runs" / keys[0].partition("=")[2]
    resolved = (run / "recipe.yaml").read_text()
    (run / "recipe.yaml").write_text(resolved.replace("  packing: none\n", ""))
    assert "packing" not in (run / "recipe.yaml").read_text()
    without_key = [word for key in [*keys[:-1], *limit] for word in ("-o", key)]
    assert "already trained" in orca("train", "r.yaml", *without_key).stdout
    manifest = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps(manifest | {"status": "interrupted"}))
    (run / "model" / "config.json").unlink()
    process = orca("train", "r.yaml", *without_key)
    assert process.returncode == 0 and "packing: none" in (run / "recipe.yaml").read_text()
    assert "train.packing was 'none', now 'exact'" in orca.refused(
        "train", "r.yaml", *without_key, "-o", "train.packing=exact"
    )


def test_attention_that_cannot_be_packed_is_refused_before_training(orca, folder, tmp_path):
    from transformers import Gemma2Config, Gemma2ForCausalLM

    recipe = recipe_file.read_recipe_file(folder / "r.yaml")
    tokenizer = tokenizers.load_tokenizer(recipe.model.tokenizer)
    config = Gemma2Config(
        vocab_size=tokenizer.vocab_size,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        bos_token_id=tokenizer.bos_id,
        eos_token_id=tokenizer.eos_id,
        pad_token_id=None,
    )
    base = tmp_path / "gemma"
    Gemma2ForCausalLM(config).save_pretrained(base)
    tokenizers.export_tokenizer(tokenizer, base, 512)
    keys = [f"model.base={base}", "model.random=null", "model.tokenizer=null", "name=gemma", "train.max_steps=1"]
    keys += ["train.processes=1", "train.micro_batch=8"]
    words = [word for key in keys for word in ("-o", key)]
    message = orca.refused("train", "r.yaml", *words)
    assert "train.packing: this model has attention that takes softcap" in message and "none" in message
    process = orca("train", "r.yaml", *words, "-o", "train.packing=none")
    assert process.returncode == 0, process.stderr
