"""The training loop: an engine and a plan in, a line of metrics a step, checkpoints and a model folder out.

Exactness: the loss of a step is the mean over *all* trained tokens of its global batch, whatever process or micro batch
they fall into. A mean of per-process means is another number wherever responses differ in length. So each process sums
its token losses and divides by the step's total, which every process computes alone from the plan.
"""

from __future__ import annotations

import json
import math
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from orca_bench.files import write_text, writing
from orca_bench.train import deepspeed_engine as engines
from orca_bench.train import divergence, student_model
from orca_bench.train.batch_plan import EMPTY, Plan
from orca_bench.train.example_encoding import Encoded
from orca_bench.train.run_folder import Run

Report = Callable[[dict], None]


class Stopping:
    """Whether somebody asked the run to stop: by a signal to this process, or by the run's stop file."""

    def __init__(self, run: Run):
        self._run, self._signalled = run, False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._receive)

    def _receive(self, *_) -> None:
        self._signalled = True

    def __bool__(self) -> bool:
        return self._signalled or self._run.stop_file.exists()


def train(run: Run, recipe, engine, encoded: Encoded, plan: Plan, tokenizer, report: Report) -> str:
    """Train to the end of the plan or until asked to stop; returns `finished` or `interrupted`.

    Continues from the newest checkpoint. `report` gets each step's metrics on process 0. Raises Diverged, on every process,
    where a step's numbers are none, and then writes neither checkpoint nor model. A collective.
    """
    import torch

    first = torch.distributed.get_rank() == 0
    stopping = Stopping(run)
    done = engines.load_checkpoint(engine, run.checkpoints)
    if first:
        _cut_metrics(run, done)
    torch.distributed.barrier()
    for step in range(done, plan.steps):
        started = time.perf_counter()
        loss, stop, norm = _step(engine, encoded, plan, step, stopping)
        metrics = _metrics(encoded, plan, step, loss, norm, time.perf_counter() - started)
        if first:
            _append(run.metrics_file, metrics)
        _check(divergence.problem(loss, norm, recipe.train), encoded, plan, step, loss, norm)
        if first:
            report(metrics)
        done = step + 1
        last = done == plan.steps
        export = not last and done % (recipe.train.export_every or plan.steps) == 0
        checkpoint = stop or last or done % recipe.train.checkpoint_every == 0
        if export or checkpoint:
            _check_result(engine, encoded, plan, step)
        # Before the checkpoint: a run that is killed between the two does this step, and so the export, again.
        if export:
            _export(run, engine, tokenizer, done, run.exports / f"step-{done}")
        if checkpoint:
            engines.save_checkpoint(engine, run.checkpoints, done)
        if stop and not last:
            return "interrupted"
    _export(run, engine, tokenizer, plan.steps, run.model)
    return "finished"


def _export(run: Run, engine, tokenizer, step: int, folder: Path) -> None:
    """Write the student as it is after `step` steps as a model folder. A collective."""
    import torch

    weights = engines.gather_weights(engine)
    if torch.distributed.get_rank() == 0:
        student_model.save(engine.module, weights, tokenizer, folder, {"run": run.folder.name, "step": step})
    torch.distributed.barrier()


def _check_result(engine, encoded: Encoded, plan: Plan, step: int) -> None:
    """Raise Diverged where `step` (from 0) has left a model that must not be kept. A collective.

    The loss of the step was that of the weights before it, so the loss of the same batch is computed again.
    """
    loss = _loss(engine, encoded, plan, step)
    problem = divergence.problem(loss, None, plan.train) or divergence.problem_with_weights(
        engines.largest_weight(engine)
    )
    _check(problem and f"after the step {problem}", encoded, plan, step, loss, None)


def _check(problem: str | None, encoded: Encoded, plan: Plan, step: int, loss: float, norm: float | None) -> None:
    """Raise Diverged where there is a problem with what `step` (from 0) gave or left."""
    if problem is None:
        return
    batch = plan.batch(step)
    raise divergence.Diverged(
        divergence.Report(
            what=problem,
            step=step + 1,
            loss=divergence.finite(loss),
            grad_norm=divergence.finite(norm),
            lr=plan.learning_rate(step),
            records=encoded.records[batch[batch != EMPTY]].tolist(),
            exceeded=math.isfinite(loss) and loss > plan.train.max_loss,
        )
    )


