"""A recipe in; the same training undisturbed and killed again and again, and how the two differ, out.

    python tests/support/killed_trainings.py RECIPE RUNS KILLS [SEED]

Trains RECIPE into RUNS/whole, and into RUNS/killed with KILLS SIGKILLs at random instants, half of which wait for a checkpoint
that is being written. Further ones follow until three in ten were inside such a write. Prints a JSON object.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from forked_trainings import import_libraries, is_alive, read_recipe, start, step_of, train_whole

from orca_bench.files import file_sha256
from orca_bench.recipe import Recipe
from orca_bench.train.checkpoint_files import newest_checkpoint_step
from orca_bench.train.run_folder import Run
from orca_bench.train.step_metrics import read_metrics

_PEER_EXIT_S = 5.0  # what a process takes to notice that another one is gone
_SAVE_S = 0.03  # seconds after the first sign of a checkpoint within which the kill comes
_MEASURED_KEYS = {
    "seconds",
    "tokens_per_second",
    "mfu",
    "memory_gib",
}  # of metrics.jsonl: of the machine, not of the numbers
_WRITTEN_PATTERN = ".step-????????.tmp"  # those that are being removed have other names
_MIN_INSIDE_SHARE = 0.3  # of the kills, inside a write


@dataclass(frozen=True)
class Kill:
    """One SIGKILL: of which ranks, after how many steps (by metrics.jsonl), and whether a checkpoint was half-written then."""

    ranks: list[int]
    step: int
    is_inside_save: bool


def kill_once(run: Run, recipe: Recipe, rng: random.Random, waits_for_save: bool) -> Kill | None:
    """Start the training and kill one rank or all of them; None where it was at its end before."""
    process_ids = start(run, recipe)
    step_before = newest_checkpoint_step(run.checkpoints_folder)
    at_once = rng.random() < 0.15  # while the libraries start, or the checkpoint is loaded
    steps_until_kill = 0 if at_once else rng.randrange(1, 12)
    while all(map(is_alive, process_ids)) and step_of(run) < step_before + steps_until_kill:
        time.sleep(0.002)
    if waits_for_save:
        while all(map(is_alive, process_ids)) and not is_writing(run.checkpoints_folder):
            time.sleep(0.0005)
        time.sleep(rng.random() * _SAVE_S)
    else:
        time.sleep(rng.random() * (1.5 if at_once else 0.3))
    ranks = [rng.randrange(len(process_ids))] if rng.random() < 0.6 else list(range(len(process_ids)))
    if not all(map(is_alive, process_ids)):
        return None
    for rank in ranks:
        os.kill(process_ids[rank], signal.SIGKILL)
    kill = Kill(ranks, step_of(run), is_writing(run.checkpoints_folder))
    deadline_s = time.monotonic() + _PEER_EXIT_S
    for process_id in process_ids:  # a launcher ends the others, too
        while is_alive(process_id):
            if time.monotonic() > deadline_s:
                os.kill(process_id, signal.SIGKILL)
            time.sleep(0.01)
    return kill


def is_writing(checkpoints_folder: Path) -> bool:
    """Whether a checkpoint is being written."""
    return any(checkpoints_folder.glob(_WRITTEN_PATTERN))


def are_enough(kills: list[Kill], kill_count: int) -> bool:
    """Whether there were so many kills, and three in ten of so many inside a write."""
    return len(kills) >= kill_count and count_inside(kills) >= _MIN_INSIDE_SHARE * kill_count


def count_inside(kills: list[Kill]) -> int:
    """How many of the kills came while a checkpoint was being written."""
    return sum(kill.is_inside_save for kill in kills)


def differences(whole: Run, killed: Run) -> list[str]:
    """In what two finished runs differ."""
    texts = []
    hashes = [{path.name: file_sha256(path) for path in run.model.glob("*.safetensors")} for run in (whole, killed)]
    if not hashes[0] or hashes[0] != hashes[1]:
        texts.append("the weights")
    lines = [read_metrics(run.metrics_file) for run in (whole, killed)]
    if [len(metrics) for metrics in lines] != [step_of(run) for run in (whole, killed)]:
        texts.append("text that is no line of metrics.jsonl")
    for key in set(lines[0][0]) - _MEASURED_KEYS:
        if [line[key] for line in lines[0]] != [line[key] for line in lines[1]]:
            texts.append(f"{key} in metrics.jsonl")
    return texts


def main() -> None:
    """Run the script; exit code 1 where the two runs differ."""
    recipe_path, runs, kill_count = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    rng = random.Random(int(sys.argv[4]) if len(sys.argv) > 4 else 0)
    import_libraries()
    recipe = read_recipe(recipe_path, runs)
    whole, killed = Run(runs / "whole"), Run(runs / "killed")
    train_whole(whole, recipe)
    kills: list[Kill] = []
    while not are_enough(kills, kill_count):
        kill = kill_once(killed, recipe, rng, waits_for_save=len(kills) % 2 == 0 or len(kills) >= kill_count)
        if kill is None:
            raise SystemExit(
                f"the run ended after {len(kills)} kills: train more epochs. {killed.log_file.read_text()[-2000:]}"
            )
        kills.append(kill)
        print(len(kills), kill, file=sys.stderr, flush=True)
    train_whole(killed, recipe)
    different_parts = differences(whole, killed)
    summary = {
        "kills": len(kills),
        "inside_save": count_inside(kills),
        "hits_by_rank": [sum(rank in kill.ranks for kill in kills) for rank in range(recipe.train.processes)],
        "steps": step_of(whole),
        "differences": different_parts,
    }
    print(json.dumps(summary))
    sys.exit(bool(different_parts))


if __name__ == "__main__":
    main()
