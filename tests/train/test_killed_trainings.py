"""Trainings that are killed, or split over other numbers of processes, on the way: what is left is that of undisturbed ones."""

import json
import os
import subprocess
import sys
from pathlib import Path

import killed_trainings
import pytest
from waiting import PATIENCE_S

from orca_bench.train import checkpoint_files

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "tests" / "support"
KILL_COUNT = int(os.environ.get("ORCA_BENCH_KILLS", "6"))  # 100 in the run that results/ describes


@pytest.fixture(scope="module")
def folder(tmp_path_factory, mini, mini_records):
    """A folder with 92 short records and a recipe for two processes, of 20 steps an epoch."""
    folder = tmp_path_factory.mktemp("killed")
    records = [record for record in mini_records if len(record["instruction"]) < 400][:92]
    (folder / "records.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    recipe = (SCRIPTS / "short_training.yaml").read_text(encoding="utf-8")
    for old, new in (
        ("mini:tokenizer", str(mini["mini:tokenizer"])),
        ("mini:records", "records.jsonl"),
        ("max_steps: 40", "max_steps: null"),
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


def test_only_a_checkpoint_that_is_being_written_counts_as_such(tmp_path):
    for name in ("step-00000004", ".step-00000004.removed.tmp", ".step-00000004.universal.tmp"):
        (tmp_path / name).mkdir()
    assert not killed_trainings.is_writing(tmp_path)
    checkpoint_files.temporary_folder(tmp_path, 5).mkdir()
    assert killed_trainings.is_writing(tmp_path)


def test_kills_go_on_until_enough_of_them_were_inside_a_write():
    inside, outside = (killed_trainings.Kill([0], 5, is_inside_save) for is_inside_save in (True, False))
    assert not killed_trainings.are_enough([inside] * 9, 10)
    assert not killed_trainings.are_enough([inside] * 2 + [outside] * 8, 10)
    assert killed_trainings.are_enough([inside] * 3 + [outside] * 8, 10)


@pytest.mark.slow
def test_killed_at_random_instants_it_ends_with_the_weights_and_metrics_of_the_undisturbed_run(folder):
    text = (folder / "r.yaml").read_text(encoding="utf-8")
    epochs = 4 + KILL_COUNT * 8 // 10  # more than a fast machine trains until the last kill
    (folder / "long.yaml").write_text(text.replace("epochs: 1", f"epochs: {epochs}"), encoding="utf-8")
    outcome, messages = script(folder, "killed_trainings.py", "long.yaml", "killed", KILL_COUNT, 0)
    print(outcome)
    assert outcome["differences"] == [], messages
    assert outcome["kills"] >= KILL_COUNT and all(outcome["hits_by_rank"])
    assert outcome["inside_save"] >= 0.3 * KILL_COUNT


@pytest.mark.slow
@pytest.mark.parametrize(
    "zero_stage", [3, pytest.param(2, marks=pytest.mark.long), pytest.param(1, marks=pytest.mark.long), 0]
)
def test_two_processes_then_one_then_two_have_the_losses_of_two(folder, zero_stage):
    text = (folder / "r.yaml").read_text(encoding="utf-8")
    (folder / "split.yaml").write_text(text + f"  zero_stage: {zero_stage}\n", encoding="utf-8")
    parts = ["4:", "11:train.processes=1,train.micro_batch=4", ":train.micro_batch=1,train.accumulation=2"]
    losses, messages = script(folder, "split_trainings.py", "split.yaml", f"stage-{zero_stage}", *parts)
    assert messages.count("the work is split otherwise from here on") == 2, messages
    assert messages.count("converting step-") == (2 if zero_stage else 0), messages
    assert len(losses["split"]) == len(losses["whole"]) > 16
    assert losses["split"] == pytest.approx(losses["whole"], rel=1e-6)
