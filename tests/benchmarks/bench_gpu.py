"""Correctness and speed on one GPU, within a budget of seconds: checks, evaluation, experiments and training.

    python tests/benchmarks/bench_gpu.py --budget-seconds 500 --out DIR

In: a budget, and which parts to run. Out: measurements.jsonl, gpu.md, profiles and logs in a folder, written as soon as there is
anything to write, so that nothing is lost where the machine is taken away. The most telling jobs run first; one that is not
expected to fit into what is left of the budget is left out, and the record says so. Each job is a process of its own; all of
them import their libraries at once, before the first job, so that no measurement runs beside an import. Weights are random and
are drawn on the GPU, and nothing is downloaded. `--device cpu --sizes tiny` tries everything without a GPU.
"""

import argparse
import json
import os
import select
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "benchmarks")]

import bench_gpu_report
import bench_training_gpu
from bench_training_contenders import Contender
from bench_training_process import kill_with_children

from orca_bench import child_processes
from orca_bench.errors import UserError
from orca_bench.files import make_writable_folder

PARTS = ("checks", "evaluation", "experiments", "training")
#: Seconds for the imports of all processes, which a GPU's machine does at once; they are a part of the budget.
_IMPORT_LIMIT_S = 100.0


@dataclass(frozen=True)
class Job:
    """A job of `bench_gpu_process.JOBS`: it starts where `expected_s` seconds are left, and is ended after `limit_s`."""

    part: str
    name: str
    expected_s: float
    limit_s: float


#: In the order in which they run.
JOBS = (
    Job("checks", "engine_checks", 15, 100),
    Job("checks", "packing_checks", 8, 40),
    Job("checks", "training_step_check", 15, 60),
    Job("evaluation", "evaluation_1b", 20, 110),
    Job("experiments", "profiles", 15, 50),
    Job("experiments", "tree_attention", 10, 45),
    Job("experiments", "decoding", 10, 45),
    Job("evaluation", "evaluation_7b", 25, 110),
    Job("experiments", "flex_attention", 40, 80),
    Job("training", "training_profile", 35, 90),
)
#: Seconds that training gets at least, where there are so many: the jobs before it end earlier.
_TRAINING_RESERVE_S = 100.0


def main(words: list[str] | None = None) -> None:
    options = _options(words)
    run(options.parts, options.budget_seconds, options.out, options.device, options.sizes)


