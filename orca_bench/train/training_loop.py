"""The training loop: an engine and a plan in, a line of metrics a step, checkpoints and a model folder out.

Exactness: the loss of a step is the mean over *all* trained tokens of its global batch, in all processes and micro batches.
A mean of per-process means is another number where responses differ in length. So each process sums its token losses and
divides by the number of trained tokens in the step, which every process computes alone from the plan.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TYPE_CHECKING, Literal

from orca_bench.recipe import Recipe
from orca_bench.tokenizers import Tokenizer
from orca_bench.train import deepspeed_engine as engines
from orca_bench.train import divergence, micro_batches, model_flops, process_memory, step_metrics
from orca_bench.train.batch_plan import BatchPlan
from orca_bench.train.checkpoints import Checkpoints
from orca_bench.train.curves import CurvesPicture
from orca_bench.train.example_encoding import EncodedExamples
from orca_bench.train.micro_batches import MicroBatch
from orca_bench.train.model_export import export_model
from orca_bench.train.run_folder import Run
from orca_bench.train.step_metrics import StepMeasurement, StepMetrics

if TYPE_CHECKING:
    from deepspeed import DeepSpeedEngine


class StopRequest:
    """True as soon as the run is to stop: after a signal to this process, or when the run's stop file is there."""

    def __init__(self, run: Run) -> None:
        self._run, self._has_signal = run, False
        for signal_number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signal_number, self._receive)

    def _receive(self, signal_number: int, frame: FrameType | None) -> None:
        self._has_signal = True

    def __bool__(self) -> bool:
        return self._has_signal or self._run.stop_file.exists()


def train_to_end(
    run: Run,
    recipe: Recipe,
    engine: DeepSpeedEngine,
    examples: EncodedExamples,
    plan: BatchPlan,
    tokenizer: Tokenizer,
    report_metrics: Callable[[StepMetrics], None],
) -> Literal["finished", "interrupted"]:
    """Train to the end of the plan or until a stop request; returns `finished` or `interrupted`.

    Continues from the newest checkpoint. `report_metrics` gets each step's metrics on process 0. Raises Diverged, on every
    process, where a step's loss or gradient is useless, and then writes neither checkpoint nor model. A collective.
    """
    checkpoints = Checkpoints(engine, run.checkpoints_folder, recipe.train.keep_checkpoints)
    try:
        training_status = _train_steps(run, recipe, engine, examples, plan, tokenizer, report_metrics, checkpoints)
    except divergence.Diverged:  # on every process; a checkpoint of an earlier step may still be on its way to the disk
        checkpoints.wait()
        raise
    checkpoints.wait()
    return training_status


def _train_steps(
    run: Run,
    recipe: Recipe,
    engine: DeepSpeedEngine,
    examples: EncodedExamples,
    plan: BatchPlan,
    tokenizer: Tokenizer,
    report_metrics: Callable[[StepMetrics], None],
    checkpoints: Checkpoints,
) -> Literal["finished", "interrupted"]:
    """The steps from the newest checkpoint on, and the model at the end.

    Where it is interrupted, the last checkpoint may still be being written.
    """
    import torch

    is_first_rank = torch.distributed.get_rank() == 0
    stop_request = StopRequest(run)
    steps_done = checkpoints.load()
    if is_first_rank:
        step_metrics.remove_later_steps(run.metrics_file, steps_done)
    torch.distributed.barrier()
    curves_picture = CurvesPicture(run.metrics_file, run.curves_file, recipe.name)
    utilization = model_flops.engine_utilization(engine)
    for step_index in range(steps_done, plan.step_count):
        start_s = time.perf_counter()
        loss, must_stop, gradient_norm = _train_step(engine, examples, plan, step_index, stop_request)
        measurement = StepMeasurement(
            loss, gradient_norm, time.perf_counter() - start_s, None, process_memory.largest_peak_memory_gib()
        )
        metrics = step_metrics.compute_step_metrics(examples, plan, step_index, measurement, utilization)
        if is_first_rank:
            step_metrics.append_metrics_line(run.metrics_file, metrics)
        _raise_if_diverged(
            divergence.step_problem(loss, gradient_norm, recipe.train), examples, plan, step_index, loss, gradient_norm
        )
        if is_first_rank:
            report_metrics(metrics)
        checkpoints.mark_if_written()
        steps_done = step_index + 1
        is_last_step = steps_done == plan.step_count
        must_export_model = not is_last_step and steps_done % (recipe.train.export_every or plan.step_count) == 0
        must_save_checkpoint = must_stop or is_last_step or steps_done % recipe.train.checkpoint_every == 0
        if must_export_model or must_save_checkpoint:
            _check_model_after_step(engine, examples, plan, step_index)
        # Before the checkpoint: a run that is killed between the two does this step, and so the export, again.
        if must_export_model:
            checkpoints.wait()  # a disk that is full of the export costs no checkpoint
            export_folder = run.exports_folder / f"step-{steps_done}"
            export_model(engine, recipe.train, tokenizer, export_folder, {"run": run.folder.name, "step": steps_done})
        if must_save_checkpoint:
            checkpoints.save(steps_done)
            if is_first_rank and not (must_stop or is_last_step):
                curves_picture.redraw()  # at the end the command draws them
        if must_stop and not is_last_step:
            return "interrupted"
    checkpoints.wait()
    export_model(engine, recipe.train, tokenizer, run.model, {"run": run.folder.name, "step": plan.step_count})
    return "finished"


