"""What people see: one console on standard output, one for progress on standard error, and the bars on them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console

# What is printed holds names of files and texts of models: brackets and colons in them are no markup and no emoji.
console = Console(soft_wrap=True, markup=False, emoji=False, highlight=False)
progress_console = Console(stderr=True, soft_wrap=True, markup=False, emoji=False, highlight=False)


@contextmanager
def counting(what: str) -> Iterator[Callable[[int, int], None]]:
    """Yield `report(done, total)`, drawn as a bar on a terminal and as nothing elsewhere."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    with Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=progress_console,
        transient=True,
        disable=not progress_console.is_terminal,
    ) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


class EvaluationDisplay:
    """The progress of an evaluation: a bar a task on a terminal, a line a task elsewhere; on standard error.

    The bar counts tokens that must be computed, not requests, so that what is left is a fair part of the time; behind it
    stands of how many tokens sent one is computed.
    """

    def __init__(self):
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._progress = Progress(
            TextColumn("{task.description:<25}"),
            BarColumn(bar_width=10),
            TimeRemainingColumn(elapsed_when_finished=True),
            TextColumn("{task.fields[left]}"),
            TextColumn("{task.fields[saving]}", style="dim"),
            console=progress_console,
            disable=not progress_console.is_terminal,
        )
        self._bar = None
        self._protocol = self._unit = self._saving = ""
        self._started = 0.0

    def __enter__(self) -> EvaluationDisplay:
        self._progress.start()
        return self

    def __exit__(self, *_) -> None:
        self._progress.stop()

    def say(self, line: str) -> None:
        progress_console.print(line)

    def begin(self, task, protocol: str) -> None:
        self._bar = self._progress.add_task(f"{protocol} {task.title}", total=None, left="", saving="")
        self._protocol, self._saving = protocol, ""
        self._started = time.monotonic()

    def plan(self, unit: str, total: int, sent: int) -> None:
        self._unit = unit
        if unit == "tokens" and total:
            self._saving = f"{total:,} tokens computed of {sent:,}"
        self._progress.update(self._bar, saving=f"1 in {sent / total:.1f}" if self._saving else "")
        self._progress.reset(self._bar, start=True, total=total)
        self.advance(0)

    def advance(self, count: int) -> None:
        self._progress.advance(self._bar, count)
        bar = self._progress.tasks[self._bar]
        rate = f", {_short(bar.speed)}/s" if bar.speed else ""
        self._progress.update(self._bar, left=f"{_short(bar.total - bar.completed)} {self._unit}{rate}")

    def end(self, task, summary: dict) -> None:
        bar = self._progress.tasks[self._bar]
        self._progress.update(self._bar, completed=bar.total, left="")
        if progress_console.is_terminal:
            return
        seconds = time.monotonic() - self._started
        error = "" if summary["stderr"] is None else f" ± {100 * summary['stderr']:.2f}"
        value = f"{100 * summary['value']:.2f}{error}"
        saving = f" ({self._saving})" if self._saving else ""
        self.say(
            f"{self._protocol} {task.title}: {summary['metric']} {value}, {summary['n']} questions, {seconds:.0f} s{saving}"
        )


def _short(count: float) -> str:
    """A count in three digits: 950, 12.3k, 4.56M."""
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g}{unit}"
    return f"{count:.0f}"


def show_memory(memory, processes: int, stage: int) -> None:
    """A table of the estimated memory of each process."""
    from rich.table import Table

    table = Table(title=f"memory a process, ZeRO-{stage}, GiB (estimate)", title_justify="left")
    for heading in ("rank", "model states", "activations", "logits", "total"):
        table.add_column(heading, justify="right")
    row = [f"{gib:.2f}" for gib in (memory.states, memory.activations, memory.logits, memory.total)]
    table.add_row("0" if processes == 1 else f"0–{processes - 1}, each", *row)
    console.print(table)
