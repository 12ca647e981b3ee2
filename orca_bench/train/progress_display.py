"""The display of a run that trains: step, loss, learning rate, tokens per second, time left.

On a terminal one live line; elsewhere (a log, CI) a plain line every few seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from orca_bench.train.step_metrics import StepMetrics

if TYPE_CHECKING:
    from rich.console import Console

_FIRST_NUMBERS = "loss –"  # before a step is done
_LINE_INTERVAL_S = 10.0  # where there is no terminal


@contextmanager
def training_progress(run_name: str, step_count: int, steps_done: int = 0) -> Iterator[Callable[[StepMetrics], None]]:
    """Yield a function that takes each step's metrics and shows them; `run_name` is the run's.

    `steps_done` are those of the checkpoint that the run continues from, where the bar begins.
    """
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
        yield _PlainLineDisplay(console, step_count)
        return
    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[numbers]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(run_name, total=step_count, completed=steps_done, numbers=_FIRST_NUMBERS, start=True)

        def show_metrics(metrics: StepMetrics) -> None:
            progress.update(task, completed=metrics.step, numbers=_numbers_text(metrics))

        yield show_metrics


def _numbers_text(metrics: StepMetrics) -> str:
    return f"loss {metrics.loss:.4f}  lr {metrics.lr:.2e}  {metrics.tokens_per_second:,.0f} tok/s"


class _PlainLineDisplay:
    def __init__(self, console: Console, step_count: int) -> None:
        self._console, self._steps = console, step_count
        self._start_s, self._last_line_s = time.monotonic(), float("-inf")
        self._first_step: int | None = None

    def __call__(self, metrics: StepMetrics) -> None:
        now_s = time.monotonic()
        if self._first_step is None:
            self._first_step = metrics.step - 1
        if now_s - self._last_line_s < _LINE_INTERVAL_S and metrics.step < self._steps:
            return
        self._last_line_s = now_s
        remaining_s = (now_s - self._start_s) / (metrics.step - self._first_step) * (self._steps - metrics.step)
        self._console.print(
            f"step {metrics.step}/{self._steps}  {_numbers_text(metrics)}  {remaining_s:,.0f} s left",
            highlight=False,
        )