def _options(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget-seconds", type=float, default=500, help="what does not fit is left out")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "gpu", help="a folder")
    names = ",".join([*PARTS, *(job.name for job in JOBS)])
    parser.add_argument("--parts", default=",".join(PARTS), help=f"parts or single jobs, of {names}")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--sizes", "--shapes", default="full", choices=["full", "tiny"], help="tiny: to try everything")
    options = parser.parse_args(words)
    options.parts = options.parts.split(",")
    for name in options.parts:
        if name not in names.split(","):
            parser.error(f"argument --parts: {name!r} is not one of {names}")
    try:
        make_writable_folder(options.out)
    except UserError as error:
        parser.error(f"argument --out: {error}")
    if options.device == "cuda":
        import torch

        if not torch.cuda.is_available():
            parser.error("torch sees no GPU here; --device cpu --sizes tiny tries the script without one")
    return options


def run(part_names: list[str], budget_s: float, out_folder: Path, device: str, sizes: str) -> None:
    """Run the jobs of the parts in order until the budget is spent."""
    end = time.monotonic() + budget_s
    out_folder = out_folder.resolve()
    for earlier_file in ("measurements.jsonl", "training/training-gpu.md"):  # those of another run are none of this one
        (out_folder / earlier_file).unlink(missing_ok=True)
    (out_folder / "logs").mkdir(parents=True, exist_ok=True)
    jobs = [job for job in JOBS if job.part in part_names or job.name in part_names]
    trains = "training" in part_names
    with child_processes.Lifeline("bench_gpu") as lifeline:
        environment = os.environ | lifeline.environment | {"HF_HUB_OFFLINE": "1"}
        import_limit_s = min(_IMPORT_LIMIT_S, budget_s) if sizes == "full" else budget_s
        for job, process in _start_all(jobs, out_folder, device, sizes, environment, import_limit_s):
            seconds_left = end - time.monotonic() - (_TRAINING_RESERVE_S if trains and job.part != "training" else 0.0)
            if seconds_left < (job.expected_s if sizes == "full" else 0):
                _append(out_folder, job.name, {"left_out": f"{max(0, seconds_left):.0f} s were left for it"})
                kill_with_children(process)
            else:
                # The limits are those of a GPU; a busy CPU may take any time for its tiny tries.
                limit_s = min(seconds_left, job.limit_s) if sizes == "full" else seconds_left
                _finish(job, process, limit_s, out_folder)
            bench_gpu_report.write(out_folder)
    if trains:
        shape_names = ["tiny"] if sizes == "tiny" else ["1b", "3b"]
        training_folder = out_folder / "training"
        bench_training_gpu.run_attempts(
            training_attempts(shape_names), end - time.monotonic(), training_folder, device=device
        )
    bench_gpu_report.write(out_folder)
    print(f"record: {out_folder / 'gpu.md'}; {budget_s - (end - time.monotonic()):.0f} s", flush=True)


def training_attempts(shape_names: list[str]) -> list[bench_training_gpu.Attempt]:
    """The card's batch and a large one on the first shape, then orca-bench and the card's way on the others."""
    card = Contender("trainer", "bf16", 16, 2, gradient_checkpointing=True)
    exact = Contender("orca", "bf16", 16, 16, packing="exact")
    exact_large = Contender("orca", "bf16", 128, 64, packing="exact", gradient_checkpointing=True)
    padded = Contender("orca", "bf16", 16, 16, packing="none")
    first_shape, *other_shapes = shape_names
    return [
        *(bench_training_gpu.Attempt(first_shape, contender) for contender in (exact, exact_large)),
        *(bench_training_gpu.Attempt(name, contender) for name in other_shapes for contender in (exact, card)),
        bench_training_gpu.Attempt(first_shape, padded),
    ]


def _start_all(
    jobs: list[Job], out_folder: Path, device: str, sizes: str, environment: dict[str, str], import_limit_s: float
) -> list[tuple[Job, subprocess.Popen[bytes]]]:
    """The jobs with their processes, each of which has imported its libraries or ended, and waits for its start line.

    A process that still imports after `import_limit_s` would disturb the others: it is ended, and the record says so.
    """
    start = time.monotonic()
    process_by_pipe: dict[int, tuple[Job, subprocess.Popen[bytes]]] = {}
    for job in jobs:
        process, pipe_descriptor = _start(job, out_folder, device, sizes, environment)
        process_by_pipe[pipe_descriptor] = job, process
    importing = set(process_by_pipe)
    while importing and (seconds_left := start + import_limit_s - time.monotonic()) > 0:
        closed_pipes, _, _ = select.select(list(importing), [], [], seconds_left)
        importing.difference_update(closed_pipes)
    for pipe_descriptor, (job, process) in process_by_pipe.items():
        os.close(pipe_descriptor)
        if pipe_descriptor in importing:
            kill_with_children(process)
            _append(out_folder, job.name, {"problem": f"had not imported its libraries after {import_limit_s:.0f} s"})
    print(f"imports of {len(jobs)} processes: {time.monotonic() - start:.1f} s", flush=True)
    return [entry for pipe_descriptor, entry in process_by_pipe.items() if pipe_descriptor not in importing]


def _start(
    job: Job, out_folder: Path, device: str, sizes: str, environment: dict[str, str]
) -> tuple[subprocess.Popen[bytes], int]:
    """The process of a job, and a pipe that it closes when it has imported its libraries."""
    program = Path(__file__).with_name("bench_gpu_process.py")
    read_descriptor, write_descriptor = os.pipe()
    try:
        with open(out_folder / "logs" / f"{job.name}.log", "ab") as log:
            process = subprocess.Popen(
                [sys.executable, str(program), job.name, str(out_folder), device, sizes, str(write_descriptor)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=environment,
                pass_fds=[write_descriptor],
            )
    finally:
        os.close(write_descriptor)
    return process, read_descriptor


def _finish(job: Job, process: subprocess.Popen[bytes], limit_s: float, out_folder: Path) -> None:
    """Let a job run to its end or its limit."""
    start = time.monotonic()
    print(f"{job.name}: begins, {limit_s:.0f} s at most", flush=True)
    try:
        process.stdin.write(json.dumps({"seconds": limit_s}).encode() + b"\n")
        process.stdin.close()
    except BrokenPipeError:
        pass  # it has ended, which is noted below
    try:
        process.wait(timeout=limit_s + 3)
    except subprocess.TimeoutExpired:
        kill_with_children(process)
        _append(out_folder, job.name, {"problem": f"was not done after {limit_s:.0f} s"})
    else:
        if process.returncode:
            _append(out_folder, job.name, {"problem": f"its process ended with code {process.returncode}"})
    print(f"{job.name}: {time.monotonic() - start:.1f} s", flush=True)
    for entry in bench_gpu_report.read_entries(out_folder):
        if entry["job"] == job.name and "problem" in entry:
            print(f"  {entry['name']}: {entry['problem']}", flush=True)


def _append(out_folder: Path, job_name: str, fields: dict[str, Any]) -> None:
    with open(out_folder / "measurements.jsonl", "a", encoding="utf-8") as file:
        file.write(json.dumps({"job": job_name, "name": job_name, **fields}) + "\n")


if __name__ == "__main__":
    main()
