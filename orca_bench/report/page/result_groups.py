"""Results in, groups of results that may be ranked together out: those of one suite under one protocol.

Its own module because numbers of different suites or protocols are numbers of different kinds: the page has a section, a
table and pictures for each group.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from orca_bench.report.model_colors import ModelStyle, result_styles
from orca_bench.report.pictures.parts import Part, StyledResult
from orca_bench.report.pictures.text_layout import isolate
from orca_bench.report.result_groups import relabel_groups
from orca_bench.results.reading import ResultFile

#: Up to so many results stand side by side, in the order in which they were given.
FEW_RESULTS = 4
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
    """The results parted by suite and protocol, groups in the order of their first result.

    Within a group each is headed by what tells it from the others there, and many stand in the order of their means.
    """
    groups: list[ResultGroup] = []
    for index, (result_file, style) in enumerate(zip(results, result_styles(results), strict=True)):
        group = next((group for group in groups if _belongs(result_file, group)), None)
        if group is None:
            group = ResultGroup(result_file.result.suite.name, result_file.result.protocol.name_and_version)
            groups.append(group)
        group.results.append(result_file)
        group.styles.append(style)
        group.indices.append(index)
    return [_ordered_group(group) for group in groups]


def page_labels(groups: Sequence[ResultGroup], results: Sequence[ResultFile]) -> list[str]:
    """A heading for each result that tells it from all others of the page, groups after one another.

    `results` have headings that do, in case those made here do not.
    """
    group_labels = [result_file.label for group in groups for result_file in group.results]
    if len(set(group_labels)) == len(group_labels):
        return group_labels
    has_several_suites = len({group.suite_name for group in groups}) > 1
    labels = [
        ", ".join([result_file.label, group.protocol_name, *([group.suite_name] if has_several_suites else [])])
        for group in groups
        for result_file in group.results
    ]
    if len(set(labels)) == len(labels):
        return labels
    return [results[index].label for group in groups for index in group.indices]


def _ordered_group(group: ResultGroup) -> ResultGroup:
    [results] = relabel_groups([group.results])
    order = list(range(len(results)))
    if len(results) > FEW_RESULTS:
        order.sort(key=lambda index: -mean_value(results[index]))
    return replace(
        group,
        results=[results[index] for index in order],
        styles=[group.styles[index] for index in order],
        indices=[group.indices[index] for index in order],
    )


def _belongs(result_file: ResultFile, group: ResultGroup) -> bool:
    result, other_result = result_file.result, group.results[0].result
    task_names = set(result.tasks) & set(other_result.tasks)
    differing_keys = set(result.protocol.differing_keys(other_result.protocol, task_names)) - _KEYS_OF_THE_MODEL
    return result.suite.name == group.suite_name and not differing_keys
