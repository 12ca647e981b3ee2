"""A recipe trained twice by the real command, once undisturbed and once killed on the way: how the two differ, and how fast.

    python tests/benchmarks/killed_run.py RECIPE --runs runs --kill-at 300 --kill-at 700 -o data.held_out=500

The kill is SIGKILL to the command and all its processes, as soon as metrics.jsonl has that step; then the same command goes on.
Prints a JSON object, and writes it to --out. Run folders stay, with metrics, curves and the model; where there is one already,
the script ends with a message, because a run that goes on would be measured as a whole one.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bench_training_process import kill_with_children

from orca_bench import recipe_file
from orca_bench.files import file_sha256
from orca_bench.train.run_folder import Run
from orca_bench.train.step_metrics import read_metrics

_POLL_S = 0.05


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--kill-at", type=int, action="append", default=[], help="steps, in ascending order")
    parser.add_argument("-o", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    name = recipe_file.read_recipe_file(options.recipe, tuple(options.overrides)).name
    whole, killed = Run(options.runs / name), Run(options.runs / f"{name}-killed")
    for run in (whole, killed) if options.kill_at else (whole,):
        if run.folder.exists():
            raise SystemExit(f"{run.folder} exists already; remove it, or give another -o name=… or --runs")
    seconds = train(options, whole)
    for step in options.kill_at:
        kill_after(options, killed, step)
    if options.kill_at:
        train(options, killed)
    summary = describe(whole, seconds) | (
        {"killed": compare(whole, killed, options.kill_at)} if options.kill_at else {}
    )
    text = json.dumps(summary, indent=1)
    print(text)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")


def command(options: argparse.Namespace, run: Run) -> list[str]:
    """The command line that trains a run."""
    overrides = [word for override in [*options.overrides, f"name={run.folder.name}"] for word in ("-o", override)]
    return [sys.executable, "-m", "orca_bench", "train", options.recipe, "--runs", str(options.runs), *overrides]


def train(options: argparse.Namespace, run: Run) -> float:
    """Train a run to its end; returns the seconds of the whole command."""
    start = time.monotonic()
    subprocess.run(command(options, run), check=True)
    return time.monotonic() - start


def kill_after(options: argparse.Namespace, run: Run, step: int) -> None:
    """Start or continue a run and kill everything of it after `step`."""
    process = subprocess.Popen(command(options, run))
    while len(read_metrics(run.metrics_file)) < step:
        if process.poll() is not None:
            raise SystemExit(f"{run.folder}: the training ended before step {step}")
        time.sleep(_POLL_S)
    process_count = kill_with_children(process)
    print(f"killed after step {len(read_metrics(run.metrics_file))}: {process_count} processes", flush=True)


def describe(run: Run, seconds: float) -> dict[str, Any]:
    """Size and speed of a finished run; tokens a second without the first tenth of its steps, where caches are cold."""
    lines = read_metrics(run.metrics_file)
    warm = lines[len(lines) // 10 :]
    manifest = run.manifest
    return {
        "examples": manifest["examples"],
        "tokens": manifest["tokens"],
        "parameters": manifest["parameters"],
        "steps": len(lines),
        "hours_of_steps": sum(line["seconds"] for line in lines) / 3600,
        "seconds_of_command": round(seconds, 1),
        "tokens_per_second": sum(line["tokens"] for line in warm) / sum(line["seconds"] for line in warm),
        "loss": [lines[0]["loss"], lines[-1]["loss"]],
        "held_out_loss": values_by_step(run, "held_out_loss"),
    }


def values_by_step(run: Run, key: str) -> dict[int, float]:
    """The values of one key of metrics.jsonl by step, without the steps that have none."""
    return {line["step"]: line[key] for line in read_metrics(run.metrics_file) if line.get(key) is not None}


def compare(whole: Run, killed: Run, kill_steps: list[int]) -> dict[str, Any]:
    """How a run that was killed differs from the undisturbed one, in the steps that both have: it may have ended earlier."""
    killed_steps = [line["step"] for line in read_metrics(killed.metrics_file)]
    weights = [[file_sha256(path) for path in sorted(run.model.glob("*.safetensors"))] for run in (whole, killed)]
    loss_differences, held_out_differences = (
        differences_by_step(whole, killed, key) for key in ("loss", "held_out_loss")
    )
    return {
        "kills_after": kill_steps,
        "steps": len(killed_steps),
        "common_steps": len(loss_differences),
        "steps_without_gap_or_double": killed_steps == list(range(1, len(killed_steps) + 1)),
        "same_weights": bool(weights[0]) and weights[0] == weights[1],
        "largest_loss_difference": max(loss_differences.values(), default=None),
        "largest_held_out_difference": max(held_out_differences.values(), default=None),
        "held_out_loss": values_by_step(killed, "held_out_loss"),
    }


def differences_by_step(whole: Run, killed: Run, key: str) -> dict[int, float]:
    """The absolute difference of one key of metrics.jsonl, for the steps that both runs have."""
    values, killed_values = (values_by_step(run, key) for run in (whole, killed))
    return {step: abs(values[step] - killed_values[step]) for step in sorted(values.keys() & killed_values.keys())}


if __name__ == "__main__":
    main()
