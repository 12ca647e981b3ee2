"""Result files in, one short line about each out: protocol, limit, how far it is, and its scores.

Its own module because a list of results needs less than a table of scores, and must not fail where one cannot be read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from orca_bench.counts import counted
from orca_bench.errors import UserError
from orca_bench.results import reading
from orca_bench.results.models import Result
from orca_bench.results.task_facts import display_factor, tasks_of
from orca_bench.results.task_results import Average, TaskResult
from orca_bench.suite import AVERAGE_TITLE_BY_NAME, TASK_NAMES_BY_AVERAGE

_MAX_SCORES_IN_TEXT = 3


@dataclass(frozen=True)
class ShortScore:
    """A score in percent, or in the unit of a task that has one, with its standard error and 95 % interval.

    None: not known. `title` names the task or mean in short.
    """

    title: str
    value: float
    stderr: float | None
    interval: tuple[float, float] | None

    def __str__(self) -> str:
        text = f"{self.title} {self.value:.2f}"
        if self.stderr:
            return f"{text} ± {self.stderr:.2f}"
        # A score without spread has an interval all the same.
        return text if self.interval is None else f"{text} [{self.interval[0]:.1f}, {self.interval[1]:.1f}]"


@dataclass(frozen=True)
class ResultSummary:
    """One result file; `result` is None and `error` says why where it cannot be read."""

    path: Path
    result: Result | None
    error: str | None = None

    @property
    def mean(self) -> ShortScore | None:
        """The first average of the suite that the result has."""
        if self.result is None:
            return None
        for name in AVERAGE_TITLE_BY_NAME:
            average = self.result.averages.get(name)
            if average is not None and average.value is not None:
                title = f"mean of {len(TASK_NAMES_BY_AVERAGE[name])} tasks"
                return _short_score(title, average)
        return None

    @property
    def task_scores(self) -> list[ShortScore]:
        """The scores of the tasks, those of the suite in its order."""
        tasks = {} if self.result is None else self.result.tasks
        return [
            _short_score(facts.column_headings[1], tasks[facts.name], display_factor(facts))
            for facts in tasks_of([] if self.result is None else [self.result])
        ]

    @property
    def scores_text(self) -> str:
        """The mean, else the scores of up to three tasks, and how far an unfinished evaluation is."""
        if self.result is None:
            return f"cannot be read: {self.error}"
        scores = [self.mean] if self.mean is not None else self.task_scores
        texts = [str(score) for score in scores[:_MAX_SCORES_IN_TEXT]]
        if more_count := len(scores) - len(texts):
            texts.append(f"{more_count} more")
        return ", ".join([*texts, *self._progress_texts]) or "no task finished"

    @property
    def mean_text(self) -> str:
        """The mean, else of how many tasks there are scores, and how far an unfinished evaluation is."""
        if self.result is None or self.mean is not None or not self.task_scores:
            return self.scores_text
        task_count = len(self.task_scores)
        return ", ".join([counted(task_count, "task"), *self._progress_texts])

    @property
    def _progress_texts(self) -> list[str]:
        """How far an unfinished evaluation is; nothing of a finished one."""
        if self.result is None or not (missing_count := len(self.result.missing_task_names)):
            return []
        return [f"unfinished, {missing_count} of {len(self.result.order or [])} tasks to come"]

    @property
    def limit_text(self) -> str:
        """Which questions were asked: all, or the first N of each task; nothing where the result cannot be read."""
        if self.result is None:
            return ""
        return self.result.question_limit.phrase or "all questions"


def summarize_results(paths: Sequence[Path]) -> list[ResultSummary]:
    """A summary of each result file, in the order of the paths; none fails."""
    return [_summarize_result(path) for path in paths]


def has_unfinished_result(folder: Path) -> bool:
    """Whether a folder has a result with tasks to come or one that cannot be read, or no result at all."""
    summaries = summarize_results([path for path in folder.glob("*.json") if reading.is_result_file(path)])
    return not summaries or any(summary.result is None or not summary.result.complete for summary in summaries)


def _summarize_result(path: Path) -> ResultSummary:
    try:
        return ResultSummary(path, reading.read_result(path))
    except UserError as error:
        return ResultSummary(path, None, error.problem)


def _short_score(title: str, entry: TaskResult | Average, factor: float = 100.0) -> ShortScore:
    """The score of an entry that has a value, multiplied with `factor`."""
    assert entry.value is not None
    interval = None if entry.interval is None else (factor * entry.interval[0], factor * entry.interval[1])
    return ShortScore(title, factor * entry.value, None if entry.stderr is None else factor * entry.stderr, interval)
