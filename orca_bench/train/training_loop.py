"""The training loop: an engine and a plan in, a line of metrics a step, checkpoints and a model folder out.

Exactness: the loss of a step is the mean over *all* trained tokens of its global batch, in all processes and micro batches.
A mean of per-process means is another number where responses differ in length. So each process sums its token losses and
divides by the number of trained tokens in the step, which every process computes alone from the plan.
"""

from __future__ import annotations

import itertools
import math
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Literal

from orca_bench.recipe import Recipe
from orca_bench.tokenizers import Tokenizer
from orca_bench.train import deepspeed_engine as engines
from orca_bench.train import divergence, micro_batches
from orca_bench.train.batch_plan import BatchPlan
from orca_bench.train.checkpoints import Checkpoints
from orca_bench.train.example_encoding import EncodedExamples
from orca_bench.train.held_out_loss import HeldOutPlan
from orca_bench.train.lora import BaseModel
from orca_bench.train.micro_batches import MicroBatch, ScoredSequence
from orca_bench.train.model_export import export_model
from orca_bench.train.read_ahead import ReadAhead
from orca_bench.train.run_folder import Run
from orca_bench.train.run_watch import RunWatch
from orca_bench.train.step_metrics import StepMetrics
from orca_bench.train.trackers import Trackers

if TYPE_CHECKING:
    from deepspeed import DeepSpeedEngine

    from orca_bench.results.data_report import DataReport


_PASSES_AHEAD = 4  # forward passes whose tokens are read from the disk while earlier ones are computed


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


@dataclass(frozen=True)
class Training:
    """What a training is made of.

    `held_out` is None where the recipe asks for no held-out loss. `report_metrics` gets each step's metrics on process 0.
    `data_report` goes into each model's folder.
    """

    run: Run
    recipe: Recipe
    engine: DeepSpeedEngine
    examples: EncodedExamples
    plan: BatchPlan
    held_out: HeldOutPlan | None
    tokenizer: Tokenizer
    report_metrics: Callable[[StepMetrics], None]
    trackers: Trackers
    data_report: DataReport | None = None


def train_to_end(training: Training) -> Literal["finished", "interrupted"]:
    """Train to the end of the plan or until a stop request; returns `finished` or `interrupted`.

    Continues from the newest checkpoint. Raises Diverged, on every process, where a step's loss or gradient is useless, and then
    writes neither checkpoint nor model. A collective.
    """
    checkpoints = Checkpoints(
        training.engine,
        training.run.checkpoints_folder,
        training.recipe.train.keep_checkpoints,
        has_lora=training.recipe.train.lora is not None,
    )
    try:
        training_status = _train_steps(training, checkpoints)
    except divergence.Diverged:  # on every process; a checkpoint of an earlier step may still be on its way to the disk
        checkpoints.wait()
        raise
    checkpoints.wait()
    return training_status


def _train_steps(training: Training, checkpoints: Checkpoints) -> Literal["finished", "interrupted"]:
    """The steps from the newest checkpoint on, and the model at the end.

    Where it is interrupted, the last checkpoint may still be being written.
    """
    import torch

    run, engine, examples, plan = training.run, training.engine, training.examples, training.plan
    stop_request = StopRequest(run)
    steps_done = checkpoints.load()
    watch = RunWatch(
        run, training.recipe, engine, examples, plan, steps_done, training.report_metrics, training.trackers
    )
    remaining_steps = range(steps_done, plan.step_count)
    base_held_out_loss = _held_out_loss(training) if steps_done == 0 else None
    with ReadAhead(
        _read_passes(examples, plan, remaining_steps, torch.distributed.get_rank()), _PASSES_AHEAD
    ) as passes:
        for step_index in remaining_steps:
            start_s = time.perf_counter()
            loss, must_stop, gradient_norm = _train_step(engine, examples, plan, step_index, passes, stop_request)
            seconds = time.perf_counter() - start_s
            step_problem = divergence.step_problem(loss, gradient_norm, plan.train_section)
            spike_height = None if step_problem else watch.spike_height(step_index, loss)
            problem = step_problem or divergence.spike_problem(spike_height, loss, plan.train_section)
            is_due = training.held_out is not None and training.held_out.is_due(step_index + 1, plan.step_count)
            held_out_loss = _held_out_loss(training) if is_due and problem is None else None
            if held_out_loss is not None:
                problem = divergence.held_out_problem(held_out_loss)
            metrics = watch.record_step(
                step_index, loss, gradient_norm, seconds, held_out_loss, base_held_out_loss if step_index == 0 else None
            )
            _raise_if_diverged(problem, examples, plan, step_index, loss, gradient_norm, spike_height)
            watch.show_step(metrics)
            checkpoints.mark_if_written()
            is_best = held_out_loss is not None and plan.train_section.keep_best and watch.is_best(held_out_loss)
            _write_after_step(training, checkpoints, watch, step_index, must_stop, is_best)
            if must_stop and step_index + 1 < plan.step_count:
                return "interrupted"
    checkpoints.wait()
    _export(training, run.model, plan.step_count)
    return "finished"


def _held_out_loss(training: Training) -> float | None:
    """The loss of the held-out examples (nats a response token) with the weights as they are; None without such. A collective."""
    held_out = training.held_out
    if held_out is None:
        return None
    batches = range(held_out.batch_plan.step_count)
    return _mean_loss(training.engine, held_out.examples, held_out.batch_plan, batches)


