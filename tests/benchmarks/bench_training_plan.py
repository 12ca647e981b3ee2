"""Measure the memory and the time of short trainings on this machine, and compare them with what `orca-bench plan` estimates.

    python tests/benchmarks/bench_training_plan.py --measurements build/bench_training_plan.jsonl

In: nothing but this machine; the table of published rates too, where it is here. Out: a line of JSON for each configuration,
appended as soon as it is measured, so that the script goes on where it was interrupted, and results/bench/training-plan.md.
Memory is the largest resident set of a process before its first checkpoint, with an allocator that returns what is freed (as
that of `--keeping-allocator` does not, glibc's own). Times mean something on an idle machine only;
`--memory-only` leaves them out of the record.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "benchmarks"), str(ROOT / "tests" / "support")]

import bench_training_plan_report as report
import published_rates
from bench_training_process import ContenderFailed, kill_with_children
from bench_training_rows import generated_rows
from bench_training_shapes import SHAPES, VOCAB_SIZES

from orca_bench import child_processes

_STEP_COUNT = 4  # the first is slower, and the optimizer has its states after it
#: glibc keeps freed blocks of up to 32 MiB; with this threshold it returns them, so that the resident set is what is in use.
_RETURNING_ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "65536"}
_TIMEOUT_S = 1800
_POLL_INTERVAL_S = 0.2


@dataclass(frozen=True)
class Configuration:
    """One training: every example has `length` tokens, and each process computes `micro_batch` of them in a step."""

    shape: str
    length: int
    micro_batch: int
    processes: int
    zero_stage: int
    precision: str
    gradient_checkpointing: bool = False
    packing: str = "exact"

    def recipe_values(self, records_file: Path, tokenizer_source: Path) -> dict[str, Any]:
        """The recipe as the values of its keys."""
        return {
            "name": "plan",
            "model": {"random": SHAPES[self.shape], "tokenizer": str(tokenizer_source)},
            "data": {"records": [str(records_file)], "max_length": self.length},
            "train": {
                "epochs": 1,
                "max_steps": _STEP_COUNT + 1,
                "global_batch": self.micro_batch * self.processes,
                "micro_batch": self.micro_batch,
                "accumulation": 1,
                "processes": self.processes,
                "precision": self.precision,
                "zero_stage": self.zero_stage,
                "gradient_checkpointing": self.gradient_checkpointing,
                "packing": self.packing,
                "checkpoint_every": 1_000_000,
            },
        }


CONFIGURATIONS = (
    Configuration("tiny", 128, 2, 1, 0, "fp32"),
    Configuration("tiny", 512, 4, 2, 3, "bf16"),
    Configuration("15m", 128, 2, 1, 3, "fp32"),
    Configuration("15m", 128, 2, 2, 3, "bf16"),
    Configuration("15m", 512, 4, 1, 3, "fp32"),
    Configuration("15m", 512, 4, 1, 3, "fp32", gradient_checkpointing=True),
    Configuration("15m", 512, 4, 1, 3, "bf16"),
    Configuration("15m", 512, 4, 2, 0, "fp32"),
    Configuration("15m", 512, 4, 2, 1, "fp32"),
    Configuration("15m", 512, 4, 2, 2, "fp32"),
    Configuration("15m", 512, 4, 2, 3, "fp32"),
    Configuration("15m", 512, 4, 2, 2, "bf16"),
    Configuration("15m", 512, 4, 2, 1, "bf16", gradient_checkpointing=True),
    Configuration("15m", 1024, 4, 1, 2, "fp32"),
    Configuration("15m", 1024, 4, 1, 3, "bf16", gradient_checkpointing=True),
    Configuration("15m", 1024, 8, 1, 3, "fp32"),
    Configuration("15m", 512, 4, 1, 3, "fp32", packing="none"),
    Configuration("42m", 128, 4, 1, 3, "fp32"),
    Configuration("42m", 512, 4, 1, 0, "fp32"),
    Configuration("42m", 512, 4, 1, 2, "bf16"),
    Configuration("42m", 512, 4, 1, 3, "fp32", gradient_checkpointing=True),
    Configuration("42m", 256, 2, 2, 1, "fp32"),
    Configuration("42m", 256, 2, 2, 2, "bf16"),
    Configuration("42m", 256, 2, 2, 3, "fp32"),
    Configuration("42m", 256, 2, 2, 3, "bf16", gradient_checkpointing=True),
    Configuration("42m", 512, 2, 2, 0, "fp32", gradient_checkpointing=True),
)


def main(words: list[str] | None = None) -> None:
    options = _options(words)
    entries = _read(options.measurements)
    for configuration in CONFIGURATIONS:
        if options.shapes and configuration.shape not in options.shapes.split(","):
            continue
        if any(entry["configuration"] == asdict(configuration) for entry in entries):
            continue
        environment = {} if options.keeping_allocator else _RETURNING_ALLOCATOR
        entry = {"configuration": asdict(configuration), **measure(configuration, options.steps, environment)}
        entries.append(entry)
        options.measurements.parent.mkdir(parents=True, exist_ok=True)
        with open(options.measurements, "a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
        print(json.dumps(entry), flush=True)
    rates = published_rates.read_rates() if published_rates.RATES_FILE.is_file() else []
    options.record.write_text(report.record(entries, rates, with_times=not options.memory_only), encoding="utf-8")


def _options(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measurements", type=Path, default=ROOT / "build" / "bench_training_plan.jsonl")
    parser.add_argument("--record", type=Path, default=ROOT / "results" / "bench" / "training-plan.md")
    parser.add_argument("--shapes", help="only these, with commas between them")
    parser.add_argument("--steps", type=int, default=_STEP_COUNT, help="2 are enough for the memory")
    parser.add_argument("--keeping-allocator", action="store_true", help="measure with glibc's own behaviour")
    parser.add_argument("--memory-only", action="store_true", help="the machine is not idle: leave the times out")
    return parser.parse_args(words)


def _read(measurements_file: Path) -> list[dict[str, Any]]:
    if not measurements_file.is_file():
        return []
    return [json.loads(line) for line in measurements_file.read_text(encoding="utf-8").splitlines()]


def measure(configuration: Configuration, step_count: int, environment: dict[str, str]) -> dict[str, Any]:
    """`memory_gib` and `step_seconds` of the steps after the first, as metrics.jsonl of the command has them.

    The command runs with these variables added to its environment. Raises ContenderFailed where the training ends before its
    steps are done.
    """
    with (
        tempfile.TemporaryDirectory() as folder_name,
        child_processes.Lifeline("bench_training_plan") as lifeline,
    ):
        folder = Path(folder_name)
        example_count = configuration.micro_batch * configuration.processes * (_STEP_COUNT + 1)
        half = configuration.length // 2
        rows = generated_rows(
            folder, [(configuration.length - half, half)] * example_count, VOCAB_SIZES[configuration.shape], ""
        )
        recipe_file = folder / "recipe.yaml"
        recipe_file.write_text(json.dumps(configuration.recipe_values(rows.records_file, rows.tokenizer_source)))
        metrics = _metrics_of_command(folder, recipe_file, os.environ | environment | lifeline.environment, step_count)
    return {
        "memory_gib": max(line["memory_gib"] for line in metrics),
        "step_seconds": [line["seconds"] for line in metrics[1:]],
    }


def _metrics_of_command(
    folder: Path, recipe_file: Path, environment: dict[str, str], step_count: int
) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl of the first steps; the command is killed after them."""
    metrics_file = folder / "runs" / "plan" / "metrics.jsonl"
    log_file = folder / "log.txt"
    with open(log_file, "wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "orca_bench", "train", str(recipe_file), "--runs", str(folder / "runs")],
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment | {"PYTHONPATH": str(ROOT), "ORCA_BENCH_CACHE": str(folder / "cache")},
        )
        deadline = time.monotonic() + _TIMEOUT_S
        try:
            while process.poll() is None and time.monotonic() < deadline:
                lines = metrics_file.read_text(encoding="utf-8").splitlines() if metrics_file.is_file() else []
                if len(lines) >= step_count:
                    return [json.loads(line) for line in lines[:step_count]]
                time.sleep(_POLL_INTERVAL_S)
        finally:
            kill_with_children(process)
    raise ContenderFailed(log_file.read_text(encoding="utf-8", errors="replace")[-4000:])


if __name__ == "__main__":
    main()
