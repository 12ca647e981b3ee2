"""Trainings that are killed, or split over other numbers of processes, on the way: what is left is that of undisturbed ones."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import PATIENCE_S

from recipes import RECIPE

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "tests" / "support"
KILL_COUNT = int(os.environ.get("ORCA_BENCH_KILLS", "6"))  # 100 in the run that results/ describes


@pytest.fixture(scope="module")
def folder(tmp_path_factory, mini, mini_records):
    """A folder with 92 short records and a recipe for two processes, of 20 steps an epoch."""
    folder = tmp_path_factory.mktemp("killed")
    records = [record for record in mini_records if len(record["instruction"]) < 400][:92]
    (folder / "records.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    recipe = RECIPE.format(name="r", tokenizer=mini["mini:tokenizer"])
    for old, new in (
        ("max_length: 256", "max_length: 96"),
        ("global_batch: 8", "global_batch: 4"),
        ("accumulation: 2", "accumulation: 1"),
        ("checkpoint_every: 5", "checkpoint_every: 3"),
        ("export_every: 5", "export_every: null"),
    ):
        assert old in recipe
        recipe = recipe.replace(old, new)
    (folder / "r.yaml").write_text(recipe, encoding="utf-8")
    return folder


def script(folder, name, *words):
    """What a script of tests/support prints at its end, a JSON object, and its messages."""
    process = subprocess.run(
        [sys.executable, SCRIPTS / name, *map(str, words)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S + 60 * KILL_COUNT,
    )
    assert process.stdout.strip(), process.stderr
    return json.loads(process.stdout.strip().splitlines()[-1]), process.stderr


@pytest.mark.slow
def test_killed_at_random_instants_it_ends_with_the_weights_and_metrics_of_the_undisturbed_run(folder):
    text = (folder / "r.yaml").read_text(encoding="utf-8")
    (folder / "long.yaml").write_text(
        text.replace("epochs: 1", f"epochs: {2 + KILL_COUNT * 6 // 10}"), encoding="utf-8"
    )
    outcome, messages = script(folder, "killed_trainings.py", "long.yaml", "killed", KILL_COUNT, 0)
    print(outcome)
    assert outcome["differences"] == [], messages
    assert (
        outcome["kills"] == KILL_COUNT and outcome["inside_save"] >= 0.3 * KILL_COUNT and all(outcome["hits_by_rank"])
    )


@pytest.mark.slow
@pytest.mark.parametrize("zero_stage", [3, 2, 1, 0])
def test_two_processes_then_one_then_two_have_the_losses_of_two(folder, zero_stage):
    text = (folder / "r.yaml").read_text(encoding="utf-8")
    (folder / "split.yaml").write_text(text + f"  zero_stage: {zero_stage}\n", encoding="utf-8")
    parts = ["4:", "11:train.processes=1,train.micro_batch=4", ":train.micro_batch=1,train.accumulation=2"]
    losses, messages = script(folder, "split_trainings.py", "split.yaml", f"stage-{zero_stage}", *parts)
    assert messages.count("the work is split otherwise from here on") == 2, messages
    assert messages.count("converting step-") == (2 if zero_stage else 0), messages
    assert len(losses["split"]) == len(losses["whole"]) > 16
    assert losses["split"] == pytest.approx(losses["whole"], rel=1e-6)
