"""The numbers of one optimizer step, and the file metrics.jsonl, which holds one line of them for each step.

Its own module because the training loop computes them, the display shows them and a continued run cuts the file.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from orca_bench.files import catch_write_errors, write_text
from orca_bench.train import divergence
from orca_bench.train.batch_plan import EMPTY_PLACE, BatchPlan
from orca_bench.train.example_encoding import EncodedExamples


@dataclass(frozen=True)
class StepMetrics:
    """One line of metrics.jsonl.

    `step` counts from 1 to `steps`; `epoch` is how many times the data has been used. `loss` is in nats per trained token,
    `grad_norm` before clipping (None where it is not known). `tokens` are all of the batch, `trained_tokens` those with a
    loss, `tokens_per_second` counts all.
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


def example_indices_of_step(plan: BatchPlan, step_index: int) -> np.ndarray:
    """The numbers of the examples in the batch of `step_index` (from 0), int64 [examples]; empty places are left out."""
    batch_places = plan.example_indices_of_step(step_index)
    return batch_places[batch_places != EMPTY_PLACE]


def compute_step_metrics(
    examples: EncodedExamples,
    plan: BatchPlan,
    step_index: int,
    loss: float,
    gradient_norm: float | None,
    seconds: float,
) -> StepMetrics:
    """The metrics of `step_index` (from 0), which took so many seconds."""
    example_indices = example_indices_of_step(plan, step_index)
    token_count = int(examples.lengths[example_indices].sum())
    return StepMetrics(
        step=step_index + 1,
        steps=plan.step_count,
        epoch=round(plan.epoch(step_index), 4),
        loss=loss,
        lr=plan.learning_rate(step_index),
        grad_norm=gradient_norm,
        tokens=token_count,
        trained_tokens=int(examples.trained_token_counts[example_indices].sum()),
        seconds=round(seconds, 4),
        tokens_per_second=round(token_count / seconds, 1),
    )


def append_metrics_line(metrics_file: Path, metrics: StepMetrics) -> None:
    """Append one line; a number that is not finite becomes null, because JSON has no such numbers."""
    json_values = {
        key: divergence.finite_or_none(value) if isinstance(value, float) else value
        for key, value in asdict(metrics).items()
    }
    with catch_write_errors(metrics_file), open(metrics_file, "a", encoding="utf-8") as handle:
        handle.write(json.dumps(json_values, allow_nan=False) + "\n")


def remove_later_steps(metrics_file: Path, steps_done: int) -> None:
    """Remove the lines of steps after the first `steps_done`: those steps are done again from the checkpoint."""
    if not metrics_file.is_file():
        return
    earlier_lines = []
    for line in metrics_file.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["step"] <= steps_done:
                earlier_lines.append(line + "\n")
        except (json.JSONDecodeError, KeyError, TypeError):
            continue  # the last line of a killed run may be half a line
    write_text(metrics_file, "".join(earlier_lines))
