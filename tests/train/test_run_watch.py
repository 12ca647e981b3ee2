"""What looks on at a training: which held-out loss a new one has to beat, and what the disk has before a checkpoint."""

import os
from types import SimpleNamespace

import numpy as np
import pytest

from orca_bench.files import write_json
from orca_bench.recipe import Recipe
from orca_bench.train import step_metrics
from orca_bench.train.batch_plan import BatchPlan
from orca_bench.train.example_encoding import EncodedExamples
from orca_bench.train.run_folder import Run
from orca_bench.train.run_watch import RunWatch
from orca_bench.train.step_metrics import StepMetrics
from orca_bench.train.trackers import Trackers
from orca_bench.train.train_recipe import SilentTrainingDisplay, _report_best_model

TRAIN = {"processes": 1, "global_batch": 2, "keep_best": True}
RECIPE = Recipe.model_validate(
    {"name": "r", "model": {"base": "-"}, "data": {"records": ["-"], "held_out": 1}, "train": TRAIN}
)


@pytest.fixture
def run(tmp_path):
    """A run of five steps, of which the first, second and last have a held-out loss."""
    run = Run(tmp_path)
    for step, held_out_loss in enumerate((1.0, 2.0, None, None, 0.5), 1):
        line = StepMetrics(step, 8, 0.5, 1.25, 1e-5, 0.3, 100, 50, 1.0, 100.0, held_out_loss)
        step_metrics.append_metrics_line(run.metrics_file, line)
    return run


def export_best(run, step):
    run.best_model.mkdir(parents=True)
    write_json(run.best_model / "orca_bench.json", {"run": "r", "step": step})


@pytest.fixture
def watch_from(run):
    """Makes what looks on at the run after so many steps."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = {"num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 50}
    engine = SimpleNamespace(module=LlamaForCausalLM(LlamaConfig(hidden_size=8, intermediate_size=8, **shape)))
    numbers = np.arange(16)
    examples = EncodedExamples(np.repeat(numbers, 2), 2 * numbers, numbers * 0 + 2, numbers * 0 + 1, numbers)
    plan = BatchPlan(examples.lengths, RECIPE.train)
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield lambda steps_done: RunWatch(run, RECIPE, engine, examples, plan, steps_done, lambda metrics: None, Trackers())
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize(
    ("best_step", "loss_to_beat"),
    [
        (1, 1.0),
        (2, 2.0),  # the first step was without keep_best
        (5, 0.5),  # its step is after the checkpoint, and is done again
        (3, float("inf")),  # has no held-out loss
    ],
)
def test_the_loss_to_beat_is_that_of_the_model_that_is_there(run, watch_from, best_step, loss_to_beat):
    export_best(run, best_step)
    watch = watch_from(4)
    assert not watch.is_best(loss_to_beat) and watch.is_best(min(loss_to_beat, 9.0) - 0.1)
    assert [line["step"] for line in step_metrics.read_metrics(run.metrics_file)] == [1, 2, 3, 4]


def test_without_a_best_model_every_loss_is_the_lowest_once(watch_from):
    watch = watch_from(4)
    assert watch.is_best(9.0) and not watch.is_best(9.0)


def test_the_disk_has_all_metrics_before_a_checkpoint_is_written(run, watch_from, monkeypatch):
    watch, flushed_files, fsync = watch_from(4), [], os.fsync

    def flush(descriptor):
        flushed_files.append(os.fstat(descriptor))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", flush)
    watch.record_step(4, 1.0, 1.0, 1.0, None)
    assert not flushed_files  # not at each step
    watch.prepare_checkpoint()
    (metrics_status,) = [status for status in flushed_files if status.st_ino == run.metrics_file.stat().st_ino]
    assert metrics_status.st_size == run.metrics_file.stat().st_size


class Messages(SilentTrainingDisplay):
    def __init__(self):
        self.lines = []

    def message(self, line):
        self.lines.append(line)


@pytest.mark.parametrize(
    ("best_step", "keep_best", "text"),
    [
        (5, True, ": {}"),
        (2, True, "; 2.0000 at step 2, the lowest since train.keep_best: {}"),
        (5, False, ""),
        (None, True, ""),
    ],
)
def test_the_best_model_is_reported_with_its_own_loss(run, best_step, keep_best, text):
    if best_step is not None:
        export_best(run, best_step)
    display = Messages()
    train = RECIPE.train.model_copy(update={"keep_best": keep_best})
    _report_best_model(run, RECIPE.model_copy(update={"train": train}), display)
    assert display.lines == ["lowest held-out loss 0.5000 at step 5" + text.format(run.best_model)]
