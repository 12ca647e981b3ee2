"""What each step of a training gave in; metrics.jsonl, trackers, curves and the display out, and whether a loss is a spike.

Its own module because the training loop computes, and this is all that looks on. Every process has a `RunWatch`, so that all
come to the same judgement; only the first one writes and shows something.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from orca_bench.recipe import Recipe
from orca_bench.train import model_flops, process_memory, step_metrics
from orca_bench.train.batch_plan import BatchPlan
from orca_bench.train.curves import CurvesPicture
from orca_bench.train.example_encoding import EncodedExamples
from orca_bench.train.loss_spikes import WINDOW_STEPS, LossSpikes
from orca_bench.train.run_folder import Run
from orca_bench.train.step_metrics import StepMeasurement, StepMetrics
from orca_bench.train.trackers import Trackers

if TYPE_CHECKING:
    from deepspeed import DeepSpeedEngine


class RunWatch:
    """Follows one run from a checkpoint on; to be made after the checkpoint is loaded. A collective.

    `report_metrics` gets the metrics of each good step; it and the trackers are used on the first process only.
    """

    def __init__(
        self,
        run: Run,
        recipe: Recipe,
        engine: DeepSpeedEngine,
        examples: EncodedExamples,
        plan: BatchPlan,
        steps_done: int,
        report_metrics: Callable[[StepMetrics], None],
        trackers: Trackers,
    ) -> None:
        import torch

        self._run, self._examples, self._plan = run, examples, plan
        self._report_metrics, self._trackers = report_metrics, trackers
        self._is_first_rank = torch.distributed.get_rank() == 0
        self._curves_picture = CurvesPicture(run.metrics_file, run.curves_file, recipe.name)
        self._utilization = model_flops.engine_utilization(engine, recipe.train.lora is not None)
        history: list[tuple[list[float], float]] = [([], math.inf)]
        if self._is_first_rank:
            # Also of a step that is done again: its model may be in exports/best already.
            best = step_metrics.exported_held_out_loss(step_metrics.read_metrics(run.metrics_file), run.best_model)
            step_metrics.remove_later_steps(run.metrics_file, steps_done)
            earlier_metrics = step_metrics.read_metrics(run.metrics_file)
            recent_losses = [line["loss"] for line in earlier_metrics[-WINDOW_STEPS:] if line.get("loss") is not None]
            history = [(recent_losses, math.inf if best is None else best[0])]
            trackers.start(steps_done, earlier_metrics)
        torch.distributed.broadcast_object_list(history)  # other machines may see the file late
        losses_before, self._best_held_out_loss = history[0]
        self._spikes = LossSpikes(losses_before)

    def spike_height(self, step_index: int, loss: float) -> float | None:
        """How high a spike the loss of `step_index` (from 0) is, in deviations; None during the warm-up and for no number."""
        if step_index < self._plan.warmup_step_count or not math.isfinite(loss):
            return None
        return self._spikes.height(loss)

    def record_step(
        self,
        step_index: int,
        loss: float,
        gradient_norm: float | None,
        seconds: float,
        held_out_loss: float | None,
        base_held_out_loss: float | None = None,
    ) -> StepMetrics:
        """Write the metrics of `step_index` (from 0) down, be it good or not. A collective."""
        memory_gib = process_memory.largest_peak_memory_gib()
        measurement = StepMeasurement(loss, gradient_norm, seconds, held_out_loss, memory_gib, base_held_out_loss)
        metrics = step_metrics.compute_step_metrics(
            self._examples, self._plan, step_index, measurement, self._utilization
        )
        self._spikes.add(loss)
        if self._is_first_rank:
            step_metrics.append_metrics_line(self._run.metrics_file, metrics)
            self._trackers.log(metrics)
        return metrics

    def show_step(self, metrics: StepMetrics) -> None:
        """Show the metrics of a step that was good."""
        if self._is_first_rank:
            self._report_metrics(metrics)

    def is_best(self, held_out_loss: float) -> bool:
        """Whether this held-out loss is lower than that of the model in exports/best; from then on it is the lowest."""
        if not held_out_loss < self._best_held_out_loss:
            return False
        self._best_held_out_loss = held_out_loss
        return True

    def prepare_checkpoint(self) -> None:
        """A checkpoint is written next: metrics and trackers keep what came until now."""
        if self._is_first_rank:
            step_metrics.flush_metrics(self._run.metrics_file)
            self._trackers.flush()

    def redraw_curves(self) -> None:
        """Draw the curves again, where it is time for it."""
        if self._is_first_rank:
            self._curves_picture.redraw()
