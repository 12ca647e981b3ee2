"""A recipe trained twice by the real command, once undisturbed and once killed on the way: how the two differ, and how fast.

    python tests/benchmarks/killed_run.py RECIPE --runs runs --kill-at 300 --kill-at 700 -o data.held_out=500

The kill is SIGKILL to the command and all its processes, as soon as metrics.jsonl has that step; then the same command goes on.
Prints a JSON object, and writes it to --out. Run folders stay, with metrics, curves and the model; where there is one already,
the script ends with a message, because a run that goes on would be measured as a whole one.
"""

import argparse
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from orca_bench import recipe_file
from orca_bench.files import file_sha256
from orca_bench.train.run_folder import Run

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
    while not (steps_done := len(read_metrics(run))) or steps_done < step:
        if process.poll() is not None:
            raise SystemExit(f"{run.folder}: the training ended before step {step}")
        time.sleep(_POLL_S)
    victims = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for victim in victims:
        victim.send_signal(signal.SIGKILL)
    process.wait()
    print(f"killed after step {len(read_metrics(run))}: {len(victims)} processes", flush=True)


def read_metrics(run: Run) -> list[dict[str, Any]]:
    """The whole lines of metrics.jsonl."""
    if not run.metrics_file.is_file():
        return []
    lines = run.metrics_file.read_text(encoding="utf-8").split("\n")[:-1]
    return [json.loads(line) for line in lines]


def describe(run: Run, seconds: float) -> dict[str, Any]:
    """Size and speed of a finished run; tokens a second without the first tenth of its steps, where caches are cold."""
    lines = read_metrics(run)
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
        "held_out_loss": held_out_losses(run),
    }


def held_out_losses(run: Run) -> dict[int, float]:
    """The held-out loss by step, where the recipe has one."""
    return {line["step"]: line["held_out_loss"] for line in read_metrics(run) if line.get("held_out_loss") is not None}


def compare(whole: Run, killed: Run, kill_steps: list[int]) -> dict[str, Any]:
    """How a run that was killed differs from the undisturbed one."""
    lines, killed_lines = read_metrics(whole), read_metrics(killed)
    held_out, killed_held_out = held_out_losses(whole), held_out_losses(killed)
    weights = [[file_sha256(path) for path in sorted(run.model.glob("*.safetensors"))] for run in (whole, killed)]
    return {
        "kills_after": kill_steps,
        "steps_without_gap_or_double": [line["step"] for line in killed_lines] == [line["step"] for line in lines],
        "same_weights": weights[0] == weights[1],
        "largest_loss_difference": max(abs(a["loss"] - b["loss"]) for a, b in zip(lines, killed_lines, strict=True)),
        "largest_held_out_difference": max((abs(held_out[s] - killed_held_out[s]) for s in held_out), default=None),
        "held_out_loss": killed_held_out,
    }


if __name__ == "__main__":
    main()
