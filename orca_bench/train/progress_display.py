"""What a person sees while a run trains: step, loss, learning rate, tokens a second, time left.

On a terminal one live line; elsewhere (a log, CI) a plain line every few seconds.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

_LOG_EVERY = 10.0  # seconds between two lines where there is no terminal


@contextmanager
def training_progress(name: str, steps: int) -> Iterator:
    """Yield a function that takes each step's metrics and shows them."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console()
    if not console.is_terminal:
        yield _PlainLines(console, steps)
        return
    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.4f}  lr {task.fields[lr]:.2e}  {task.fields[rate]:,.0f} tok/s"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(name, total=steps, loss=float("nan"), lr=0.0, rate=0.0)

        def report(metrics: dict) -> None:
            progress.update(
                task,
                completed=metrics["step"],
                loss=metrics["loss"],
                lr=metrics["lr"],
                rate=metrics["tokens_per_second"],
            )

        yield report


class _PlainLines:
    def __init__(self, console, steps: int):
        self._console, self._steps = console, steps
        self._started, self._first, self._said = time.monotonic(), None, float("-inf")

    def __call__(self, metrics: dict) -> None:
        now = time.monotonic()
        self._first = self._first if self._first is not None else metrics["step"] - 1
        if now - self._said < _LOG_EVERY and metrics["step"] < self._steps:
            return
        self._said = now
        left = (now - self._started) / (metrics["step"] - self._first) * (self._steps - metrics["step"])
        self._console.print(
            f"step {metrics['step']}/{self._steps}  loss {metrics['loss']:.4f}  lr {metrics['lr']:.2e}  "
            f"{metrics['tokens_per_second']:,.0f} tok/s  {left:,.0f} s left",
            highlight=False,
        )
