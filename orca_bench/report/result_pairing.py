"""Words for results in, results that may be compared with one another out: one group for each setting that all have.

Two runs that were evaluated under several protocols are compared protocol by protocol. Its own module because `compare` and
`check` pair results alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from orca_bench.errors import UserError
from orca_bench.question_limit import QuestionLimit
from orca_bench.results import reading
from orca_bench.results.models import Result
from orca_bench.results.result_lookup import NamedResults, result_name
from orca_bench.system_messages import DEFAULT_SYSTEM_ID, SYSTEM_MESSAGES, system_id_of


@dataclass(frozen=True)
class ResultSetting:
    """What two results must have in common for one to be compared with the other: suite, protocol and limit."""

    suite_name: str
    protocol_name: str
    system: str | None
    limit: QuestionLimit

    def __str__(self) -> str:
        text = f"{self.protocol_name} on {self.suite_name}"
        if self.system not in (None, SYSTEM_MESSAGES[DEFAULT_SYSTEM_ID]):
            text += f" with system message {system_id_of(str(self.system)) or 'of its own'}"
        return f"{text}, {self.limit.phrase}" if self.limit else text


@dataclass(frozen=True)
class ResultGroup:
    """A base and the results that are compared with it, all of one setting."""

    base_path: Path
    other_paths: tuple[Path, ...]


@dataclass(frozen=True)
class Pairing:
    """The groups, in the order of the base's results, and notes on results that have no counterpart."""

    groups: list[ResultGroup]
    notes: list[str]


def pair_results(
    base: NamedResults, others: Sequence[NamedResults], runs_folder: Path, equal_settings_only: bool = False
) -> Pairing:
    """Put the results of each of `others` beside those of `base`.

    Where each word names one result, these are paired whatever they are: what reads them says what they lack to be
    compared. Else, and with `equal_settings_only`, results of one setting are paired, and a note names those without a
    counterpart. Raises UserError where the base has two results of one setting, and where nothing can be paired.
    """
    if not others:
        return Pairing([ResultGroup(path, ()) for path in base.main_paths], [])
    has_one_result_each = all(len(named_results.main_paths) == 1 for named_results in (base, *others))
    if has_one_result_each and not equal_settings_only:
        return Pairing([ResultGroup(base.main_paths[0], tuple(other.main_paths[0] for other in others))], [])
    notes: list[str] = []
    base_paths_by_setting = _paths_by_setting(base, notes)
    for setting, paths in base_paths_by_setting.items():
        if len(paths) > 1:
            names = ", ".join(result_name(path, runs_folder) for path in paths)
            raise UserError(f"{len(paths)} results of {setting}", where=base.word, hint=f"name one of {names}")
    other_paths_by_setting = [_paths_by_setting(other, notes) for other in others]
    groups = [
        ResultGroup(paths[0], tuple(path for by_setting in other_paths_by_setting for path in by_setting[setting]))
        for setting, paths in base_paths_by_setting.items()
        if all(setting in by_setting for by_setting in other_paths_by_setting)
    ]
    if not groups:
        words_and_paths_by_setting = [(base.word, base_paths_by_setting)] + [
            (other.word, by_setting) for other, by_setting in zip(others, other_paths_by_setting, strict=True)
        ]
        raise UserError(
            "no protocol that all were evaluated under",
            hint="; ".join(
                f"{word} has {' and '.join(map(str, paths_by_setting))}"
                for word, paths_by_setting in words_and_paths_by_setting
            ),
        )
    if any(named_results.folder is None for named_results in (base, *others)):
        return Pairing(groups, notes)  # the user picked one result, and so left out the others
    paired_paths = {path for group in groups for path in (group.base_path, *group.other_paths)}
    for by_setting in (base_paths_by_setting, *other_paths_by_setting):
        for paths in by_setting.values():
            notes += [
                f"{result_name(path, runs_folder)} has no counterpart" for path in paths if path not in paired_paths
            ]
    return Pairing(groups, list(dict.fromkeys(notes)))


def _paths_by_setting(named_results: NamedResults, notes: list[str]) -> dict[ResultSetting, list[Path]]:
    """The word's results by setting; one in a folder that cannot be read is named in `notes` and left out."""
    paths_by_setting: dict[ResultSetting, list[Path]] = {}
    first_error: UserError | None = None
    for path in named_results.main_paths:
        try:
            setting = _setting_of(reading.read_result(path))
        except UserError as error:
            if named_results.folder is None:
                raise
            first_error = first_error or error
            notes.append(f"left out: {error}")
            continue
        paths_by_setting.setdefault(setting, []).append(path)
    if not paths_by_setting and first_error is not None:
        raise first_error
    return paths_by_setting


def _setting_of(result: Result) -> ResultSetting:
    return ResultSetting(result.suite.name, result.protocol.name, result.protocol.system, result.question_limit)
