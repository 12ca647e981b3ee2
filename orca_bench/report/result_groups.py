"""Results in, groups of results out that may stand in one ranking: those of one suite and one protocol.

Scores of different suites or protocols are numbers of different kinds. Its own module because tables, pages and sentences part
them in the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from orca_bench.report.result_selection import result_labels
from orca_bench.results.reading import ResultFile


def group_by_setting(result_files: Sequence[ResultFile]) -> list[list[ResultFile]]:
    """The results by suite and protocol, in the order of the first of each; those of comparable suites first."""
    groups_by_setting: dict[tuple[str, str], list[ResultFile]] = {}
    for file in result_files:
        groups_by_setting.setdefault((file.result.suite.name, file.result.protocol.name), []).append(file)
    return sorted(groups_by_setting.values(), key=lambda group: not group[0].result.suite.comparable)


def relabel_groups(groups: Sequence[Sequence[ResultFile]]) -> list[list[ResultFile]]:
    """The groups with headings that tell the results of each group apart: a heading need not say what its group says."""
    return [
        [replace(file, label=label) for file, label in zip(group, _group_labels(group), strict=True)]
        for group in groups
    ]


def _group_labels(group: Sequence[ResultFile]) -> list[str]:
    """The models' names; where one stands twice, with that part of the path in which its results differ."""
    names = [file.result.model.name for file in group]
    labels = [
        name if names.count(name) == 1 else f"{name} {_distinguishing_part(file, name, group)}".strip()
        for name, file in zip(names, group, strict=True)
    ]
    return labels if len(set(labels)) == len(labels) else result_labels([file.result for file in group])


def _distinguishing_part(file: ResultFile, name: str, group: Sequence[ResultFile]) -> str:
    """The last part of the path of a result that no other result of the model has at that place, counted from the end."""
    other_parts = [_path_parts(other) for other in group if other.result.model.name == name and other.path != file.path]
    for index, part in enumerate(_path_parts(file)):
        if all(index >= len(parts) or parts[index] != part for parts in other_parts):
            return part
    return ""


def _path_parts(file: ResultFile) -> list[str]:
    """The parts of a result's path from its end, the file's name without its ending first."""
    return [file.path.stem, *reversed(file.path.parts[:-1])]
