"""Results in, the groups of a page out: those of report/result_groups.py, each with its title, styles and facts.

Its own module because the page has a section, a table and pictures for each group.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from orca_bench.report.model_colors import ModelStyle, result_styles
from orca_bench.report.pictures.parts import Part, StyledResult, has_suite_task
from orca_bench.report.pictures.text_layout import isolate
from orca_bench.report.result_groups import limit_text, mean_value, protocol_titles, relabel_groups, setting_indices
from orca_bench.results.reading import ResultFile

#: Up to so many results stand side by side, in the order in which they were given.
FEW_RESULTS = 4


@dataclass(frozen=True)
class PageGroup:
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
    def limit_text(self) -> str:
        """The limits of questions of each task, with the results that have them where not all do; empty without limits."""
        limited_results = [each for each in self.results if each.result.limit]
        limits = {each.result.limit for each in self.results}
        if not limited_results or len(limits) == 1:
            return limit_text(self.results)
        if len(limited_results) > FEW_RESULTS:
            return f"{limit_text(limited_results)}, of {len(limited_results)} of the results"
        return "; ".join(f"{each.label}: {limit_text([each])}" for each in limited_results)

    @property
    def part(self) -> Part:
        """The group for pictures, without results that have no task of the suite.

        Of two results that with the lower mean stands first, as in the sentence of what was found.
        """
        styled_results = [
            StyledResult(result_file, isolate(result_file.label), style)
            for result_file, style in zip(self.results, self.styles, strict=True)
            if has_suite_task(result_file.result)
        ]
        if len(styled_results) == 2:
            styled_results.sort(key=lambda styled_result: mean_value(styled_result.result_file))
        return Part(self.suite_name, self.protocol_name, tuple(styled_results))


def group_results(results: Sequence[ResultFile]) -> list[PageGroup]:
    """The results parted by suite and protocol, as everywhere (result_groups.py).

    Within a group each is headed by what tells it from the others there, and many stand in the order of their means.
    """
    styles = result_styles(results)
    index_groups = setting_indices(results)
    titles = protocol_titles([results[indices[0]].result.protocol for indices in index_groups], with_versions=True)
    return [
        _ordered_group(
            PageGroup(
                results[indices[0]].result.suite.name,
                title,
                [results[index] for index in indices],
                [styles[index] for index in indices],
                indices,
            )
        )
        for indices, title in zip(index_groups, titles, strict=True)
    ]


def page_labels(groups: Sequence[PageGroup], results: Sequence[ResultFile]) -> list[str]:
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


def _ordered_group(group: PageGroup) -> PageGroup:
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
