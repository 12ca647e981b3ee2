"""The loss on held-out examples, the best model and spikes, with a real DeepSpeed engine."""

import json
import re
import shutil
import signal

import pytest
import torch
from transformers import AutoModelForCausalLM
from waiting import eventually

from orca_bench import recipe_file, tokenizers
from orca_bench.train import student_model
from orca_bench.train.checkpoint_files import newest_checkpoint_step
from orca_bench.train.run_folder import Run
from orca_bench.train.token_files import load_run_examples

HELD_OUT = ("-o", "data.held_out=11", "-o", "train.held_out_every=3", "-o", "train.keep_best=true")
#: A learning rate that rises until the model is worse than it was: the best model is not the last one.
TOO_FAST = ("-o", "train.epochs=2", "-o", "train.max_steps=15", "-o", "train.lr=4.0", "-o", "train.warmup_min_steps=30")


def metrics_of(run):
    return [json.loads(line) for line in run.metrics_file.read_text().splitlines()]


@pytest.fixture(scope="module")
def watched(orca):
    """A finished run in two processes."""
    process = orca("train", "r.yaml", *HELD_OUT, *TOO_FAST)
    assert process.returncode == 0, process.stderr
    assert re.search(
        r"lowest held-out loss \d\.\d{4} at step 3 \(base \d\.\d{4}\): runs/r/exports/best\n", process.stdout
    ), process.stdout
    return Run(orca.folder / "runs" / "r")


def plain_loss(model, examples):
    """The mean loss over all response tokens of some examples in plain transformers, one example at a time."""
    total = 0.0
    with torch.no_grad():
        for index in range(len(examples)):
            ids = torch.tensor(examples.example(index), dtype=torch.long)
            start = int(examples.prompt_lengths[index])
            logits = model(input_ids=ids[None]).logits[0, start - 1 : -1]
            total += float(torch.nn.functional.cross_entropy(logits, ids[start:], reduction="sum"))
    return total / int(examples.trained_token_counts.sum())


def test_the_held_out_loss_is_the_mean_over_all_held_out_tokens_and_the_best_model_is_exported(watched):
    metrics = metrics_of(watched)
    held_out_losses = {line["step"]: line["held_out_loss"] for line in metrics if line["held_out_loss"] is not None}
    assert list(held_out_losses) == [
        step for step in range(1, len(metrics) + 1) if step % 3 == 0 or step == len(metrics)
    ]
    best_step = min(held_out_losses, key=held_out_losses.get)
    assert json.loads((watched.best_model / "orca_bench.json").read_text())["step"] == best_step
    held_out = load_run_examples(watched.tokens_folder, watched.earlier_tokens_file).held_out
    assert len(held_out) == 11  # more than one batch
    recipe = recipe_file.read_recipe_file(watched.folder / "recipe.yaml")
    tokenizer = tokenizers.load_tokenizer(recipe.model.tokenizer)
    base = student_model.build_random_model(student_model.student_config(recipe, tokenizer), recipe.train.seed)
    best, last = map(AutoModelForCausalLM.from_pretrained, (watched.best_model, watched.model))
    assert plain_loss(base, held_out) == pytest.approx(metrics[0]["base_held_out_loss"], rel=2e-6)
    assert plain_loss(best, held_out) == pytest.approx(held_out_losses[best_step], rel=2e-6)
    assert plain_loss(last, held_out) == pytest.approx(held_out_losses[len(metrics)], rel=2e-6)
    assert [line["base_held_out_loss"] for line in metrics[1:]] == [None] * (len(metrics) - 1)
    assert best_step < len(metrics)  # else this test does not show that the best is kept


def test_a_finished_run_has_a_picture_of_its_curves_and_its_memory(watched):
    assert watched.curves_file.read_bytes().startswith(b"\x89PNG")
    assert all(line["memory_gib"] > 0.1 and line["mfu"] is None for line in metrics_of(watched))


