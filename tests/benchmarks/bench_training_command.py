"""orca-bench among the contenders of bench_training.py: a recipe in, the real command run, its steps timed from outside.

Its own module because here orca-bench is another process, which is read through its files alone.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from bench_training_contenders import (
    BETAS,
    EPS,
    GRADIENT_CLIPPING,
    LEARNING_RATE,
    ROOT,
    WEIGHT_DECAY,
    Contender,
    Measurement,
    Task,
    encode,
)
from bench_training_process import kill_with_children

_POLL_INTERVAL_S = 0.01


def recipe_text(contender: Contender, task: Task, step_count: int) -> str:
    """The recipe under which orca-bench trains; the other contenders take the order of the examples from it."""
    accumulation = contender.batch // (contender.micro_batch * contender.processes)
    recipe: dict[str, Any] = {
        "name": "bench",
        "model": {"random": task.shape, "tokenizer": task.tokenizer_source},
        "data": {"records": [task.records_file], "max_length": task.max_length},
        "train": {
            "epochs": 1,
            "max_steps": step_count,
            "global_batch": contender.batch,
            "micro_batch": contender.micro_batch,
            "accumulation": accumulation,
            "processes": contender.processes,
            "lr": LEARNING_RATE,
            "betas": list(BETAS),
            "eps": EPS,
            "weight_decay": WEIGHT_DECAY,
            "grad_clip": GRADIENT_CLIPPING,
            "precision": contender.precision,
            "zero_stage": 3,
            "gradient_checkpointing": contender.gradient_checkpointing,
            "checkpoint_every": 1_000_000,
            "packing": contender.packing,
        },
    }
    return json.dumps(recipe, indent=1)  # JSON is YAML


def measure_command(contender: Contender, task: Task) -> Measurement:
    """Run `orca-bench train` in a folder of its own until metrics.jsonl has all timed steps, and end it by SIGKILL.

    What it saves at its end is not training. The times are those at which the lines appear, so that whatever lies between two
    steps counts.
    """
    examples, tokenizer = encode(task)
    step_count = task.warmup_steps + task.timed_steps
    with tempfile.TemporaryDirectory() as folder_name:
        folder = Path(folder_name)
        (folder / "recipe.yaml").write_text(recipe_text(contender, task, step_count + 1), encoding="utf-8")
        log_file = folder / "log"
        command = [sys.executable, "-m", "orca_bench", "train", "recipe.yaml", "--runs", str(folder / "runs")]
        with open(log_file, "wb") as log:
            process = subprocess.Popen(
                command, cwd=folder, stdout=log, stderr=log, env=_command_environment(), start_new_session=True
            )
        try:
            arrivals = _wait_for_lines(folder / "runs" / "bench" / "metrics.jsonl", step_count, process)
        finally:
            kill_with_children(process)
        if len(arrivals) < step_count:
            run_log = folder / "runs" / "bench" / "train.log"
            further = run_log.read_text(errors="replace")[-3000:] if run_log.is_file() else ""
            raise RuntimeError(
                f"orca-bench train ended early:\n{log_file.read_text(errors='replace')[-3000:]}\n{further}"
            )
        lines = [json.loads(line) for _, line in arrivals]
    times = [moment for moment, _ in arrivals[task.warmup_steps - 1 :]]
    timed_lines = lines[task.warmup_steps : step_count]
    from orca_bench.recipe import Recipe
    from orca_bench.train import student_model

    recipe = Recipe.model_validate(json.loads(recipe_text(contender, task, step_count + 1)))
    config = student_model.student_config(recipe, tokenizer)
    return Measurement(
        times[-1] - times[0],
        sum(line["tokens"] for line in timed_lines),
        computed_tokens(examples, recipe, config, task),
        student_model.count_parameters(config),
        threads=max(1, task.threads // contender.processes),
        first_loss=lines[0]["loss"],
        peak_gib=timed_lines[-1]["memory_gib"],
        step_seconds=[round(seconds, 3) for seconds in np.diff(times)],
    )


def computed_tokens(examples: Any, recipe: Any, config: Any, task: Task) -> int:
    """Tokens of all forward passes of the timed steps, padding included, as orca-bench lays them out."""
    import torch

    from orca_bench.train import micro_batches
    from orca_bench.train.batch_plan import BatchPlan

    plan, token_count = BatchPlan.of_recipe(recipe, examples, config), 0
    lay_out = micro_batches.pad if recipe.train.packing == "none" else micro_batches.pack
    for step in range(task.warmup_steps, task.warmup_steps + task.timed_steps):
        for rank in range(recipe.train.processes):
            for example_indices in plan.passes_of_process(step, rank):
                sequences = micro_batches.read_sequences(examples, example_indices)
                token_count += lay_out(sequences, torch.device("cpu")).token_ids.numel()
    return token_count


def _wait_for_lines(metrics_file: Path, line_count: int, process: subprocess.Popen[bytes]) -> list[tuple[float, str]]:
    """(when it appeared, text) of each whole line, up to `line_count` or until the process ends."""
    arrivals: list[tuple[float, str]] = []
    while len(arrivals) < line_count and process.poll() is None:
        time.sleep(_POLL_INTERVAL_S)
        if metrics_file.is_file():
            moment, text = time.perf_counter(), metrics_file.read_text(encoding="utf-8")
            whole_lines = text[: text.rfind("\n") + 1].splitlines()
            arrivals += [(moment, line) for line in whole_lines[len(arrivals) :]]
    return arrivals


def _command_environment() -> dict[str, str]:
    """As a user's: training chooses its number of threads itself."""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    return environment | {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "HF_HUB_OFFLINE": "1"}
