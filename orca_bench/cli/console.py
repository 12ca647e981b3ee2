"""What people see: one console on standard output, one for progress on standard error, and the bars of commands.

Its own module because importing it loads rich: only what prints imports it.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from orca_bench.api import DEFAULT_RUNS_FOLDER
from orca_bench.counts import ReportProgress
from orca_bench.report.grid import printable_text

# What is printed holds names of files and texts of models: brackets and colons in them are no markup and no emoji.
console = Console(soft_wrap=True, markup=False, emoji=False, highlight=False)
progress_console = Console(stderr=True, soft_wrap=True, markup=False, emoji=False, highlight=False)


def progress_message(line: str) -> None:
    """Print a line on standard error, beside the progress."""
    progress_console.print(printable_text(line))


def next_step(*words: object, runs: Path = DEFAULT_RUNS_FOLDER) -> None:
    """Print on standard error which command one would run next: `next_step("eval", "--model", folder, runs=runs)`.

    `runs` is the folder in which the words name something; where it is not the default the command gets it too.
    """
    progress_message(f"next: orca-bench {shlex.join(map(str, [*words, *runs_option(runs)]))}")


def runs_option(runs: Path) -> list[str]:
    """The words of --runs that a command needs to find what is in the folder `runs`; none where that is the default."""
    return [] if runs == DEFAULT_RUNS_FOLDER else ["--runs", str(runs)]


@contextmanager
def counting(title: str) -> Iterator[ReportProgress]:
    """Yield `report(done, total)`, a bar on a terminal, without output elsewhere; a total of None is unknown."""
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
        task = progress.add_task(title, total=None)
        yield lambda done_count, total: progress.update(task, completed=done_count, total=total)
