"""What an evaluation reports while it runs: the interface of a display, and a display that shows nothing.

Its own module because the model class reports to it, and the command line implements it, without knowing each other.
"""

from __future__ import annotations

from typing import Protocol as Interface

from orca_bench.evaluate.answers.portions import Call
from orca_bench.evaluate.answers.workload import Workload
from orca_bench.evaluate.tasks.task import Task
from orca_bench.results.task_results import TaskResult


class Titled(Interface):
    """What is evaluated and shown by a title: a task of the suite, or an entry of lm-eval's."""

    @property
    def title(self) -> str:
        """What it is called."""


class AnswerProgress(Interface):
    """What is reported of one task while its answers are computed."""

    def plan(self, call: Call) -> None:
        """These requests are computed now."""

    def advance(self, count: int) -> None:
        """So many tokens (of log-likelihoods) or texts were just computed."""

    def skip(self, count: int) -> None:
        """So many were computed by an earlier run."""


class Display(AnswerProgress, Interface):
    """What is reported of a whole evaluation."""

    def message(self, line: str) -> None:
        """A line for the person."""

    def count(self, task: Task, protocol: str) -> None:
        """The requests of a task are being counted."""

    def expect(self, workload: Workload) -> None:
        """So much is to be computed in all."""

    def begin(self, task: Titled, protocol: str) -> None:
        """A task begins."""

    def end(self, task: Titled, entry: TaskResult) -> None:
        """A task is done; `entry` is its entry in the result."""


class SilentDisplay:
    """A display that shows nothing."""

    def message(self, line: str) -> None:
        """Ignore the event."""

    def count(self, task: Task, protocol: str) -> None:
        """Ignore the event."""

    def expect(self, workload: Workload) -> None:
        """Ignore the event."""

    def begin(self, task: Titled, protocol: str) -> None:
        """Ignore the event."""

    def plan(self, call: Call) -> None:
        """Ignore the event."""

    def advance(self, count: int) -> None:
        """Ignore the event."""

    def skip(self, count: int) -> None:
        """Ignore the event."""

    def end(self, task: Titled, entry: TaskResult) -> None:
        """Ignore the event."""
