"""Results in, groups of results that may be ranked together out: those of one suite under one protocol.

Its own module because numbers of different suites or protocols are numbers of different kinds: the page has a section, a
table and pictures for each group.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from orca_bench.report.model_colors import ModelStyle, result_styles
from orca_bench.report.pictures.parts import Part, StyledResult
from orca_bench.report.pictures.text_layout import isolate
from orca_bench.results.reading import ResultFile

#: The model's own window is no difference of protocols: two models of one leaderboard may have two windows.
_KEYS_OF_THE_MODEL = frozenset({"max_length"})


@dataclass(frozen=True)
class ResultGroup:
    """Results of one suite and protocol, with the style of each; `indices` are their places among all results of the page."""

    suite_name: str
    protocol_name: str
    results: list[ResultFile] = field(default_factory=list)
    styles: list[ModelStyle] = field(default_factory=list)
    indices: list[int] = field(default_factory=list)

    @property
    def question_count(self) -> int:
        """How many questions the result with most of them has."""
        return max(sum(entry.n for entry in result_file.result.tasks.values()) for result_file in self.results)

    @property
    def dates(self) -> list[str]:
        """The days on which the results were made, each once, in order."""
        return sorted({(result_file.result.created or "")[:10] for result_file in self.results} - {""})

    @property
    def limits(self) -> list[int]:
        """The limits of questions of each task, where a result has one."""
        return sorted({each.result.limit for each in self.results if each.result.limit is not None})

    @property
    def part(self) -> Part:
        """The group for pictures; of two results that with the lower mean stands first, as in the sentence of what was found."""
        styled_results = [
            StyledResult(result_file, isolate(result_file.label), style)
            for result_file, style in zip(self.results, self.styles, strict=True)
        ]
        if len(styled_results) == 2:
            styled_results.sort(key=lambda styled_result: mean_value(styled_result.result_file))
        return Part(self.suite_name, self.protocol_name, tuple(styled_results))


def mean_value(result_file: ResultFile) -> float:
    """The mean over the tasks that there are, -1 for none."""
    values = [entry.value for entry in result_file.result.tasks.values()]
    return math.fsum(values) / len(values) if values else -1.0


def group_results(results: Sequence[ResultFile]) -> list[ResultGroup]:
    """The results parted by suite and protocol, groups in the order of their first result."""
    groups: list[ResultGroup] = []
    for index, (result_file, style) in enumerate(zip(results, result_styles(results), strict=True)):
        group = next((group for group in groups if _belongs(result_file, group)), None)
        if group is None:
            group = ResultGroup(result_file.result.suite.name, result_file.result.protocol.name_and_version)
            groups.append(group)
        group.results.append(result_file)
        group.styles.append(style)
        group.indices.append(index)
    return groups


def _belongs(result_file: ResultFile, group: ResultGroup) -> bool:
    result, other_result = result_file.result, group.results[0].result
    task_names = set(result.tasks) & set(other_result.tasks)
    differing_keys = set(result.protocol.differing_keys(other_result.protocol, task_names)) - _KEYS_OF_THE_MODEL
    return result.suite.name == group.suite_name and not differing_keys
