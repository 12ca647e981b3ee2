"""The display of a run that trains: step, losses, learning rate, tokens per second, MFU, memory, time left.

On a terminal one live line, which leaves out the bar and then numbers where it is narrow; elsewhere (a log, CI) a plain line
every few seconds. Its own module because it alone needs rich, and only the first process shows something.
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
_BAR_WIDTH = 24  # characters
_MIN_WIDTH_WITH_BAR = 140  # characters of the terminal
_WIDTH_WITHOUT_NUMBERS = 28  # characters of the line besides name, bar, numbers of steps and numbers of the step


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
        yield _PlainLineDisplay(console, step_count, steps_done)
        return
    bar_columns = (BarColumn(bar_width=_BAR_WIDTH),) if console.width >= _MIN_WIDTH_WITH_BAR else ()
    columns = (
        TextColumn("[bold]{task.description}"),
        *bar_columns,
        MofNCompleteColumn(),
        TextColumn("{task.fields[numbers]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    numbers_text = _NumbersText()
    numbers_width = console.width - _WIDTH_WITHOUT_NUMBERS - len(run_name) - 2 * len(str(step_count))
    numbers_width -= _BAR_WIDTH + 1 if bar_columns else 0
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(run_name, total=step_count, completed=steps_done, numbers=_FIRST_NUMBERS, start=True)

        def show_metrics(metrics: StepMetrics) -> None:
            progress.update(task, completed=metrics.step, numbers=numbers_text(metrics, numbers_width))

        yield show_metrics


class _NumbersText:
    """The numbers of a step as one text. The held-out loss stands there until the next one is computed."""

    def __init__(self) -> None:
        self._held_out_loss: float | None = None

    def __call__(self, metrics: StepMetrics, max_width: int | None = None) -> str:
        """The text; where it is wider than `max_width` characters, the least important numbers are left out."""
        if metrics.held_out_loss is not None:
            self._held_out_loss = metrics.held_out_loss
        texts = [
            f"loss {metrics.loss:.4f}",
            "" if self._held_out_loss is None else f"held-out {self._held_out_loss:.4f}",
            f"{metrics.tokens_per_second:,.0f} tok/s",
            "" if metrics.memory_gib is None else f"{metrics.memory_gib:.1f} GiB",
            f"lr {metrics.lr:.2e}",
            "" if metrics.mfu is None else f"mfu {100 * metrics.mfu:.1f} %",
        ]
        texts = [text for text in texts if text]
        while max_width is not None and len(texts) > 1 and len("  ".join(texts)) > max_width:
            texts.pop()
        return "  ".join(texts)


class _PlainLineDisplay:
    def __init__(self, console: Console, step_count: int, steps_done: int) -> None:
        self._console, self._step_count, self._steps_done = console, step_count, steps_done
        self._numbers_text = _NumbersText()
        self._start_s, self._last_line_s = time.monotonic(), float("-inf")

    def __call__(self, metrics: StepMetrics) -> None:
        now_s, numbers = time.monotonic(), self._numbers_text(metrics)
        if now_s - self._last_line_s < _LINE_INTERVAL_S and metrics.step < self._step_count:
            return
        self._last_line_s = now_s
        seconds_per_step = (now_s - self._start_s) / (metrics.step - self._steps_done)
        remaining_s = seconds_per_step * (self._step_count - metrics.step)
        self._console.print(
            f"step {metrics.step}/{self._step_count}  {numbers}  {_duration_text(remaining_s)} left",
            highlight=False,
        )


def _duration_text(seconds: float) -> str:
    """`45 s`, `12 min` or `3 h 05 min`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02} min"
