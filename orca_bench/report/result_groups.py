"""Results in, groups of results out that may stand in one ranking: those of one suite whose protocols say the same.

Scores of different suites or protocols are numbers of different kinds. What a protocol says counts, not its name: two results
of one name and version may have other system messages. Its own module because tables, sentences, pictures and pages part results
in the same way and name the parts alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from orca_bench.report.grid import display_text, printable_text
from orca_bench.report.result_selection import result_labels
from orca_bench.results.models import Result
from orca_bench.results.protocol_description import ProtocolDescription
from orca_bench.results.reading import ResultFile
from orca_bench.results.task_results import HarnessTaskResult, TaskResult
from orca_bench.suite import AVERAGE_TITLE_BY_NAME, TASK_BY_NAME, TASK_NAMES_BY_AVERAGE
from orca_bench.system_messages import system_id_of

#: The words for the keys of a protocol's description, of those that have others.
SETTING_NAMES = {
    "system": "system message",
    "few_shot": "few-shot examples in",
    "template_sha256": "chat template",
    "template_system": "chat template's own system message",
    "template_date": "chat template's date",
    "max_length": "window",
    "max_new_tokens": "most new tokens",
}

#: The model's own window is no difference of protocols: two models of one leaderboard may have two windows.
_KEYS_OF_THE_MODEL = frozenset({"max_length"})
_KEYS_OF_THE_TITLE = frozenset({"name", "version"})
_MAX_DETAIL_LENGTH, _SHOWN_HASH_LENGTH = 40, 8  # characters


def group_by_setting(result_files: Sequence[ResultFile]) -> list[list[ResultFile]]:
    """The results by suite and protocol, in the order of the first of each; those of comparable suites first."""
    return [[result_files[index] for index in indices] for indices in setting_indices(result_files)]


def setting_indices(result_files: Sequence[ResultFile]) -> list[list[int]]:
    """The groups of `group_by_setting` as indices of `result_files`."""
    groups: list[list[int]] = []
    for index, result_file in enumerate(result_files):
        group = next((group for group in groups if _is_one_setting(result_files[group[0]], result_file)), None)
        if group is None:
            groups.append([index])
        else:
            group.append(index)
    return sorted(groups, key=lambda group: not result_files[group[0]].result.suite.comparable)


def protocol_titles(protocols: Sequence[ProtocolDescription], with_versions: bool = False) -> list[str]:
    """A title for each protocol that tells it from the others: its name, its version where names are the same, then what differs.

    `with_versions` gives every title its version.
    """
    return [_protocol_title(protocol, protocols, with_versions) for protocol in protocols]


def group_protocol_titles(groups: Sequence[Sequence[ResultFile]], with_versions: bool = False) -> list[str]:
    """The titles of the protocols of some groups, as `protocol_titles` gives them."""
    return protocol_titles([group[0].result.protocol for group in groups], with_versions)


def mean_value(result_file: ResultFile) -> float:
    """The mean over the tasks that there are, by which results are ranked; a fraction of 1, -1 for none."""
    values = [entry.value for entry in _ranking_entries(result_file.result)]
    return math.fsum(values) / len(values) if values else -1.0


def _ranking_entries(result: Result) -> list[TaskResult]:
    """The tasks whose values have a mean: those of the suite, else those in percent of which more is better."""
    suite_entries = [result.tasks[name] for name in TASK_BY_NAME if name in result.tasks]
    return suite_entries or [
        entry
        for entry in result.tasks.values()
        if isinstance(entry, HarnessTaskResult) and entry.higher_is_better and not entry.unit
    ]


def lower_and_higher(result_files: Sequence[ResultFile]) -> tuple[ResultFile, ResultFile]:
    """Of two results that with the lower mean first: it is the base of their comparison in sentences, tables and pictures."""
    lower, higher = sorted(result_files, key=mean_value)
    return lower, higher


def ranking_title(result: Result) -> str:
    """What `mean_value` is of a result, for a sentence: `mean of all seven`, `mean without DROP`, or that of its tasks."""
    task_names = {name for name in result.tasks if name in TASK_BY_NAME}
    for name, title in AVERAGE_TITLE_BY_NAME.items():
        if task_names == set(TASK_NAMES_BY_AVERAGE[name]):
            return title[0].lower() + title[1:]
    titles = [entry.title for entry in _ranking_entries(result)]
    return f"score on {titles[0]}" if len(titles) == 1 else f"mean of {len(titles)} tasks"


def limit_text(result_files: Sequence[ResultFile]) -> str:
    """How many questions the results have at most, as `first 10 questions of each task`; empty where none has a limit."""
    limits = sorted({file.result.question_limit for file in result_files}, key=lambda limit: limit.sort_key)
    if len(limits) == 1 or not any(limits):
        return str(limits[0])
    if any(limit.count_by_task for limit in limits):
        return "; or ".join(str(limit) if limit else "all questions" for limit in limits)
    texts = ["all" if limit.count is None else f"{limit.count:,}" for limit in limits]
    return f"first {', '.join(texts[:-1])} or {texts[-1]} questions of each task"


def setting_text(value: object, max_length: int) -> str:
    """A value of a protocol's description in one line of at most `max_length` characters, in closed quotes where it is a text."""
    value_text = (
        ", ".join(f"{name} {entry}" for name, entry in value.items()) if isinstance(value, dict) else str(value)
    )
    text = printable_text(" ".join(value_text.split()))
    if len(text) > max_length:
        text = f"{text[: max_length - 1].rstrip()}…"
    text = display_text(text)
    return f"'{text}'" if isinstance(value, str) else text


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


def _is_one_setting(file: ResultFile, other_file: ResultFile) -> bool:
    result, other_result = file.result, other_file.result
    task_names = set(result.tasks) & set(other_result.tasks)
    differing_keys = set(result.protocol.differing_keys(other_result.protocol, task_names)) - _KEYS_OF_THE_MODEL
    return result.suite.name == other_result.suite.name and not differing_keys


def _protocol_title(
    protocol: ProtocolDescription, protocols: Sequence[ProtocolDescription], with_versions: bool
) -> str:
    others = [other for other in protocols if other != protocol and other.name == protocol.name]
    if not others and not with_versions:
        return protocol.name
    twins = [other for other in others if other.version == protocol.version]
    json_values = protocol.to_json()
    task_names = {name for value in json_values.values() if isinstance(value, dict) for name in value}
    keys = dict.fromkeys(key for other in twins for key in protocol.differing_keys(other, task_names))
    # The window tells protocols apart only where nothing else does.
    telling_keys = [key for key in keys if key not in _KEYS_OF_THE_MODEL] or list(keys)
    details = [_detail(key, json_values.get(key)) for key in telling_keys if key not in _KEYS_OF_THE_TITLE]
    title = protocol.name_and_version
    return f"{title} ({', '.join(details)})" if details else title


def _detail(key: str, value: object) -> str:
    words = SETTING_NAMES.get(key, key)
    if value is None or value == "":
        return f"no {words}"
    if key.endswith("_sha256"):
        return f"{words} {str(value)[:_SHOWN_HASH_LENGTH]}"
    system_id = system_id_of(str(value)) if key == "system" else None
    if system_id is not None:
        return f"{words} {system_id}"
    return f"{words} {setting_text(value, _MAX_DETAIL_LENGTH)}"
