"""What a person sees of an evaluation while it runs: what there is to compute, what is left, and when it will end."""

from __future__ import annotations

import threading
import time

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from orca_bench.cli.console import progress_console
from orca_bench.evaluate.answers.portions import SCORES, Call
from orca_bench.evaluate.answers.workload import Clock, Workload


class EvaluationDisplay:
    """The progress of an evaluation, on standard error: bars on a terminal, elsewhere a line a task and one every half minute.

    A bar counts tokens that must be computed, not requests, so that what is left is a fair part of the time; behind it
    stands of how many tokens sent one is computed. After a minute of work it is also said when all tasks will be done.
    """

    def __init__(self, every_s: float = 30, after_s: float = 60):
        self._progress = Progress(
            TextColumn("{task.description:<25}"),
            BarColumn(bar_width=10),
            TimeRemainingColumn(elapsed_when_finished=True),
            TextColumn("{task.fields[left]}"),
            TextColumn("{task.fields[saving]}", style="dim"),
            console=progress_console,
            disable=not progress_console.is_terminal,
        )
        self._every_s, self._after_s = every_s, after_s
        self._closed = threading.Event()
        self._bar = self._counting = self._clock = None
        self._protocol = self._title = self._unit = self._kind = self._saving = ""
        self._each = 1.0  # tokens a unit
        self._left = 0.0  # units of the task
        self._started = 0.0

    def __enter__(self) -> EvaluationDisplay:
        self._progress.start()
        threading.Thread(target=self._tell_the_time, daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self._closed.set()
        self._progress.stop()

    def message(self, line: str) -> None:
        progress_console.print(line)

    def count(self, task, protocol: str) -> None:
        self._protocol, self._title = protocol, task.title
        if self._counting is None:
            self._counting = self._progress.add_task("", total=None, left="", saving="")
        self._progress.update(self._counting, description=f"counting {task.title}", left=f"as {protocol} asks it")

    def expect(self, workload: Workload) -> None:
        if self._counting is not None:
            self._progress.update(self._counting, visible=False)
        self._clock = Clock(workload)
        self.message(workload.sentence())

    def begin(self, task, protocol: str) -> None:
        self._bar = self._progress.add_task(f"{protocol} {task.title}", total=None, left="", saving="")
        self._protocol, self._title, self._saving = protocol, task.title, ""
        self._started = time.monotonic()

    def plan(self, call: Call) -> None:
        self._kind = call.kind
        scored = call.kind == SCORES
        self._unit, total = ("tokens", call.tokens) if scored else ("texts", call.count)
        self._each, self._left = call.tokens / total if total else 0, total
        if scored and total:
            self._saving = f"{total:,} tokens computed of {call.fed_tokens:,}"
        self._progress.update(self._bar, saving=f"1 in {call.fed_tokens / total:.1f}" if self._saving else "")
        self._progress.reset(self._bar, start=True, total=total)
        self._clock.begin(call.kind, call.tokens, counted=self._protocol not in self._clock.uncounted)
        self._advance(0)

    def advance(self, count: int) -> None:
        self._clock.advance(self._kind, count * self._each)
        self._advance(count)

    def skip(self, count: int) -> None:
        self._clock.skip(self._kind, count * self._each)
        self._advance(count)

    def _advance(self, count: int) -> None:
        self._left -= count
        self._progress.advance(self._bar, count)
        bar = self._progress.tasks[self._bar]
        rate = f", {_short(bar.speed)}/s" if bar.speed else ""
        self._progress.update(self._bar, left=f"{_short(max(0, self._left))} {self._unit}{rate}{self._end(', all ')}")

    def _end(self, before: str) -> str:
        """When all tasks will be done, once enough was computed to tell."""
        line = self._clock.sentence() if self._clock.worked >= self._after_s else None
        return before + line if line else ""

    def _tell_the_time(self) -> None:
        """In a thread: a line every half minute where there is no terminal, also while one step takes longer."""
        while not self._closed.wait(self._every_s):
            if self._clock is None and self._title and not progress_console.is_terminal:
                self.message(f"counting tokens: {self._title} as {self._protocol} asks it")
            if self._clock is not None and self._bar is not None and not progress_console.is_terminal:
                left = f"{_short(max(0, self._left))} {self._unit} left"
                rate = f", {_short(self._clock.done / self._clock.worked)} tokens/s" if self._clock.worked else ""
                self.message(f"{self._protocol} {self._title}: {left}{rate}{self._end('; all tasks: ')}")

    def end(self, task, summary: dict) -> None:
        bar = self._progress.tasks[self._bar]
        self._progress.update(self._bar, completed=bar.total, left="")
        self._bar = None
        if progress_console.is_terminal:
            return
        seconds = time.monotonic() - self._started
        error = "" if summary["stderr"] is None else f" ± {100 * summary['stderr']:.2f}"
        value = f"{100 * summary['value']:.2f}{error}"
        saving = f" ({self._saving})" if self._saving else ""
        self.message(
            f"{self._protocol} {task.title}: {summary['metric']} {value}, {summary['n']} questions, {seconds:.0f} s{saving}"
        )


def _short(count: float) -> str:
    """A count in three digits: 950, 12.3k, 4.56M."""
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g}{unit}"
    return f"{count:.0f}"
