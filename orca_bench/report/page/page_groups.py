"""Results in, the groups of a page out: those of report/result_groups.py, each with its title, styles and facts.

Its own module because the page has a section, a table and pictures for each group.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from orca_bench.report.model_colors import result_styles
from orca_bench.report.pictures.parts import Part, StyledResult, has_drawable_task
from orca_bench.report.pictures.text_layout import isolate
from orca_bench.report.result_groups import (
    limit_text,
    lower_and_higher,
    mean_value,
    protocol_titles,
    relabel_groups,
    setting_indices,
)
from orca_bench.results.reading import ResultFile
from orca_bench.results.task_facts import suite_title

#: Up to so many results stand side by side, in the order in which they were given.
FEW_RESULTS = 4


@dataclass(frozen=True)
class PageGroup:
    """Results of one suite and protocol, each with its index among all results of the page."""

    suite_name: str
    protocol_name: str
    indexed_results: list[tuple[int, StyledResult]]

    @property
    def styled_results(self) -> list[StyledResult]:
        """The results with their names and styles."""
        return [styled_result for _, styled_result in self.indexed_results]

    @property
    def results(self) -> list[ResultFile]:
        """The results alone."""
        return [styled_result.result_file for styled_result in self.styled_results]

    @property
    def indices(self) -> list[int]:
        """The index of each result among all results of the page."""
        return [index for index, _ in self.indexed_results]

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
        limited_results = [result_file for result_file in self.results if result_file.result.question_limit]
        limits = {result_file.result.question_limit for result_file in self.results}
        if not limited_results or len(limits) == 1:
            return limit_text(self.results)
        if len(limited_results) > FEW_RESULTS:
            return f"{limit_text(limited_results)}, of {len(limited_results)} of the results"
        return "; ".join(f"{result_file.label}: {limit_text([result_file])}" for result_file in limited_results)

    @property
    def part(self) -> Part:
        """The group for pictures, without results that have no task of the suite.

        Of two results that with the lower mean stands first, as in the sentence of what was found.
        """
        styled_results = [
            styled_result for styled_result in self.styled_results if has_drawable_task(styled_result.result)
        ]
        if len(styled_results) == 2:
            lower, _ = lower_and_higher([styled_result.result_file for styled_result in styled_results])
            styled_results.sort(key=lambda styled_result: styled_result.result_file is not lower)
        return Part(self.suite_name, self.protocol_name, tuple(styled_results))


def group_results(results: Sequence[ResultFile]) -> list[PageGroup]:
    """The results parted by suite and protocol, as everywhere (result_groups.py).

    Within a group each is headed by what tells it from the others there, and many stand in the order of their means.
    """
    styles = result_styles(results)
    index_groups = setting_indices(results)
    titles = protocol_titles([results[indices[0]].result.protocol for indices in index_groups], with_versions=True)
    groups = relabel_groups([[results[index] for index in indices] for indices in index_groups])
    page_groups = []
    for indices, group, title in zip(index_groups, groups, titles, strict=True):
        indexed_results = [
            (index, StyledResult(result_file, isolate(result_file.label), styles[index]))
            for index, result_file in zip(indices, group, strict=True)
        ]
        if len(group) > FEW_RESULTS:
            indexed_results.sort(key=lambda indexed_result: -mean_value(indexed_result[1].result_file))
        page_groups.append(PageGroup(suite_title(group[0].result), title, indexed_results))
    return page_groups


def page_labels(groups: Sequence[PageGroup], results: Sequence[ResultFile]) -> list[str]:
    """A heading for each result that tells it from all others of the page, groups after one another.

    Where those of the groups do not, with protocol and suite either, the headings are those of `results`.
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
