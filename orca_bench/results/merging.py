"""A result in, a file of it out that loses nothing: tasks of one setting are put together, other settings keep a file each.

`eval --tasks winogrande` after `eval --tasks all` replaces one task of seven. Where the file holds a result of another setting
(protocol, limit, suite, model, versions, rows) this one is renamed, not replaced. Its own module because a result is computed
without knowing what lies on the disk.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from orca_bench.errors import UserError
from orca_bench.files import catch_write_errors, content_sha256
from orca_bench.results.hashing import is_unchanged_since_writing
from orca_bench.results.models import Question, Result
from orca_bench.results.reading import find_questions_path, is_result_file, read_questions, read_result
from orca_bench.results.task_facts import facts_of, ordered_names
from orca_bench.results.writing import write_result


def check_output_path(path: Path) -> None:
    """Raise UserError where a file that is no result is in the way: it is not replaced."""
    if path.is_dir() or (path.is_file() and not is_result_file(path)):
        raise UserError("what is there is no result", where=path, hint="choose another --out")


class ResultOutput:
    """The file that a result goes to, with what it held before.

    `notes` says in words what becomes of that. The result takes over the tasks of the same setting that it does not order.
    """

    def __init__(self, path: Path, result: Result, row_hashes_by_task: Mapping[str, Mapping[str, str]]):
        """Read what is at `path`; `row_hashes_by_task` has the hashes of the rows by split of each task that is ordered.

        Raises UserError where the file is there and is no result: it is not replaced.
        """
        check_output_path(path)
        self.path = path
        self.notes: list[str] = []
        self._carried_questions: list[Question] = []
        self._earlier_result_path: Path | None = None
        self._path_for_other_setting: Path | None = None
        result.order = list(row_hashes_by_task)
        earlier_results = _earlier_results(path)
        continued_result = next(
            (earlier for earlier in earlier_results if earlier.has_setting_of(result, row_hashes_by_task)), None
        )
        if path.is_file() and (continued_result is None or continued_result.path != path):
            self._path_for_other_setting = _unused_path(path)
            self.notes.append(
                f"{path} is of another setting ({earlier_results[0].setting_difference(result)}): it becomes "
                f"{self._path_for_other_setting.name} when the first task is done"
            )
        if continued_result is not None:
            self._earlier_result_path = continued_result.path
            self._carry_over_tasks(continued_result, result)

    def write(self, result: Result, questions: Sequence[Question]) -> None:
        """Write the result and its questions, those that were taken over among them."""
        if self._path_for_other_setting is not None:
            _move_result_and_questions(self.path, self._path_for_other_setting)
            self._path_for_other_setting = None
        write_result(self.path, result, [*self._carried_questions, *questions])
        if self._earlier_result_path is not None and self._earlier_result_path != self.path:
            with catch_write_errors(self.path):
                find_questions_path(self._earlier_result_path).unlink(missing_ok=True)
                self._earlier_result_path.unlink(missing_ok=True)
        self._earlier_result_path = self.path

    def _carry_over_tasks(self, earlier: _EarlierResult, result: Result) -> None:
        """Put the tasks of an earlier result that are not ordered again, and their questions, into the result."""
        earlier_result, ordered_task_names = earlier.result, result.order or []
        assert earlier_result is not None, "a result that cannot be read has no setting"
        carried_task_names = ordered_names([name for name in earlier_result.tasks if name not in ordered_task_names])
        result.order = ordered_names([*(earlier_result.order or ()), *carried_task_names, *ordered_task_names])
        result.tasks |= {task_name: earlier_result.tasks[task_name] for task_name in carried_task_names}
        result.data_hashes |= _select_tasks(earlier_result.data_hashes, carried_task_names)
        result.data_commits |= _select_tasks(earlier_result.data_commits, carried_task_names)
        result.lm_eval |= _select_tasks(earlier_result.lm_eval, carried_task_names)
        self._carried_questions = [
            question
            for _, question in read_questions(earlier.questions_path)
            if question.suite_task in carried_task_names
        ]
        if carried_task_names:
            task_titles = ", ".join(facts_of(earlier_result, task_name).title for task_name in carried_task_names)
            self.notes.append(f"{earlier.path} has {task_titles} of the same setting, which stay in the result")


def _select_tasks(values_by_task: Mapping[str, Any], task_names: Sequence[str]) -> dict[str, Any]:
    return {task_name: values_by_task[task_name] for task_name in task_names if task_name in values_by_task}


@dataclass(frozen=True)
class _EarlierResult:
    """A file where the new result goes, or that was once there."""

    path: Path

    @cached_property
    def result(self) -> Result | None:
        """What it holds; None where that cannot be read."""
        try:
            return read_result(self.path)
        except UserError:
            return None

    @property
    def questions_path(self) -> Path:
        return find_questions_path(self.path)

    def has_setting_of(self, new_result: Result, row_hashes_by_task: Mapping[str, Mapping[str, str]]) -> bool:
        """Whether it is a whole result of the same setting, and of the same rows where both have a task."""
        if self.result is None or not is_unchanged_since_writing(self.result):
            return False
        try:
            has_own_questions = self.result.questions_sha256 == content_sha256(self.questions_path)
        except UserError:  # there are none, or they cannot be read
            return False
        if not has_own_questions:
            return False
        has_same_rows = all(
            self.result.row_hashes_by_split(task_name) in (None, hashes_by_split)
            for task_name, hashes_by_split in row_hashes_by_task.items()
        )
        return has_same_rows and not _differing_settings(self.result, new_result)

    def setting_difference(self, new_result: Result) -> str:
        """What makes its setting another one, in words."""
        if self.result is None:
            return "it cannot be read"
        return ", ".join(_differing_settings(self.result, new_result)) or "rows, or questions that are not its own"


def _earlier_results(output_path: Path) -> list[_EarlierResult]:
    """The result at `output_path` first, where there is one, and those that were once there."""
    renamed_file_pattern = f"{glob.escape(output_path.stem)}-{'[0-9a-f]' * 8}{output_path.suffix}"
    renamed_paths = sorted(output_path.parent.glob(renamed_file_pattern)) if output_path.parent.is_dir() else []
    return [
        _EarlierResult(candidate_path) for candidate_path in (output_path, *renamed_paths) if candidate_path.is_file()
    ]


def _differing_settings(earlier_result: Result, new_result: Result) -> list[str]:
    """What differs of all that two results must have in common for their tasks to stand in one file.

    The protocols are compared for the tasks of the earlier result: those that the file would keep.
    """
    earlier_setting, new_setting = _setting_without_protocol(earlier_result), _setting_without_protocol(new_result)
    differing_keys = [key for key in earlier_setting if earlier_setting[key] != new_setting[key]]
    if earlier_result.protocol.differing_keys(new_result.protocol, earlier_result.tasks):
        differing_keys.insert(0, "protocol")
    return differing_keys


def _setting_without_protocol(result: Result) -> dict[str, Any]:
    """What must be equal in two results for their tasks to stand in one file, protocols apart; JSON values."""
    model_setting: Any = result.model.identity
    if result.answers is not None:  # answered elsewhere: nothing is known of the model but its name
        model_setting = {"name": result.model.name, "answers": result.answers.sha256}
    setting_json = {
        "format": result.format,
        "limit": result.limit,
        "suite": [result.suite.name, result.suite.comparable],
        "model": model_setting,
        "versions": result.versions,
    }
    return json.loads(json.dumps(setting_json, default=str))


def _unused_path(occupied_path: Path) -> Path:
    """A name that is free for the result at `occupied_path`, by a hash of it."""
    file_digest = hashlib.sha256(occupied_path.read_bytes())
    while (
        unused_path := occupied_path.with_name(
            f"{occupied_path.stem}-{file_digest.hexdigest()[:8]}{occupied_path.suffix}"
        )
    ).exists():
        file_digest.update(b"again")
    return unused_path


def _move_result_and_questions(source_path: Path, target_path: Path) -> None:
    with catch_write_errors(source_path):
        questions_path = find_questions_path(source_path)
        if questions_path.is_file():
            ending = questions_path.name.removeprefix(source_path.stem)
            os.replace(questions_path, target_path.with_name(f"{target_path.stem}{ending}"))
        os.replace(source_path, target_path)
