"""What a person sees of an evaluation while it runs: what there is to compute, what is left, and when it will end.

Its own module because it implements `evaluate.display.Display` with rich, which only the command line loads.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Self

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from orca_bench.cli.console import progress_console, progress_message
from orca_bench.counts import counted
from orca_bench.evaluate.answers.portions import SCORES, Call
from orca_bench.evaluate.answers.workload import CompletionClock, Workload, count_text
from orca_bench.report.grid import format_score
from orca_bench.report.overlap_text import overlap_text
from orca_bench.results.task_facts import report_scale

if TYPE_CHECKING:
    from orca_bench.evaluate.display import Titled
    from orca_bench.evaluate.tasks import Task
    from orca_bench.results.task_results import TaskResult


class EvaluationDisplay:
    """The progress of an evaluation, on standard error: bars on a terminal, else one line per task and one every minute.

    A bar counts tokens that must be computed, not requests, because time depends on tokens; beside it stands what is left. After
    `estimate_after_s` seconds of work it also shows when all tasks will be done. Without a terminal, lines come every
    `line_interval_s` seconds.
    """

    def __init__(self, line_interval_s: float = 60, estimate_after_s: float = 60):
        self._progress = Progress(
            TextColumn("{task.description:<25}"),
            BarColumn(bar_width=10),
            TimeRemainingColumn(elapsed_when_finished=True),
            TextColumn("{task.fields[left]}"),
            console=progress_console,
            disable=not progress_console.is_terminal,
        )
        self._line_interval_s, self._estimate_after_s = line_interval_s, estimate_after_s
        self._close_event = threading.Event()
        self._counting_bar: TaskID | None = None
        self._task_bar: TaskID | None = None
        self._clock: CompletionClock | None = None
        self._protocol = self._title = self._unit = self._request_kind = ""
        self._tokens_per_unit = 1.0  # a unit is a token that is scored, or a text that is generated
        self._cached_units = self._fed_token_count = 0  # of the task
        self._task_start_s = 0.0

    def __enter__(self) -> Self:
        self._progress.start()
        threading.Thread(target=self._print_lines, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._close_event.set()
        self._progress.stop()

    def message(self, line: str) -> None:
        """Print a line beside the progress."""
        progress_message(line)

    def count(self, task: Task, protocol: str) -> None:
        """The requests of a task are being counted."""
        self._protocol, self._title = protocol, task.title
        if self._counting_bar is None:
            self._counting_bar = self._progress.add_task("", total=None, left="")
        self._progress.update(self._counting_bar, description=f"counting {task.title}", left=f"as {protocol} asks it")

    def expect(self, workload: Workload) -> None:
        """Everything is counted: this is to be computed in all."""
        if self._counting_bar is not None:
            self._progress.update(self._counting_bar, visible=False)
        self._clock = CompletionClock(workload)
        self.message(workload.sentence())

    def begin(self, task: Titled, protocol: str) -> None:
        """A task begins."""
        self._task_bar = self._progress.add_task(f"{protocol} {task.title}", total=None, left="")
        self._protocol, self._title = protocol, task.title
        self._cached_units = self._fed_token_count = 0
        self._task_start_s = time.monotonic()

    def plan(self, call: Call) -> None:
        """These requests of the task are computed now."""
        bar, clock = self._bar_and_clock()
        self._request_kind = call.answer_kind
        is_scored = call.answer_kind == SCORES
        self._unit, unit_count = ("tokens", call.computed_token_count) if is_scored else ("texts", call.request_count)
        self._tokens_per_unit = call.computed_token_count / unit_count if unit_count else 0
        self._cached_units, self._fed_token_count = 0, call.fed_token_count
        self._progress.reset(bar, start=True, total=unit_count)
        clock.begin(
            call.answer_kind, call.computed_token_count, is_counted=self._protocol not in clock.uncounted_protocols
        )
        self._update_text(bar)

    def advance(self, count: int) -> None:
        """So many units were computed."""
        bar, clock = self._bar_and_clock()
        clock.advance(self._request_kind, count * self._tokens_per_unit)
        self._progress.advance(bar, count)
        self._update_text(bar)

    def skip(self, count: int) -> None:
        """So many units were computed by an earlier evaluation."""
        bar, clock = self._bar_and_clock()
        clock.skip(self._request_kind, count * self._tokens_per_unit)
        self._cached_units += count
        # As a reset, because what is advanced counts in the speed by which the bar tells its time.
        task = self._progress.tasks[bar]
        start_time_s = task.start_time
        self._progress.reset(bar, total=task.total, completed=int(task.completed) + count)
        task.start_time = start_time_s
        self._update_text(bar)

    def end(self, task: Titled, entry: TaskResult) -> None:
        """A task is done; `entry` is its entry in the result."""
        bar, _ = self._bar_and_clock()
        scale = report_scale(entry)
        score_text = format_score(
            scale * entry.value,
            None if entry.stderr is None else scale * entry.stderr,
            None if entry.interval is None else [scale * bound for bound in entry.interval],
        )
        self._progress.update(bar, completed=self._progress.tasks[bar].total, left=score_text)
        self._task_bar = None
        if progress_console.is_terminal:
            return
        duration_s = time.monotonic() - self._task_start_s
        text = overlap_text(entry)
        self.message(
            f"{self._protocol} {task.title}: {entry.metric} {score_text}, {counted(entry.n, 'question')}, {duration_s:.0f} s"
            f"{self._computed_text(self._progress.tasks[bar].total or 0)}{text and f'; {text}'}"
        )

    def _computed_text(self, total_units: float) -> str:
        """How much of the task's units was computed, in brackets; nothing where that needs no word."""
        if self._cached_units and self._cached_units >= total_units:
            return f" (0 {self._unit} computed: all answers were cached)"
        if self._unit == "texts":
            return f" ({self._cached_units:,} of {total_units:,.0f} texts were cached)" if self._cached_units else ""
        if not total_units:
            return ""
        cached_text = f", {self._cached_units:,} cached" if self._cached_units else ""
        computed_units = total_units - self._cached_units
        return f" ({computed_units:,.0f} tokens computed{cached_text}, of {self._fed_token_count:,} in all requests)"

    def _bar_and_clock(self) -> tuple[TaskID, CompletionClock]:
        """The bar of the task and the clock; an evaluation calls `expect` and `begin` first."""
        assert self._task_bar is not None and self._clock is not None
        return self._task_bar, self._clock

    def _update_text(self, bar: TaskID) -> None:
        """Write what is left beside the bar."""
        self._progress.update(bar, left=f"{self._remaining_text(bar, ' · ')}{self._end_sentence(' · all tasks: ')}")

    def _remaining_text(self, bar: TaskID, separator: str) -> str:
        """The share of the task that is done, how much of it is left, and how fast tokens have been computed so far."""
        task, clock = self._progress.tasks[bar], self._clock
        total_units, remaining_units = task.total or 0, max(0, task.remaining or 0)
        done_share = 1 - remaining_units / total_units if total_units else 0
        rate_text = ""
        if clock is not None and clock.computing_seconds:
            rate_text = f"{separator}{count_text(clock.computed_tokens / clock.computing_seconds)} tokens/s"
        return f"{100 * done_share:.0f} %{separator}{count_text(remaining_units)} {self._unit} left{rate_text}"

    def _end_sentence(self, prefix: str) -> str:
        """When all tasks will be done, after the text `prefix`; empty until enough was computed to tell."""
        if self._clock is None or self._clock.computing_seconds < self._estimate_after_s:
            return ""
        sentence = self._clock.sentence()
        return prefix + sentence if sentence else ""

    def _print_lines(self) -> None:
        """In a thread: a line every minute where there is no terminal, also while one step takes longer."""
        while not self._close_event.wait(self._line_interval_s):
            if progress_console.is_terminal:
                continue
            clock, bar = self._clock, self._task_bar
            if clock is None and not self._title:
                self.message("loading the model and the rows")
            elif clock is None:
                self.message(f"counting tokens: {self._title} as {self._protocol} asks it")
            if clock is not None and bar is not None:
                self.message(
                    f"{self._protocol} {self._title}: {self._remaining_text(bar, ', ')}"
                    f"{self._end_sentence('; all tasks: ')}"
                )
