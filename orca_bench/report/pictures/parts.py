"""Results in, groups of comparable ones out, each result with its name and style; and the numbers of a result in percent.

Results of different suites or protocols are numbers of different kinds, so no picture shows them beside each other. Its own
module because every picture starts from such a part.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from orca_bench.counts import counted
from orca_bench.report.model_colors import ModelStyle, result_styles
from orca_bench.report.pictures.text_layout import isolate
from orca_bench.report.result_groups import protocol_titles, setting_indices
from orca_bench.results.models import Result
from orca_bench.results.reading import ResultFile
from orca_bench.results.summary import score_interval
from orca_bench.results.task_facts import suite_title, tasks_of
from orca_bench.results.task_results import PartResult, TaskResult
from orca_bench.suite import TaskFacts

_MAX_NAMED_MODELS = 2  # in a title


@dataclass(frozen=True)
class StyledResult:
    """A result with the name and the style by which a picture shows it."""

    result_file: ResultFile
    name: str
    style: ModelStyle

    @property
    def result(self) -> Result:
        """The result itself."""
        return self.result_file.result


@dataclass(frozen=True)
class Part:
    """The results of one suite and protocol; `name_suffix` follows the names of its files where there are several parts."""

    suite: str
    protocol: str
    styled_results: tuple[StyledResult, ...]
    name_suffix: str = ""

    @property
    def tasks(self) -> list[TaskFacts]:
        """The tasks that at least one result has, in the suite's order, others after them; those in percent alone."""
        return [
            task for task in tasks_of(styled_result.result for styled_result in self.styled_results) if not task.unit
        ]

    @property
    def models_text(self) -> str:
        """The models for a title: up to two names, else how many there are."""
        if len(self.styled_results) > _MAX_NAMED_MODELS:
            return f"{len(self.styled_results)} models"
        return " and ".join(styled_result.name for styled_result in self.styled_results)

    def measurement_text(self, task_name: str | None = None) -> str:
        """Suite, protocol and number of questions, of one task or of all, for the line below a title."""
        return " · ".join(
            [f"suite {isolate(self.suite)}", f"protocol {isolate(self.protocol)}", self._question_text(task_name)]
        )

    def _question_text(self, task_name: str | None) -> str:
        totals = [
            sum(entry.n for name, entry in styled_result.result.tasks.items() if task_name in (None, name))
            for styled_result in self.styled_results
        ]
        text = question_range(totals)
        limits = {styled_result.result.question_limit for styled_result in self.styled_results}
        if task_name is None and any(limit.count_by_task for limit in limits):
            return f"{text}, not all of each task"
        counts = {limit.count if task_name is None else limit.of_task(task_name) for limit in limits}
        count = counts.pop() if len(counts) == 1 else None
        return text if count is None else f"{text} (at most {count:,} of a task or subject)"


@dataclass(frozen=True)
class Score:
    """A score and its 95 % interval, percent; the interval is None for a reported score."""

    value: float
    interval: tuple[float, float] | None = None

    @property
    def low(self) -> float:
        """The lower end of the interval."""
        return self.value if self.interval is None else self.interval[0]

    @property
    def high(self) -> float:
        """The upper end of the interval."""
        return self.value if self.interval is None else self.interval[1]

    @property
    def words(self) -> str:
        """The score in words, for those who do not see the picture."""
        if self.interval is None:
            return f"{self.value:.2f} percent"
        return f"{self.value:.2f} percent, 95 percent interval {self.low:.1f} to {self.high:.1f}"


def split_into_parts(result_files: Sequence[ResultFile]) -> list[Part]:
    """The results by suite and protocol, as everywhere (result_groups.py); those without a task of the suite are left out."""
    result_files = [result_file for result_file in result_files if has_drawable_task(result_file.result)]
    styles = result_styles(result_files)
    groups = [[(result_files[index], styles[index]) for index in indices] for indices in setting_indices(result_files)]
    titles = protocol_titles([group[0][0].result.protocol for group in groups], with_versions=True)
    keys = [(suite_title(group[0][0].result), title) for group, title in zip(groups, titles, strict=True)]
    return [
        Part(suite, protocol, _styled_results(group), suffix)
        for (suite, protocol), group, suffix in zip(keys, groups, _name_suffixes(keys), strict=True)
    ]


def has_drawable_task(result: Result) -> bool:
    """Whether a result has a task whose scores are percent, so that a picture can show it."""
    return any(not task.unit for task in tasks_of([result]))


def percent_score(score: TaskResult | PartResult) -> Score:
    """A task's or subject's score with its interval, percent."""
    low, high = score_interval(score)
    return Score(100 * score.value, (100 * low, 100 * high))


def question_range(counts: Sequence[int]) -> str:
    """How many questions several results have: `1 question`, `80 questions`, `80 to 120 questions`."""
    low, high = min(counts), max(counts)
    return counted(high, "question") if low == high else f"{low:,} to {counted(high, 'question')}"


def number_range(numbers: Sequence[int]) -> str:
    """The smallest and largest of some numbers: `80`, `80 to 120`."""
    low, high = min(numbers), max(numbers)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _styled_results(group: Sequence[tuple[ResultFile, ModelStyle]]) -> tuple[StyledResult, ...]:
    model_names = [result_file.result.model.name for result_file, _ in group]
    return tuple(
        StyledResult(
            result_file,
            isolate(model_name if model_names.count(model_name) == 1 else result_file.label or model_name),
            style,
        )
        for (result_file, style), model_name in zip(group, model_names, strict=True)
    )


def _name_suffixes(keys: Sequence[tuple[str, str]]) -> list[str]:
    """What tells the files of several parts apart: protocol, suite where it differs, a number where both read the same."""
    if len(keys) == 1:
        return [""]
    has_several_suites = len({suite for suite, _ in keys}) > 1
    protocols = {protocol for _, protocol in keys}
    has_versions = len({protocol.partition(" ")[0] for protocol in protocols}) < len(protocols)
    suffixes: list[str] = []
    for suite, protocol in keys:
        protocol_words = protocol if has_versions else protocol.partition(" ")[0]
        words = f"{protocol_words} {suite}" if has_several_suites else protocol_words
        suffix = "-" + (re.sub(r"[^A-Za-z0-9_.]+", "-", words).strip("-.") or "part")
        suffixes.append(suffix if suffix not in suffixes else f"{suffix}-{len(suffixes) + 1}")
    return suffixes
