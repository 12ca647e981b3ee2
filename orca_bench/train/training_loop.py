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
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Literal

import numpy as np

from orca_bench.recipe import Recipe
from orca_bench.tokenizers import Tokenizer
from orca_bench.train import deepspeed_engine as engines
from orca_bench.train import divergence, step_metrics, student_model
from orca_bench.train.batch_plan import EMPTY, Plan
from orca_bench.train.example_encoding import EncodedExamples
from orca_bench.train.run_folder import Run
from orca_bench.train.step_metrics import StepMetrics, examples_of

if TYPE_CHECKING:
    import torch
    from deepspeed import DeepSpeedEngine


class StopRequest:
    """True as soon as the run is to stop: after a signal to this process, or when the run's stop file is there."""

    def __init__(self, run: Run) -> None:
        self._run, self._has_signal = run, False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._receive)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self._has_signal = True

    def __bool__(self) -> bool:
        return self._has_signal or self._run.stop_file.exists()


def train(
    run: Run,
    recipe: Recipe,
    engine: DeepSpeedEngine,
    examples: EncodedExamples,
    plan: Plan,
    tokenizer: Tokenizer,
    report: Callable[[StepMetrics], None],
) -> Literal["finished", "interrupted"]:
    """Train to the end of the plan or until a stop request; returns `finished` or `interrupted`.

    Continues from the newest checkpoint. `report` gets each step's metrics on process 0. Raises Diverged, on every process,
    where a step's loss or gradient is useless, and then writes neither checkpoint nor model. A collective.
    """
    import torch

    first = torch.distributed.get_rank() == 0
    stop_request = StopRequest(run)
    done = engines.load_checkpoint(engine, run.checkpoints)
    if first:
        step_metrics.cut(run.metrics_file, done)
    torch.distributed.barrier()
    for step in range(done, plan.steps):
        start = time.perf_counter()
        loss, stop, norm = _step(engine, examples, plan, step, stop_request)
        metrics = step_metrics.compute(examples, plan, step, loss, norm, time.perf_counter() - start)
        if first:
            step_metrics.append(run.metrics_file, metrics)
        _check(divergence.problem(loss, norm, recipe.train), examples, plan, step, loss, norm)
        if first:
            report(metrics)
        done = step + 1
        last = done == plan.steps
        export = not last and done % (recipe.train.export_every or plan.steps) == 0
        checkpoint = stop or last or done % recipe.train.checkpoint_every == 0
        if export or checkpoint:
            _check_result(engine, examples, plan, step)
        # Before the checkpoint: a run that is killed between the two does this step, and so the export, again.
        if export:
            _export(run, engine, tokenizer, done, run.exports / f"step-{done}")
        if checkpoint:
            engines.save_checkpoint(engine, run.checkpoints, done)
        if stop and not last:
            return "interrupted"
    _export(run, engine, tokenizer, plan.steps, run.model)
    return "finished"


def _export(run: Run, engine: DeepSpeedEngine, tokenizer: Tokenizer, step: int, folder: Path) -> None:
    """Write the student as it is after `step` steps as a model folder. A collective."""
    import torch

    weights = engines.gather_weights(engine)
    if torch.distributed.get_rank() == 0:
        student_model.save(engine.module, weights, tokenizer, folder, {"run": run.folder.name, "step": step})
    torch.distributed.barrier()


def _check_result(engine: DeepSpeedEngine, examples: EncodedExamples, plan: Plan, step: int) -> None:
    """Raise Diverged where `step` (from 0) has left a model that must not be kept. A collective.

    The loss of the step was that of the weights before it, so the loss of the same batch is computed again.
    """
    loss = _loss(engine, examples, plan, step)
    problem = divergence.problem(loss, None, plan.train) or divergence.problem_with_weights(
        engines.largest_weight(engine)
    )
    _check(problem and f"after the step {problem}", examples, plan, step, loss, None)


def _check(
    problem: str | None, examples: EncodedExamples, plan: Plan, step: int, loss: float, norm: float | None
) -> None:
    """Raise Diverged where there is a problem with what `step` (from 0) gave or left."""
    if problem is None:
        return
    raise divergence.Diverged(
        divergence.DivergenceReport(
            what=problem,
            step=step + 1,
            loss=divergence.finite(loss),
            grad_norm=divergence.finite(norm),
            lr=plan.learning_rate(step),
            records=examples.records[examples_of(plan, step)].tolist(),
            exceeded=math.isfinite(loss) and loss > plan.train.max_loss,
        )
    )


def _step(
    engine: DeepSpeedEngine, examples: EncodedExamples, plan: Plan, step: int, stop_request: StopRequest
) -> tuple[float, bool, float | None]:
    """One optimizer step; returns the loss (nats a trained token), whether any process is to stop, the gradient norm."""
    import torch

    total = _trained_tokens(examples, plan, step)
    for group in engine.optimizer.param_groups:
        group["lr"] = plan.learning_rate(step)
    summed = torch.zeros((), device=engine.device)
    for ids, labels in _micro_batches(engine, examples, plan, step):
        loss = engines.summed_loss(engine, ids, labels)
        summed += loss.detach()
        # DeepSpeed divides by the accumulation and averages over the processes: both are undone here.
        engine.backward(loss * (plan.train.processes * plan.train.accumulation / total))
        engine.step()
    sums = torch.stack([summed, torch.tensor(float(bool(stop_request)), device=engine.device)])
    torch.distributed.all_reduce(sums)
    return float(sums[0]) / total, bool(sums[1] > 0), engines.grad_norm(engine)


def _loss(engine: DeepSpeedEngine, examples: EncodedExamples, plan: Plan, step: int) -> float:
    """The loss of the batch of `step` (nats a trained token) with the weights as they are now. A collective."""
    import torch

    summed = torch.zeros((), device=engine.device)
    engine.eval()
    with torch.no_grad():
        for ids, labels in _micro_batches(engine, examples, plan, step):
            summed += engines.summed_loss(engine, ids, labels)
    engine.train()
    torch.distributed.all_reduce(summed)
    return float(summed) / _trained_tokens(examples, plan, step)


def _trained_tokens(examples: EncodedExamples, plan: Plan, step: int) -> int:
    return int(examples.trained[examples_of(plan, step)].sum())


def _micro_batches(
    engine: DeepSpeedEngine, examples: EncodedExamples, plan: Plan, step: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Ids and labels of each micro batch of a step that this process computes."""
    import torch

    for accumulated in range(plan.train.accumulation):
        numbers = plan.micro_batch(step, accumulated, torch.distributed.get_rank())
        yield collate(examples, numbers, engine.device)


def collate(examples: EncodedExamples, numbers: np.ndarray, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and labels of some examples, each int64 [sequences, longest], padded on the right by 0 and -100.

    Labels are -100 on the prompt. An EMPTY number gives a sequence of padding, so that every process runs the same
    collectives.
    """
    import torch

    sequences = [examples.example(number) if number != EMPTY else np.zeros(1, np.int32) for number in numbers]
    longest = max(2, max(map(len, sequences)))
    ids = torch.zeros((len(numbers), longest), dtype=torch.long)
    labels = torch.full((len(numbers), longest), -100, dtype=torch.long)
    for index, (number, sequence) in enumerate(zip(numbers, sequences, strict=True)):
        tokens = torch.from_numpy(sequence.astype(np.int64))
        ids[index, : len(tokens)] = tokens
        if number != EMPTY:
            start = examples.prompt_lengths[number]
            labels[index, start : len(tokens)] = tokens[start:]
    return ids.to(device), labels.to(device)