def _check_model_after_step(
    engine: DeepSpeedEngine, examples: EncodedExamples, plan: BatchPlan, step_index: int
) -> None:
    """Raise Diverged where `step_index` (from 0) has left a model that must not be kept. A collective.

    The loss of the step was that of the weights before it, so the loss of the same batch is computed again.
    """
    loss_after_step = _batch_loss(engine, examples, plan, step_index)
    problem = divergence.step_problem(loss_after_step, None, plan.train_section) or divergence.weights_problem(
        engines.largest_absolute_weight(engine)
    )
    _raise_if_diverged(problem and f"after the step {problem}", examples, plan, step_index, loss_after_step, None)


def _raise_if_diverged(
    problem: str | None,
    examples: EncodedExamples,
    plan: BatchPlan,
    step_index: int,
    loss: float,
    gradient_norm: float | None,
) -> None:
    """Raise Diverged where there is a problem with what `step_index` (from 0) gave or left."""
    if problem is None:
        return
    raise divergence.Diverged(
        divergence.DivergenceReport(
            what=problem,
            step=step_index + 1,
            loss=divergence.finite_or_none(loss),
            grad_norm=divergence.finite_or_none(gradient_norm),
            lr=plan.learning_rate(step_index),
            records=examples.records[plan.example_indices_of_step(step_index)].tolist(),
            exceeded=math.isfinite(loss) and loss > plan.train_section.max_loss,
        )
    )


def _train_step(
    engine: DeepSpeedEngine, examples: EncodedExamples, plan: BatchPlan, step_index: int, stop_request: StopRequest
) -> tuple[float, bool, float | None]:
    """One optimizer step; returns the loss (nats a trained token), whether any process is to stop, the gradient norm."""
    import torch

    trained_token_count = _trained_token_count(examples, plan, step_index)
    for parameter_group in engine.optimizer.param_groups:
        parameter_group["lr"] = plan.learning_rate(step_index)
    loss_sum = torch.zeros((), dtype=torch.float64, device=engine.device)
    for micro_batch in _micro_batches(engine, examples, plan, step_index):
        micro_batch_loss = engines.sum_of_losses(engine, micro_batch)
        loss_sum += micro_batch_loss.detach()
        # DeepSpeed divides by the accumulation and averages over the processes: both are undone here.
        engine.backward(
            micro_batch_loss * (plan.train_section.processes * plan.train_section.accumulation / trained_token_count)
        )
        engine.step()
    loss_and_stop_sums = torch.stack(
        [loss_sum, torch.tensor(float(bool(stop_request)), dtype=torch.float64, device=engine.device)]
    )
    torch.distributed.all_reduce(loss_and_stop_sums)
    return (
        float(loss_and_stop_sums[0]) / trained_token_count,
        bool(loss_and_stop_sums[1] > 0),
        engines.last_gradient_norm(engine),
    )


def _batch_loss(engine: DeepSpeedEngine, examples: EncodedExamples, plan: BatchPlan, step_index: int) -> float:
    """The loss of the batch of `step_index` (nats a trained token) with the weights as they are now. A collective."""
    import torch

    loss_sum = torch.zeros((), dtype=torch.float64, device=engine.device)
    engine.eval()
    with torch.no_grad():
        for micro_batch in _micro_batches(engine, examples, plan, step_index):
            loss_sum += engines.sum_of_losses(engine, micro_batch)
    engine.train()
    torch.distributed.all_reduce(loss_sum)
    return float(loss_sum) / _trained_token_count(examples, plan, step_index)


def _trained_token_count(examples: EncodedExamples, plan: BatchPlan, step_index: int) -> int:
    return int(examples.trained_token_counts[plan.example_indices_of_step(step_index)].sum())


def _micro_batches(
    engine: DeepSpeedEngine, examples: EncodedExamples, plan: BatchPlan, step_index: int
) -> Iterator[MicroBatch]:
    """What this process computes in each forward pass of a step."""
    import torch

    lay_out = micro_batches.pad if plan.train_section.packing == "none" else micro_batches.pack
    for accumulation_index in range(plan.train_section.accumulation):
        example_indices = plan.micro_batch(step_index, accumulation_index, torch.distributed.get_rank())
        yield lay_out(micro_batches.read_sequences(examples, example_indices), engine.device)
