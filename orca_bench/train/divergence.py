"""The loss and gradient norm of a step in; whether the run has diverged, the message about it, and whether it may go on out.

Its own module because the training loop raises `Diverged`, the command reports it, and the next command for the same run
checks for it.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from orca_bench.errors import UserError
from orca_bench.recipe import Recipe, Train
from orca_bench.train.loss_spikes import WINDOW_STEPS

_MAX_ABSOLUTE_WEIGHT = 1e6  # a thousand times the weights of trained models
_MAX_RECORDS_IN_MESSAGE = 8  # records in a message; the manifest has all


class Diverged(Exception):
    """The model can neither be trained further nor be used; `report` says at which step and why."""

    def __init__(self, report: DivergenceReport) -> None:
        super().__init__(report.what)
        self.report = report


@dataclass(frozen=True)
class DivergenceReport:
    """Where a run diverged: `step` counts from 1, `records` are the numbers (from 0) of the records of its batch.

    `loss` is in nats per token, `grad_norm` before clipping; None where they are not finite, or not known. `exceeded` says
    whether `loss` is a number and above train.max_loss; `spike` is its height where it is a spike (`loss_spikes`).
    """

    what: str
    step: int
    loss: float | None
    grad_norm: float | None
    lr: float
    records: list[int]
    exceeded: bool = False
    spike: float | None = None

    def entry(self) -> dict[str, Any]:
        """The report as JSON values, for a manifest."""
        return asdict(self)


def finite_or_none(number: float | None) -> float | None:
    """The value where it is a number, None where it is NaN or infinite: what JSON can hold."""
    return number if number is not None and math.isfinite(number) else None


def step_problem(loss: float, gradient_norm: float | None, train_section: Train) -> str | None:
    """What is wrong with the loss (nats per token) and gradient norm of a step, or None.

    In fp16 a gradient that is not finite is no divergence: DeepSpeed leaves the step out and lowers its loss scale.
    """
    if not math.isfinite(loss):
        return f"the loss is {loss}"
    if loss > train_section.max_loss:
        return f"the loss is {loss:.4g}, more than train.max_loss {train_section.max_loss:g}"
    if gradient_norm is not None and not math.isfinite(gradient_norm) and train_section.precision != "fp16":
        return f"the gradient norm is {gradient_norm}"
    return None


def spike_problem(spike_height: float | None, loss: float, train_section: Train) -> str | None:
    """What is wrong with a loss (nats per token) of which the spike has this height (`loss_spikes`), or None."""
    spike_factor = train_section.spike_factor
    if spike_height is None or spike_factor is None or spike_height <= spike_factor:
        return None
    return (
        f"the loss jumped to {loss:.4g}, {spike_height:.1f} deviations above the median of the {WINDOW_STEPS} steps before "
        f"(train.spike_factor {spike_factor:g})"
    )


def held_out_problem(held_out_loss: float) -> str | None:
    """What is wrong with a loss of the held-out examples (nats per token), or None."""
    return (
        None if math.isfinite(held_out_loss) else f"after the step the loss of the held-out records is {held_out_loss}"
    )


def weights_problem(largest_weight: float) -> str | None:
    """What is wrong with weights of which the largest has this absolute value, or None.

    Their loss may look healthy: where activations overflow, normalisation makes them 0 and every word equally likely.
    """
    return None if largest_weight <= _MAX_ABSOLUTE_WEIGHT else f"the largest weight is {largest_weight:.3g}"


def divergence_message(report: DivergenceReport, record_sources: list[dict[str, Any]], checkpoint: str | None) -> str:
    """One line about a report: the step, why, the batch, and what there is to go back to.

    `record_sources` are the manifest's `records`; `checkpoint` names the newest good one.
    """
    norm_text = "" if report.grad_norm is None else f"gradient norm {report.grad_norm:.3g}, "
    advice = (
        f"the newest checkpoint, {checkpoint}, is from before" if checkpoint else "there is no checkpoint from before"
    )
    return (
        f"diverged at step {report.step}: {report.what} ({norm_text}learning rate {report.lr:.3g}); "
        f"its batch was {record_locations(report.records, record_sources)}; {advice}"
    )


def record_locations(record_indices: list[int], record_sources: list[dict[str, Any]]) -> str:
    """Where some records (numbers from 0) came from: by source, with their numbers there from 1."""
    source_texts, first_row = [], 0
    first_indices = sorted(record_indices)[:_MAX_RECORDS_IN_MESSAGE]
    for source in record_sources:
        record_numbers = [
            str(index - first_row + 1) for index in first_indices if first_row <= index < first_row + source["rows"]
        ]
        if record_numbers:
            source_texts.append(
                f"{'record' if len(record_numbers) == 1 else 'records'} {', '.join(record_numbers)} of {source['name']}"
            )
        first_row += source["rows"]
    omitted_text = (
        f" and {len(record_indices) - _MAX_RECORDS_IN_MESSAGE} more (all in manifest.json)"
        if len(record_indices) > _MAX_RECORDS_IN_MESSAGE
        else ""
    )
    return ", ".join(source_texts) + omitted_text


def refuse_repeated_divergence(manifest: dict[str, Any], recipe: Recipe, run_folder: Path) -> None:
    """Raise UserError for a run that diverged, unless it did so at a loss, or by a spike, that the recipe now allows.

    The same numbers give the same divergence: to continue from the last checkpoint would not help.
    """
    divergence_entry = manifest.get("diverged") or {}
    loss = divergence_entry.get("loss")
    if loss is not None and divergence_entry.get("exceeded") and loss < recipe.train.max_loss:
        return
    spike, spike_factor = divergence_entry.get("spike"), recipe.train.spike_factor
    if spike is not None and (spike_factor is None or spike <= spike_factor):
        return
    spike_hint = "" if spike is None else "; or raise train.spike_factor, or set it to null, to go on past this step"
    raise UserError(
        f"this run diverged at step {divergence_entry.get('step')} ({divergence_entry.get('what')}) and would again",
        where=run_folder,
        hint=f"lower train.lr (now {recipe.train.lr:g}) or look at the records that manifest.json names, and start over "
        f"with --fresh or under another name (-o name=…){spike_hint}",
    )