def _write_after_step(
    training: Training, checkpoints: Checkpoints, watch: RunWatch, step_index: int, must_stop: bool, is_best: bool
) -> None:
    """Write what is due after `step_index` (from 0): a model folder, the best model, a checkpoint. A collective."""
    train_section, steps_done = training.plan.train_section, step_index + 1
    is_last_step = steps_done == training.plan.step_count
    must_export_model = (
        train_section.export_every is not None and steps_done % train_section.export_every == 0 and not is_last_step
    )
    must_save_checkpoint = must_stop or is_last_step or steps_done % train_section.checkpoint_every == 0
    if not (must_export_model or must_save_checkpoint or is_best):
        return
    _check_model_after_step(training.engine, training.examples, training.plan, step_index)
    # Before the checkpoint: a run that is killed between the two does this step, and so the export, again.
    if must_export_model or is_best:
        checkpoints.wait()  # a disk that is full of the export costs no checkpoint
    if must_export_model:
        _export(training, training.run.exports_folder / f"step-{steps_done}", steps_done)
    if is_best:
        _export(training, training.run.best_model, steps_done)
    if must_save_checkpoint:
        watch.prepare_checkpoint()
        checkpoints.save(steps_done)
        if not (must_stop or is_last_step):
            watch.redraw_curves()  # at the end the command draws them


def _export(training: Training, folder: Path, steps_done: int) -> None:
    """Write the student as it is after `steps_done` steps as a model folder. A collective."""
    origin: dict[str, str | int] = {"run": training.run.folder.name, "step": steps_done}
    base = None
    if training.recipe.train.lora is not None:
        base, commit = BaseModel(), training.run.manifest.get("commits", {}).get("model.base")
        if commit is not None:  # then the run's own recipe has the hub id, and that of the training a local folder
            base = BaseModel(training.run.read_recipe().model.base, commit)
    export_model(training.engine, training.recipe.train, training.tokenizer, folder, origin, training.data_report, base)


def _check_model_after_step(
    engine: DeepSpeedEngine, examples: EncodedExamples, plan: BatchPlan, step_index: int
) -> None:
    """Raise Diverged where `step_index` (from 0) has left a model that must not be kept. A collective.

    The loss of the step was that of the weights before it, so the loss of the same batch is computed again.
    """
    loss_after_step = _mean_loss(engine, examples, plan, [step_index])
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
    spike_height: float | None = None,
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
            spike=spike_height,
        )
    )


def _train_step(
    engine: DeepSpeedEngine,
    examples: EncodedExamples,
    plan: BatchPlan,
    step_index: int,
    passes: Iterator[list[ScoredSequence]],
    stop_request: StopRequest,
) -> tuple[float, bool, float | None]:
    """One optimizer step; returns the loss (nats a trained token), whether any process is to stop, the gradient norm.

    `passes` gives the sequences of each forward pass of this process, those of this step next.
    """
    import torch

    trained_token_count = _trained_token_count(examples, plan, step_index)
    for parameter_group in engine.optimizer.param_groups:
        parameter_group["lr"] = plan.learning_rate(step_index)
    loss_sum = torch.zeros((), dtype=torch.float64, device=engine.device)
    # DeepSpeed divides by the accumulation and averages over the processes: both are undone here.
    factor = plan.train_section.processes * plan.train_section.accumulation / trained_token_count
    for sequences in itertools.islice(passes, plan.train_section.accumulation):
        micro_batch_loss = engines.sum_of_losses(engine, _lay_out(engine, plan, sequences), factor)
        loss_sum += micro_batch_loss.detach()
        engine.backward(micro_batch_loss * factor)
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


def _mean_loss(
    engine: DeepSpeedEngine, examples: EncodedExamples, plan: BatchPlan, step_indices: Iterable[int]
) -> float:
    """The mean loss of the batches of some steps (nats a trained token) with the weights as they are now. A collective."""
    import torch

    loss_sum = torch.zeros((), dtype=torch.float64, device=engine.device)
    trained_token_count = 0
    engine.eval()
    with torch.no_grad():
        for step_index in step_indices:
            trained_token_count += _trained_token_count(examples, plan, step_index)
            for micro_batch in _micro_batches(engine, examples, plan, step_index):
                loss_sum += engines.sum_of_losses(engine, micro_batch)
    engine.train()
    torch.distributed.all_reduce(loss_sum)
    return float(loss_sum) / trained_token_count


def _trained_token_count(examples: EncodedExamples, plan: BatchPlan, step_index: int) -> int:
    return int(examples.trained_token_counts[plan.example_indices_of_step(step_index)].sum())


def _micro_batches(
    engine: DeepSpeedEngine, examples: EncodedExamples, plan: BatchPlan, step_index: int
) -> Iterator[MicroBatch]:
    """What this process computes in each forward pass of a step."""
    import torch

    for sequences in _read_passes(examples, plan, [step_index], torch.distributed.get_rank()):
        yield _lay_out(engine, plan, sequences)


def _read_passes(
    examples: EncodedExamples, plan: BatchPlan, step_indices: Iterable[int], process_rank: int
) -> Iterator[list[ScoredSequence]]:
    """The sequences of each forward pass that one process computes in these steps."""
    for step_index in step_indices:
        for example_indices in plan.passes_of_process(step_index, process_rank):
            yield micro_batches.read_sequences(examples, example_indices)


def _lay_out(engine: DeepSpeedEngine, plan: BatchPlan, sequences: list[ScoredSequence]) -> MicroBatch:
    """Sequences as one forward pass on the engine's device, padded or packed as the recipe says."""
    lay_out = micro_batches.pad if plan.train_section.packing == "none" else micro_batches.pack
    return lay_out(sequences, engine.device)
