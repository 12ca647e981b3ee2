"""The training loop: an engine and a plan in, a line of metrics a step, checkpoints and a model folder out.

Exactness: the loss of a step is the mean over *all* trained tokens of its global batch, whatever process or micro batch
they fall into. A mean of per-process means is another number wherever responses differ in length. So each process sums
its token losses and divides by the step's total, which every process computes alone from the plan.
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from orca_bench.files import writing
from orca_bench.train import engine as engines
from orca_bench.train import student
from orca_bench.train.encode import Encoded
from orca_bench.train.plan import EMPTY, Plan
from orca_bench.train.run import Run

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

    Continues from the newest checkpoint. `report` gets each step's metrics on process 0. A collective.
    """
    import torch

    first = torch.distributed.get_rank() == 0
    stopping = Stopping(run)
    done = engines.load_checkpoint(engine, run.checkpoints)
    if first:
        _cut_metrics(run, done)
    torch.distributed.barrier()
    saved = done
    for step in range(done, plan.steps):
        started = time.perf_counter()
        loss, stop, norm = _step(engine, encoded, plan, step, stopping)
        if first:
            metrics = _metrics(encoded, plan, step, loss, norm, time.perf_counter() - started)
            with writing(run.metrics_file), open(run.metrics_file, "a", encoding="utf-8") as handle:
                handle.write(json.dumps(metrics) + "\n")
            report(metrics)
        done = step + 1
        # Before the checkpoint: a run that is killed between the two does this step, and so the export, again.
        if done % (recipe.train.export_every or plan.steps) == 0 and done < plan.steps:
            _export(run, engine, tokenizer, done, run.exports / f"step-{done}")
        if stop or (done % recipe.train.checkpoint_every == 0 and done < plan.steps):
            engines.save_checkpoint(engine, run.checkpoints, done)
            saved = done
        if stop and done < plan.steps:
            return "interrupted"
    if saved < done:
        engines.save_checkpoint(engine, run.checkpoints, done)
    _export(run, engine, tokenizer, done, run.model)
    return "finished"


def _export(run: Run, engine, tokenizer, step: int, folder: Path) -> None:
    """Write the student as it is after `step` steps as a model folder. A collective."""
    import torch

    weights = engines.gather_weights(engine)
    if torch.distributed.get_rank() == 0:
        student.save(engine.module, weights, tokenizer, folder, {"run": run.folder.name, "step": step})
    torch.distributed.barrier()


def _step(engine, encoded: Encoded, plan: Plan, step: int, stopping) -> tuple[float, bool, float]:
    """One optimizer step; returns the loss (nats a trained token), whether any process is to stop, the gradient norm."""
    import torch

    process, processes = torch.distributed.get_rank(), torch.distributed.get_world_size()
    batch = plan.batch(step)
    total = int(encoded.trained[batch[batch != EMPTY]].sum())
    for group in engine.optimizer.param_groups:
        group["lr"] = plan.learning_rate(step)
    summed = torch.zeros((), device=engine.device)
    for accumulated in range(plan.train.accumulation):
        ids, labels = collate(encoded, plan.rows(step, accumulated, process), engine.device)
        loss = engines.summed_loss(engine, ids, labels)
        summed += loss.detach()
        # DeepSpeed divides by the accumulation and averages over the processes: both are undone here.
        engine.backward(loss * (processes * plan.train.accumulation / total))
        engine.step()
    told = torch.stack([summed, torch.tensor(float(bool(stopping)), device=engine.device)])
    torch.distributed.all_reduce(told)
    norm = engine.get_global_grad_norm()
    return float(told[0]) / total, bool(told[1] > 0), float(norm) if norm is not None else float("nan")


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


def _metrics(encoded: Encoded, plan: Plan, step: int, loss: float, norm: float, seconds: float) -> dict:
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


def _cut_metrics(run: Run, done: int) -> None:
    """Drop the lines of steps that were done after the checkpoint: they are done again."""
    if not run.metrics_file.is_file():
        return
    kept = []
    for line in run.metrics_file.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["step"] <= done:
                kept.append(line + "\n")
        except (json.JSONDecodeError, KeyError):
            continue  # the last line of a killed run may be half a line
    with writing(run.metrics_file):
        run.metrics_file.write_text("".join(kept), encoding="utf-8")
