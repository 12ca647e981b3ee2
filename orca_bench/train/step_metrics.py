"""The numbers of one optimizer step, and the file metrics.jsonl, which holds one line of them for each step.

Its own module because the training loop computes them, the display shows them and a continued run cuts the file.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from orca_bench.errors import UserError
from orca_bench.files import catch_write_errors, read_json, write_text
from orca_bench.models.model_folder import METADATA_FILE_NAME
from orca_bench.train import divergence
from orca_bench.train.batch_plan import BatchPlan
from orca_bench.train.example_encoding import EncodedExamples
from orca_bench.train.model_flops import FlopsUtilization


@dataclass(frozen=True)
class StepMetrics:
    """One line of metrics.jsonl. Files of earlier versions lack the keys that have a default here.

    `step` counts from 1 to `steps`; `epoch` is how many times the data has been used. `loss` is in nats per trained token,
    `grad_norm` before clipping (None where it is not known). `tokens` are all of the batch, `trained_tokens` those with a
    loss, `tokens_per_second` counts all. `held_out_loss` is that of the weights after the step; None where it was not
    computed. `base_held_out_loss` is that of the weights before the first step; None in the lines of all others. `mfu` is the
    share of the GPUs' peak rate, from 0 to 1; None on CPUs and unknown GPUs. `memory_gib` is the most that a process has used
    so far (GPU memory, on CPUs its resident set).
    """

    step: int
    steps: int
    epoch: float
    loss: float
    lr: float
    grad_norm: float | None
    tokens: int
    trained_tokens: int
    seconds: float
    tokens_per_second: float
    held_out_loss: float | None = None
    mfu: float | None = None
    memory_gib: float | None = None
    base_held_out_loss: float | None = None


@dataclass(frozen=True)
class StepMeasurement:
    """What was measured in one step: losses in nats per trained token, seconds without the held-out loss, GiB."""

    loss: float
    grad_norm: float | None
    seconds: float
    held_out_loss: float | None
    memory_gib: float
    base_held_out_loss: float | None = None


def compute_step_metrics(
    examples: EncodedExamples,
    plan: BatchPlan,
    step_index: int,
    measurement: StepMeasurement,
    utilization: FlopsUtilization,
) -> StepMetrics:
    """The metrics of `step_index` (from 0)."""
    example_indices = plan.example_indices_of_step(step_index)
    example_lengths = examples.lengths[example_indices]
    token_count, seconds = int(example_lengths.sum()), measurement.seconds
    mfu = utilization.of_step(example_lengths, seconds)
    return StepMetrics(
        step=step_index + 1,
        steps=plan.step_count,
        epoch=round(plan.epoch(step_index), 4),
        loss=measurement.loss,
        lr=plan.learning_rate(step_index),
        grad_norm=measurement.grad_norm,
        tokens=token_count,
        trained_tokens=int(examples.trained_token_counts[example_indices].sum()),
        seconds=round(seconds, 4),
        tokens_per_second=round(token_count / seconds, 1),
        held_out_loss=measurement.held_out_loss,
        mfu=None if mfu is None else round(mfu, 4),
        memory_gib=round(measurement.memory_gib, 3),
        base_held_out_loss=measurement.base_held_out_loss,
    )


def append_metrics_line(metrics_file: Path, metrics: StepMetrics) -> None:
    """Append one line; a number that is not finite becomes null, because JSON has no such numbers."""
    json_values = {
        key: divergence.finite_or_none(value) if isinstance(value, float) else value
        for key, value in asdict(metrics).items()
    }
    with catch_write_errors(metrics_file), open(metrics_file, "a", encoding="utf-8") as handle:
        handle.write(json.dumps(json_values, allow_nan=False) + "\n")


def read_metrics(metrics_file: Path) -> list[dict[str, Any]]:
    """The lines of a metrics.jsonl in their order; without the file none. What is no line of a step is left out.

    The last line of a killed run may be half a line, and files of earlier versions lack keys.
    """
    if not metrics_file.is_file():
        return []
    lines = []
    for line in metrics_file.read_text(encoding="utf-8", errors="replace").splitlines():
        with contextlib.suppress(json.JSONDecodeError, RecursionError):
            metrics = json.loads(line)
            if isinstance(metrics, dict) and isinstance(metrics.get("step"), int):
                lines.append(metrics)
    return lines


def lowest_held_out_loss(metrics: Iterable[dict[str, Any]]) -> tuple[float, int] | None:
    """The lowest held-out loss of some lines and its step, the first one of equal ones; None where no line has one."""
    losses = [(line["held_out_loss"], line["step"]) for line in metrics if line.get("held_out_loss") is not None]
    return min(losses, default=None)


def base_held_out_loss(metrics: Iterable[dict[str, Any]]) -> float | None:
    """The held-out loss of the weights before the first step; None where no line has it."""
    losses = [line["base_held_out_loss"] for line in metrics if line.get("base_held_out_loss") is not None]
    return losses[0] if losses else None


def exported_held_out_loss(metrics: Iterable[dict[str, Any]], model_folder: Path) -> tuple[float, int] | None:
    """The held-out loss of the step at which a model was exported, and that step; None without the model or the loss."""
    try:
        exported_step = read_json(model_folder / METADATA_FILE_NAME)["step"]
    except (UserError, KeyError, TypeError):
        return None
    return lowest_held_out_loss(line for line in metrics if line["step"] == exported_step)


def flush_metrics(metrics_file: Path) -> None:
    """Wait until the disk has all lines, so that no checkpoint outlives the metrics of its steps, not in a power cut either.

    Raises UserError where the disk does not take them.
    """
    if metrics_file.is_file():
        with catch_write_errors(metrics_file), open(metrics_file, "rb") as handle:
            os.fsync(handle.fileno())


def remove_later_steps(metrics_file: Path, steps_done: int) -> None:
    """Remove the lines of steps after the first `steps_done`: those steps are done again from the checkpoint."""
    if metrics_file.is_file():
        earlier_metrics = [metrics for metrics in read_metrics(metrics_file) if metrics["step"] <= steps_done]
        write_text(metrics_file, "".join(json.dumps(metrics) + "\n" for metrics in earlier_metrics))
