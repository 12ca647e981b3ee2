"""What a person sees of a build while the teacher is asked: rate, outcomes, dollars, time left, the last answer.

A screen on a terminal; elsewhere a line a minute on standard error. Its own module because it implements
`data.build.building.BuildDisplay` with rich, which only the command line loads.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

from rich.console import Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from orca_bench.cli.console import counting, progress_console, progress_message
from orca_bench.counts import ReportProgress, counted, dollars_text
from orca_bench.data.build.answers import OUTCOMES
from orca_bench.evaluate.answers.workload import duration_text
from orca_bench.report.grid import display_text

if TYPE_CHECKING:
    from orca_bench.data.build.teacher import AskProgress

_RATE_WINDOW_S = 30.0
_REFRESHES_PER_SECOND = 4
_LAST_TEXT_CHARACTERS = 400


class BuildConsole:
    """The display of a build; without a terminal, a line every `line_interval_s` seconds."""

    def __init__(self, line_interval_s: float = 60.0):
        self._line_interval_s = line_interval_s

    def message(self, line: str) -> None:
        """Print one line on standard error."""
        progress_message(line)

    def counting(self, title: str) -> AbstractContextManager[ReportProgress]:
        """A block in which a bar counts requests."""
        return counting(title)

    @contextmanager
    def asking(self, progress: AskProgress, request_count: int, budget: float) -> Iterator[None]:
        """A block in which the screen shows `progress`."""
        view = BuildView(progress, request_count, budget)
        if progress_console.is_terminal:
            with Live(
                get_renderable=view.render,
                console=progress_console,
                refresh_per_second=_REFRESHES_PER_SECOND,
                transient=True,
            ):
                yield
            return
        close_event = threading.Event()
        threading.Thread(target=self._print_lines, args=(view, close_event), daemon=True).start()
        try:
            yield
        finally:
            close_event.set()

    def _print_lines(self, view: BuildView, close_event: threading.Event) -> None:
        while not close_event.wait(self._line_interval_s):
            progress_message(view.line())


class BuildView:
    """What the screen says of one `AskProgress`; the rate is that of the last half minute.

    `clock` gives seconds; only differences of it count.
    """

    def __init__(
        self, progress: AskProgress, request_count: int, budget: float, clock: Callable[[], float] = time.monotonic
    ):
        self._progress, self._request_count, self._budget = progress, request_count, budget
        self._clock = clock
        self._counts_by_time: deque[tuple[float, int]] = deque()

    @property
    def done_count(self) -> int:
        """Requests with an outcome, in this build or an earlier one."""
        return self._progress.answered_before + self._progress.answered

    def rate(self) -> float:
        """Requests per second that were answered in the last half minute."""
        now_s = self._clock()
        self._counts_by_time.append((now_s, self._progress.answered))
        while len(self._counts_by_time) > 2 and self._counts_by_time[0][0] < now_s - _RATE_WINDOW_S:
            self._counts_by_time.popleft()
        first_s, first_count = self._counts_by_time[0]
        return (self._progress.answered - first_count) / (now_s - first_s) if now_s > first_s else 0.0

    def line(self) -> str:
        """The state in one line."""
        progress = self._progress
        rate = self.rate()
        parts = [
            f"{self.done_count:,} of {self._request_count:,} requests",
            f"{rate:,.1f}/s",
            self._batch_text() or f"{progress.in_flight} of {progress.in_flight_limit} in flight",
            *(f"{count:,} {outcome}" for outcome, count in self._unusual_outcomes()),
            *self._attempt_texts(),
            self._dollars_text(),
        ]
        if rate:
            parts.append(f"{duration_text(self._remaining_count / rate)} left")
        return ", ".join(parts)

    def render(self) -> Group:
        """The screen: a bar, the numbers below it, and the last answer."""
        progress = self._progress
        rate = self.rate()
        table = Table(box=None, show_header=False, pad_edge=False)
        for label, value in (
            ("requests", f"{self.done_count:,} of {self._request_count:,}"),
            ("rate", f"{rate:,.1f}/s" + (f", {duration_text(self._remaining_count / rate)} left" if rate else "")),
            (
                ("batches", batch_text)
                if (batch_text := self._batch_text())
                else ("in flight", f"{progress.in_flight} of at most {progress.in_flight_limit}")
            ),
            ("outcomes", self._outcome_text()),
            ("spent", self._dollars_text()),
        ):
            table.add_row(label, value)
        bar = ProgressBar(total=max(self._request_count, 1), completed=self.done_count, width=60)
        return Group(bar, table, *self._last_answer())

    @property
    def _remaining_count(self) -> int:
        return max(self._request_count - self.done_count, 0)

    def _unusual_outcomes(self) -> list[tuple[str, int]]:
        counts = self._progress.requests_by_outcome
        return [(outcome, counts[outcome]) for outcome in OUTCOMES if outcome != "answered" and counts[outcome]]

    def _outcome_text(self) -> str:
        progress = self._progress
        parts = [
            f"{progress.requests_by_outcome[outcome]:,} {outcome}"
            for outcome in OUTCOMES
            if progress.requests_by_outcome[outcome]
        ]
        return ", ".join(parts + self._attempt_texts()) or "none yet"

    def _batch_text(self) -> str | None:
        """The batches, and how many requests of the open ones the server has completed; None where there are none."""
        batches = self._progress.batches
        if batches is None:
            return None
        without_text = f" ({batches.without_answers:,} without an answer)" if batches.without_answers else ""
        failed_text = f", {batches.failed_requests:,} failed" if batches.failed_requests else ""
        return (
            f"{counted(batches.collected, 'batch')} collected{without_text}, {batches.open:,} open: "
            f"{batches.completed_requests:,} of {batches.requests:,} requests completed{failed_text}"
        )

    def _attempt_texts(self) -> list[str]:
        """Attempts that gave no answer, by what became of them."""
        progress = self._progress
        texts = [f"{progress.rate_refusals:,} times too fast"] if progress.rate_refusals else []
        return texts + ([f"{progress.failed_attempts:,} failed attempts"] if progress.failed_attempts else [])

    def _dollars_text(self) -> str:
        unknown_dollars = self._progress.unknown_dollars
        unknown_text = f" (and at most {dollars_text(unknown_dollars)} of unknown attempts)" if unknown_dollars else ""
        return f"{dollars_text(self._progress.spent_dollars)} of {dollars_text(self._budget)}{unknown_text}"

    def _last_answer(self) -> list[Text]:
        request, answer = self._progress.last_request, self._progress.last_answer
        if request is None or answer is None:
            return []
        return [
            Text(""),
            Text(display_text(f"{request.row_id}: {request.instruction}"[:_LAST_TEXT_CHARACTERS]), style="bold"),
            Text(display_text((answer.text or answer.outcome)[:_LAST_TEXT_CHARACTERS])),
        ]
