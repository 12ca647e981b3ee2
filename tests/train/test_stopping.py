"""Training stops when and as it is asked to, nothing outlives its command, and a model that diverged is not kept."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from waiting import PATIENCE_S, eventually

from orca_bench import child_processes, recipe_file
from orca_bench.train.run_folder import Run

ROOT = Path(__file__).resolve().parents[2]
ENDLESS = ("-o", "train.epochs=500", "-o", "train.export_every=null")


@pytest.fixture
def training(orca, tmp_path):
    """`training(name, *words)`: a command that is past its first step, its run, and the ids of what it started."""
    commands = []

    def start(name, *words):
        run = Run(orca.folder / "runs" / name)
        command = orca.start("train", "r.yaml", "-o", f"name={name}", *words, env={"TMPDIR": str(tmp_path)})
        commands.append(command)
        eventually(
            lambda: command.poll() is not None or (run.metrics_file.is_file() and run.metrics_file.stat().st_size)
        )
        assert command.poll() is None, command.communicate()
        return command, run, child_processes.running_process_ids(run.process_purpose)

    yield start
    for command in commands:
        if command.poll() is None:
            command.kill()
    eventually(lambda: not list(tmp_path.glob("orca-bench-*")))  # whoever was last clears up


def nothing_left(run):
    eventually(lambda: not child_processes.running_process_ids(run.process_purpose))


def test_a_second_ctrl_c_ends_everything_at_once_and_meanwhile_nobody_else_trains_the_run(orca, training):
    command, run, process_ids = training("twice", *ENDLESS)
    assert len(process_ids) >= 3  # the launcher and two workers
    refusal = orca.refused("train", "r.yaml", "-o", "name=twice", *ENDLESS)
    assert f"another process ({command.pid} on " in refusal
    assert "another process" in orca.refused("train", "r.yaml", "-o", "name=twice", *ENDLESS, "--fresh")
    command.send_signal(signal.SIGINT)
    while "Ctrl-C again to stop at once" not in command.stdout.readline():
        assert command.poll() is None
    command.send_signal(signal.SIGINT)
    _, err = command.communicate(timeout=PATIENCE_S)
    assert command.returncode == 130 and "stopped at once; the same command" in err
    assert child_processes.running_process_ids(run.process_purpose) == []


@pytest.mark.parametrize(
    ("launcher", "victim"),
    [
        ("torchrun", "command"),
        pytest.param("deepspeed", "launcher", marks=pytest.mark.slow),
        pytest.param("torchrun", "launcher", marks=pytest.mark.long),
        pytest.param("deepspeed", "command", marks=pytest.mark.long),
        pytest.param("torchrun", "worker", marks=pytest.mark.long),
        pytest.param("deepspeed", "worker", marks=pytest.mark.long),
    ],
)
def test_who_ever_is_killed_takes_all_others_with_it(training, launcher, victim):
    command, run, process_ids = training(f"{launcher}-{victim}", *ENDLESS, "--launcher", launcher)
    children = psutil.Process(command.pid).children(recursive=True)
    worker = [child for child in children if child.pid in process_ids][-1]  # not a program that a library has started
    {"command": psutil.Process(command.pid), "launcher": children[0], "worker": worker}[victim].kill()
    nothing_left(run)
    _, err = command.communicate(timeout=PATIENCE_S)
    assert command.returncode == (-signal.SIGKILL if victim == "command" else 1) and "Traceback" not in err
    assert not run.model.exists()


@pytest.mark.slow
def test_sigterm_is_a_polite_request_and_the_free_keys_may_change_before_it_goes_on(orca, training):
    words = ("-o", "train.epochs=8", "-o", "train.export_every=null")
    command, run, _ = training("term", *words)
    command.send_signal(signal.SIGTERM)
    _, err = command.communicate(timeout=PATIENCE_S)
    assert command.returncode == 130 and "the same command continues from it" in err
    assert Run(run.folder).status == "interrupted"
    again = orca(
        "train", "r.yaml", "-o", "name=term", *words, "-o", "train.checkpoint_every=1000", "--launcher", "deepspeed"
    )
    assert again.returncode == 0 and "continuing from step " in again.stdout, again.stderr
    assert " s in all)" in again.stdout and "next: orca-bench eval --model " in again.stderr
    assert recipe_file.read_recipe_file(run.recipe_file).train.checkpoint_every == 1000
    assert {path.name for path in run.checkpoints_folder.glob("step-*")} >= {"step-00000092"}
    steps = [json.loads(line)["step"] for line in run.metrics_file.read_text().splitlines()]
    assert steps == list(range(1, 93))
    (run.folder / "results").mkdir()
    (run.folder / "results" / "orca.json").write_text("{}")
    shutil.rmtree(run.model)  # a trained run that has lost its model writes it again
    again = orca("train", "r.yaml", "-o", "name=term", *words)
    assert again.returncode == 0 and "continuing" in again.stdout
    fresh = orca("train", "r.yaml", "-o", "name=term", "-o", "train.max_steps=1", "--fresh")
    assert fresh.returncode == 0 and "the run that was in runs/term is now in runs/term.old-1" in fresh.stdout
    aside = Run(run.folder.with_name("term.old-1"))
    assert aside.status == "finished" and (aside.folder / "results" / "orca.json").is_file()
    assert aside.model.is_dir() and run.model.is_dir() and not (run.folder / "results").exists()


def not_json(word):
    raise AssertionError(f"{word} is no JSON")


def test_a_run_that_diverges_stops_and_keeps_what_is_good(orca):
    run = Run(orca.folder / "alone" / "r")
    words = ["r.yaml", "--runs", "alone", "-o", "train.lr=1e30", "-o", "train.checkpoint_every=1"]
    process = orca("train", *words, "-o", "train.export_every=1")
    assert process.returncode == 1 and "Traceback" not in process.stderr
    assert process.stderr.startswith("failed: diverged at step 3: after the step the largest weight is 5e+29"), (
        process.stderr
    )
    assert "its batch was records " in process.stderr and "step-00000002, is from before" in process.stderr
    lines = run.metrics_file.read_text().splitlines()
    assert [json.loads(line, parse_constant=not_json)["step"] for line in lines] == [1, 2, 3]
    assert run.status == "diverged" and len(run.manifest["diverged"]["records"]) == 8
    assert not run.model.exists()
    assert sorted(path.name for path in run.checkpoints_folder.glob("step-*")) == ["step-00000001", "step-00000002"]
    assert sorted(path.name for path in run.exports_folder.iterdir()) == ["step-1", "step-2"]
    assert "this run diverged at step 3" in orca.refused("train", *words)
    assert "no finished run" in orca.refused("eval", "--runs", "alone", "--tasks", "winogrande")


@pytest.mark.slow
def test_a_loss_above_the_recipes_bound_stops_a_run_that_goes_on_with_a_higher_one(orca):
    words = ["r.yaml", "-o", "name=bound", "-o", "train.processes=1", "-o", "train.micro_batch=4"]
    words += ["-o", "train.precision=bf16"]
    process = orca("train", *words, "-o", "train.max_loss=6.9")
    assert process.returncode == 1 and "diverged at step 1: the loss is 6.9" in process.stderr
    assert "more than train.max_loss 6.9" in process.stderr and "there is no checkpoint from before" in process.stderr
    assert "diverged" in orca.refused("train", *words, "-o", "train.max_loss=6.9")
    assert orca("train", *words, "-o", "train.max_loss=20").returncode == 0


@pytest.mark.slow
def test_a_disk_that_is_full_while_a_checkpoint_is_written_loses_nothing(orca, training):
    words = ("-o", "train.epochs=8", "-o", "train.export_every=null")
    assert orca("train", "r.yaml", "-o", "name=roomy", *words).returncode == 0
    command, run, _ = training("full", *words)
    command.send_signal(signal.SIGINT)
    command.communicate(timeout=PATIENCE_S)
    checkpoints = sorted(run.checkpoints_folder.glob("step-*"))  # the last one is of the signal
    # a file-size limit fails a write the way a full disk does, without filling one
    script = (
        "import resource, sys; from orca_bench.cli.main import main;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, 150_000)); sys.argv[0] = 'orca-bench'; main()"
    )
    full = subprocess.run(
        [sys.executable, "-c", script, "train", "r.yaml", "-o", "name=full", *words],
        cwd=orca.folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert full.returncode == 2 and "Traceback" not in full.stderr, full.stderr
    assert "_states.pt: cannot write: File too large; free space or choose another folder" in full.stderr
    assert sorted(run.checkpoints_folder.glob("*step-*")) == checkpoints  # nor is anything half-written left
    process = orca("train", "r.yaml", "-o", "name=full", *words)
    assert process.returncode == 0 and f"continuing from step {int(checkpoints[-1].name[5:])} " in process.stdout, (
        process.stderr
    )
    weights = [(orca.folder / f"runs/{name}/model/model.safetensors").read_bytes() for name in ("roomy", "full")]
    assert weights[0] == weights[1]


@pytest.mark.long
def test_killed_at_any_instant_it_goes_on_to_the_same_weights(orca, training):
    rng, words = (
        random.Random(5),
        ("-o", "train.epochs=10", "-o", "train.checkpoint_every=3", "-o", "train.export_every=4"),
    )
    assert orca("train", "r.yaml", "-o", "name=whole", *words).returncode == 0
    for count in range(4):
        command, run, _ = training("killed", *words)
        if count == 3:
            eventually(lambda folder=run.checkpoints_folder: len(list(folder.glob("step-*"))) == 2)
        time.sleep(rng.random() * 3)
        command.kill()
        command.communicate()
        nothing_left(run)
        for folder in (run.model, *run.exports_folder.glob("step-*")):
            assert not folder.exists() or (folder / "tokenizer.json").is_file()
    older, newest = sorted(run.checkpoints_folder.glob("step-*"))
    os.truncate(next(newest.glob("*_optim_states.pt")), 1000)
    process = orca("train", "r.yaml", "-o", "name=killed", *words)
    assert process.returncode == 0, process.stderr
    assert f"it is now damaged-{newest.name}, and training goes on from {older.name}" in " ".join(
        process.stdout.split()
    )
    whole = Run(orca.folder / "runs" / "whole")
    for name in ("model", "exports/step-56", "exports/step-112"):
        weights = [(r.folder / name / "model.safetensors").read_bytes() for r in (whole, run)]
        assert weights[0] == weights[1], name
