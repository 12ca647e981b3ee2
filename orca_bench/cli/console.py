"""What people see: one console on standard output, one for progress on standard error, and the bars of commands."""

from __future__ import annotations

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


def show_memory(memory, processes: int, stage: int) -> None:
    """A table of the estimated memory of each process."""
    from rich.table import Table

    table = Table(title=f"memory a process, ZeRO-{stage}, GiB (estimate)", title_justify="left")
    for heading in ("rank", "model states", "activations", "logits", "total"):
        table.add_column(heading, justify="right")
    row = [f"{gib:.2f}" for gib in (memory.states, memory.activations, memory.logits, memory.total)]
    table.add_row("0" if processes == 1 else f"0–{processes - 1}, each", *row)
    console.print(table)