def test_curves_that_cannot_be_drawn_end_no_training(orca):
    run = Run(orca.folder / "runs" / "undrawn")
    run.folder.mkdir(parents=True)
    run.metrics_file.write_text(json.dumps({"step": -(10**30), "loss": 1.0}) + "\n")  # more than NumPy's integers
    words = ("-o", "train.max_steps=2", "-o", "train.checkpoint_every=1", "-o", "train.processes=1")
    process = orca("train", "r.yaml", "-o", "name=undrawn", *words, "-o", "train.micro_batch=4")
    assert process.returncode == 0 and run.status == "finished", process.stderr
    assert process.stdout.count("the curves were not drawn: OverflowError: ") == 1 and not run.curves_file.exists()
    assert run.log_file.read_text().count("the curves were not drawn: OverflowError: ") == 1  # at the first checkpoint


@pytest.mark.slow
def test_the_best_model_survives_a_kill_and_one_process_has_the_same_held_out_losses(orca, watched):
    words = ("train", "r.yaml", "-o", "name=killed", *HELD_OUT, *TOO_FAST)
    words += ("-o", "train.processes=1", "-o", "train.micro_batch=4")
    run = Run(orca.folder / "runs" / "killed")
    command = orca.start(*words)
    eventually(lambda: command.poll() is not None or newest_checkpoint_step(run.checkpoints_folder) >= 5)
    command.kill()
    command.communicate()
    assert command.returncode == -signal.SIGKILL
    process = orca(*words)
    assert process.returncode == 0 and "continuing from step" in process.stdout, process.stderr
    held_out_losses = [line["held_out_loss"] for line in metrics_of(run)]
    expected = [line["held_out_loss"] for line in metrics_of(watched)]
    assert [loss is None for loss in held_out_losses] == [loss is None for loss in expected]
    base_losses = [metrics_of(either)[0]["base_held_out_loss"] for either in (run, watched)]
    assert base_losses[0] == pytest.approx(base_losses[1], rel=2e-6)
    assert held_out_losses[2] == pytest.approx(expected[2], rel=1e-4)  # so high a rate multiplies the rounding
    best_step = held_out_losses.index(min(loss for loss in held_out_losses if loss is not None)) + 1
    assert json.loads((run.best_model / "orca_bench.json").read_text())["step"] == best_step < 10


@pytest.mark.slow
def test_keep_best_that_is_switched_on_later_keeps_the_best_model_since(orca):
    run = Run(orca.folder / "runs" / "late")
    words = ("train", "r.yaml", "-o", "name=late", *HELD_OUT, *TOO_FAST)
    assert orca(*words, "-o", "train.keep_best=false").returncode == 0 and not run.best_model.exists()
    shutil.rmtree(run.model)
    shutil.rmtree(run.checkpoints_folder / "step-00000015")
    (run.checkpoints_folder / "latest").write_text("step-00000010")
    process = orca(*words)
    held_out_losses = [line["held_out_loss"] for line in metrics_of(run)]
    best_step = json.loads((run.best_model / "orca_bench.json").read_text())["step"]
    assert best_step in (12, 15) and held_out_losses[best_step - 1] == min(held_out_losses[11], held_out_losses[14])
    base_loss, best_loss = metrics_of(run)[0]["base_held_out_loss"], held_out_losses[best_step - 1]
    assert f"at step 3 (base {base_loss:.4f}); {best_loss:.4f} at step {best_step}, the lowest since" in process.stdout


@pytest.mark.slow
def test_a_spike_stops_a_run_that_goes_on_with_a_higher_factor(orca):
    words = ["train", "r.yaml", "-o", "name=spike", "-o", "train.processes=1", "-o", "train.micro_batch=4"]
    # Weights that hardly move: the losses differ by their batches alone, and one of them is above 0.01 deviations.
    words += ["-o", "train.epochs=6", "-o", "train.lr=1e-9", "-o", "train.export_every=null"]
    process = orca(*words, "-o", "train.spike_factor=0.01")
    assert process.returncode == 1 and "deviations above the median of the 50 steps before" in process.stderr, (
        process.stderr
    )
    assert "its batch was records " in process.stderr and "is from before" in process.stderr
    run = Run(orca.folder / "runs" / "spike")
    diverged = run.manifest["diverged"]
    assert diverged["step"] == len(metrics_of(run)) > 50 and diverged["spike"] > 0.01
    assert not run.model.exists()
    assert "raise train.spike_factor" in orca.refused(*words, "-o", "train.spike_factor=0.01")
    process = orca(*words, "-o", "train.spike_factor=20")
    assert process.returncode == 0 and "continuing from step" in process.stdout, process.stderr
    assert [line["step"] for line in metrics_of(run)] == list(range(1, 70))