def _step(engine, encoded: Encoded, plan: Plan, step: int, stopping) -> tuple[float, bool, float | None]:
    """One optimizer step; returns the loss (nats a trained token), whether any process is to stop, the gradient norm."""
    import torch

    total = _trained_tokens(encoded, plan, step)
    for group in engine.optimizer.param_groups:
        group["lr"] = plan.learning_rate(step)
    summed = torch.zeros((), device=engine.device)
    for ids, labels in _micro_batches(engine, encoded, plan, step):
        loss = engines.summed_loss(engine, ids, labels)
        summed += loss.detach()
        # DeepSpeed divides by the accumulation and averages over the processes: both are undone here.
        engine.backward(loss * (plan.train.processes * plan.train.accumulation / total))
        engine.step()
    sums = torch.stack([summed, torch.tensor(float(bool(stopping)), device=engine.device)])
    torch.distributed.all_reduce(sums)
    return float(sums[0]) / total, bool(sums[1] > 0), engines.grad_norm(engine)


def _loss(engine, encoded: Encoded, plan: Plan, step: int) -> float:
    """The loss of the batch of `step` (nats a trained token) with the weights as they are now. A collective."""
    import torch

    summed = torch.zeros((), device=engine.device)
    engine.eval()
    with torch.no_grad():
        for ids, labels in _micro_batches(engine, encoded, plan, step):
            summed += engines.summed_loss(engine, ids, labels)
    engine.train()
    torch.distributed.all_reduce(summed)
    return float(summed) / _trained_tokens(encoded, plan, step)


def _trained_tokens(encoded: Encoded, plan: Plan, step: int) -> int:
    batch = plan.batch(step)
    return int(encoded.trained[batch[batch != EMPTY]].sum())


def _micro_batches(engine, encoded: Encoded, plan: Plan, step: int) -> Iterator[tuple]:
    """Ids and labels of each micro batch of a step that this process computes."""
    import torch

    for accumulated in range(plan.train.accumulation):
        rows = plan.rows(step, accumulated, torch.distributed.get_rank())
        yield collate(encoded, rows, engine.device)


def collate(encoded: Encoded, rows: np.ndarray, device):
    """Token ids and labels of some examples, int64 [rows, longest], padded on the right by 0 and -100.

    Labels are -100 on the prompt. An EMPTY place is a row of padding, so that every process runs the same collectives.
    """
    import torch

    examples = [encoded.example(row) if row != EMPTY else np.zeros(1, np.int32) for row in rows]
    longest = max(2, max(map(len, examples)))
    ids = torch.zeros((len(rows), longest), dtype=torch.long)
    labels = torch.full((len(rows), longest), -100, dtype=torch.long)
    for place, (row, example) in enumerate(zip(rows, examples, strict=True)):
        tokens = torch.from_numpy(example.astype(np.int64))
        ids[place, : len(tokens)] = tokens
        if row != EMPTY:
            start = encoded.prompt_lengths[row]
            labels[place, start : len(tokens)] = tokens[start:]
    return ids.to(device), labels.to(device)


def _metrics(encoded: Encoded, plan: Plan, step: int, loss: float, norm: float | None, seconds: float) -> dict:
    batch = plan.batch(step)
    batch = batch[batch != EMPTY]
    tokens = int(encoded.lengths[batch].sum())
    return {
        "step": step + 1,
        "steps": plan.steps,
        "epoch": round(plan.epoch(step), 4),
        "loss": loss,
        "lr": plan.learning_rate(step),
        "grad_norm": norm,
        "tokens": tokens,
        "trained_tokens": int(encoded.trained[batch].sum()),
        "seconds": round(seconds, 4),
        "tokens_per_second": round(tokens / seconds, 1),
    }


def _append(path: Path, metrics: dict) -> None:
    """Append one line; what is not finite is null, for JSON has no word for it."""
    values = {key: divergence.finite(value) for key, value in metrics.items()}
    with writing(path), open(path, "a", encoding="utf-8") as handle:
        handle.write(json.dumps(values, allow_nan=False) + "\n")


def _cut_metrics(run: Run, done: int) -> None:
    """Drop the lines of steps that were done after the checkpoint: they are done again."""
    if not run.metrics_file.is_file():
        return
    lines = []
    for line in run.metrics_file.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["step"] <= done:
                lines.append(line + "\n")
        except (json.JSONDecodeError, KeyError, TypeError):
            continue  # the last line of a killed run may be half a line
    write_text(run.metrics_file, "".join(lines))
