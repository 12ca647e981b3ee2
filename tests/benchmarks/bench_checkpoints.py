"""How long a checkpoint keeps training waiting: DeepSpeed's own save beside one that is written in the background.

    python tests/benchmarks/bench_checkpoints.py --steps-between 10 --saves 5

One process trains a LLaMA of 15 million parameters in float32 at ZeRO-3 on random ids, and saves a checkpoint every few steps.
For each way it prints the seconds within calls for checkpoints, the mean seconds of a step while a checkpoint is and is not
being written, and the share of the run that the checkpoints took. `DeepSpeed` does not wait for the disk, `DeepSpeed + fsync`
does: only that one is as safe as the background's.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any

from option_types import positive_integer

from orca_bench import child_processes, library_settings
from orca_bench.recipe import Recipe
from orca_bench.train.checkpoint_files import newest_checkpoint_step
from orca_bench.train.checkpoints import Checkpoints
from orca_bench.train.deepspeed_engine import deepspeed_config, without_shared_memory_operator

VOCABULARY_SIZE, BATCH_SHAPE = 32_000, (4, 64)


@dataclass
class Timing:
    """Seconds: of each call for a checkpoint (`waiting`), of each step with and without one being written."""

    waiting_s: list[float] = field(default_factory=list)
    busy_steps_s: list[float] = field(default_factory=list)
    free_steps_s: list[float] = field(default_factory=list)


def new_engine() -> Any:
    """An engine of one process, ZeRO-3, float32, with AdamW."""
    import deepspeed
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    sections = {"model": {"base": "-"}, "data": {"records": ["-"]}}
    train = {"precision": "fp32", "processes": 1, "micro_batch": 16}
    recipe = Recipe.model_validate({"name": "bench", "train": train} | sections)
    shape = {"num_hidden_layers": 6, "num_attention_heads": 8, "vocab_size": VOCABULARY_SIZE}
    model = LlamaForCausalLM(LlamaConfig(hidden_size=192, intermediate_size=512, **shape))
    print(f"{sum(parameter.numel() for parameter in model.parameters()):,} parameters")
    optimizer = torch.optim.AdamW(model.parameters())
    return deepspeed.initialize(model=model, optimizer=optimizer, config=deepspeed_config(recipe))[0]


def step(engine: Any) -> None:
    """One optimizer step on random ids."""
    import torch

    ids = torch.randint(VOCABULARY_SIZE, BATCH_SHAPE)
    engine.backward(engine(input_ids=ids, labels=ids, use_cache=False).loss)
    engine.step()


def seconds_of(call: Callable[[], object]) -> float:
    """How long a call takes."""
    start_s = time.perf_counter()
    call()
    return time.perf_counter() - start_s


def time_deepspeed(engine: Any, folder: Path, steps_between: int, save_count: int, flushes: bool) -> Timing:
    """DeepSpeed's own save, with or without waiting for the disk."""

    def save(number: int) -> None:
        engine.save_checkpoint(str(folder), tag=f"step-{number}")
        for path in (folder / f"step-{number}").iterdir() if flushes else ():
            with open(path, "rb") as handle:
                os.fsync(handle.fileno())

    timing = Timing()
    for number in range(save_count):
        timing.free_steps_s += [seconds_of(lambda: step(engine)) for _ in range(steps_between)]
        timing.waiting_s.append(seconds_of(lambda number=number: save(number)))
    return timing


def time_background(engine: Any, folder: Path, steps_between: int, save_count: int) -> Timing:
    """`Checkpoints`, as the training loop calls it."""
    checkpoints, timing = Checkpoints(engine, folder, 2), Timing()
    for number in range(1, save_count + 1):
        for _ in range(steps_between):
            is_writing = newest_checkpoint_step(folder) < number - 1
            (timing.busy_steps_s if is_writing else timing.free_steps_s).append(seconds_of(lambda: step(engine)))
            timing.waiting_s.append(seconds_of(checkpoints.mark_if_written))
        timing.waiting_s.append(seconds_of(lambda number=number: checkpoints.save(number)))
    timing.waiting_s.append(seconds_of(checkpoints.wait))
    return timing


def main() -> None:
    """Print a line for each way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps-between", type=positive_integer, default=10, help="steps before each checkpoint")
    parser.add_argument("--saves", type=positive_integer, default=5, help="checkpoints of each way")
    options = parser.parse_args()
    library_settings.prepare_libraries()
    import deepspeed

    places = {"RANK": 0, "WORLD_SIZE": 1, "LOCAL_RANK": 0, "MASTER_ADDR": "127.0.0.1"}
    places["MASTER_PORT"] = child_processes.find_free_port()
    os.environ.update({name: str(value) for name, value in places.items()})
    with without_shared_memory_operator():
        deepspeed.init_distributed(dist_backend="gloo")
    engine = new_engine()
    step(engine)
    with tempfile.TemporaryDirectory(dir=".") as folder_name:
        arguments = (options.steps_between, options.saves)
        timings = {
            "DeepSpeed": time_deepspeed(engine, Path(folder_name) / "deepspeed", *arguments, flushes=False),
            "DeepSpeed + fsync": time_deepspeed(engine, Path(folder_name) / "flushed", *arguments, flushes=True),
            "background": time_background(engine, Path(folder_name) / "background", *arguments),
        }
    for name, timing in timings.items():
        steps_s = timing.busy_steps_s + timing.free_steps_s
        busy_text = f", {mean(timing.busy_steps_s):.3f} s while one is written" if timing.busy_steps_s else ""
        share = sum(timing.waiting_s) / (sum(timing.waiting_s) + sum(steps_s))
        print(
            f"{name}: {sum(timing.waiting_s) / options.saves:.3f} s of waiting a checkpoint, {mean(timing.free_steps_s):.3f} s a "
            f"step{busy_text}; {share:.1%} of the run"
        )


if __name__ == "__main__":
    main()
