"""Result files in, checked and typed; with them, where a report needs it, every question.

Results are exchanged between people, so nothing of them is believed: every key that this program knows is held to its type
(models.py), and what a file lacks is said in one line. Its own module because evaluation writes, and all reports read,
results.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from orca_bench.errors import UserError
from orca_bench.files import content_sha256, first_bytes, read_json, read_json_lines
from orca_bench.results import foreign
from orca_bench.results.migration import migrate_result
from orca_bench.results.models import RESULT_FORMAT_PREFIX, RESULT_FORMAT_VERSION, Question, Result, question_from_json
from orca_bench.results.summary import cluster_labels_of
from orca_bench.results.task_results import HARNESS_ENTRY_TAG, SUITE_ENTRY_TAG, HarnessTaskResult
from orca_bench.stats import estimates
from orca_bench.suite import TASK_BY_NAME

#: How the file of a result's questions is named, and what somebody may add who compresses it.
QUESTIONS_SUFFIX, COMPRESSED_SUFFIX = ".questions.jsonl", ".gz"

#: Those that are read. 1 has no intervals and no clusters; 1 and 2 hash rows otherwise, and have no hash of the whole.
_READABLE_VERSIONS = tuple(str(version) for version in range(1, RESULT_FORMAT_VERSION + 1))


@dataclass(frozen=True)
class TaskQuestions:
    """The questions of one task by (part, row number); the part is MMLU's subject, or the task."""

    questions_by_key: dict[tuple[str, int], Question]

    def estimate(self, is_stratified: bool) -> estimates.MeanScore:
        """The task's value with its standard error and interval; `is_stratified` by part, as MMLU is by subject."""
        questions = list(self.questions_by_key.values())
        part_labels = [part for part, _ in self.questions_by_key] if is_stratified else None
        return estimates.estimate_mean(
            [question.score for question in questions], cluster_labels_of(questions), part_labels
        )


@dataclass(frozen=True)
class ResultFile:
    """A result file as reports use it: its path, its heading, the result, and the questions beside it by task."""

    path: Path
    label: str
    result: Result
    questions_by_task: dict[str, TaskQuestions] = field(default_factory=dict)


def read_result(path: Path) -> Result:
    """Read a result file, or the log of another program (results/foreign) as one.

    Raises UserError where it is not one, is of a version that is not read, or has a key missing or of another type.
    """
    if foreign.is_log(path):
        return foreign.read_log(path).result
    file_json = read_json(path)
    if not isinstance(file_json, dict) or not str(file_json.get("format", "")).startswith(RESULT_FORMAT_PREFIX):
        raise UserError("not an orca-bench result", where=path, hint="results are written by orca-bench eval")
    version_text = str(file_json["format"]).removeprefix(RESULT_FORMAT_PREFIX)
    if version_text not in _READABLE_VERSIONS:
        raise UserError(
            f"a result of version {version_text}; this orca-bench reads {', '.join(_READABLE_VERSIONS)}",
            where=path,
            hint="use the orca-bench that wrote it, or a newer one",
        )
    try:
        result = migrate_result(Result.from_file_content(file_json))
    except ValidationError as error:
        raise _as_user_error(error, path, "a result") from None
    for task_name, entry in result.tasks.items():
        if task_name not in TASK_BY_NAME and not isinstance(entry, HarnessTaskResult):
            raise UserError(f"unknown task '{task_name}'", where=path, hint=f"tasks are {', '.join(TASK_BY_NAME)}")
    return result


def read_with_questions(result_path: Path, label: str | None = None) -> ResultFile:
    """Read a result with its questions, headed by `label` or the model's name.

    Raises UserError where the questions are absent, are not the result's own, or one of them is not valid.
    """
    if foreign.is_log(result_path):
        return _read_log_with_questions(result_path, label)
    result = read_result(result_path)
    questions_path = find_questions_path(result_path)
    if not questions_path.is_file():
        raise UserError("the questions of this result are not beside it", where=questions_path, hint="copy both files")
    questions_by_task: dict[str, TaskQuestions] = {}
    for line_number, question in read_questions(questions_path):
        task_questions = questions_by_task.setdefault(question.suite_task, TaskQuestions({})).questions_by_key
        if question.part_and_row in task_questions:
            raise UserError(
                f"row {question.row} of {question.task} stands here a second time",
                where=f"{questions_path}:{line_number}",
            )
        task_questions[question.part_and_row] = question
    question_count_by_task = {task_name: len(task.questions_by_key) for task_name, task in questions_by_task.items()}
    expected_count_by_task = {task_name: entry.n for task_name, entry in result.tasks.items()}
    if question_count_by_task != expected_count_by_task or result.questions_sha256 not in (
        None,
        content_sha256(questions_path),
    ):
        raise UserError(
            f"these are not the questions of {result_path.name}", where=questions_path, hint="copy both files"
        )
    return ResultFile(result_path, label or result.model.name, result, questions_by_task)


def _read_log_with_questions(path: Path, label: str | None) -> ResultFile:
    """The log of another program as a result with its questions; raises UserError where it has none."""
    log = foreign.read_log(path)
    if not log.questions:
        raise UserError("the log has scores and no questions", where=path, hint="lm_eval --log_samples writes them")
    questions_by_task: dict[str, TaskQuestions] = {}
    for question in log.questions:
        task_questions = questions_by_task.setdefault(question.suite_task, TaskQuestions({})).questions_by_key
        task_questions[question.part_and_row] = question
    return ResultFile(path, label or log.result.model.name, log.result, questions_by_task)


def has_questions(result_path: Path) -> bool:
    """Whether the questions of a result are there: beside its file, or in the log of another program."""
    if foreign.is_log(result_path):
        return bool(foreign.read_log(result_path).questions)
    return find_questions_path(result_path).is_file()


def questions_hash(result_file: ResultFile) -> str:
    """The hash of a result's questions and answers, as they are."""
    if foreign.is_log(result_file.path):
        return str(result_file.result.questions_sha256)
    return content_sha256(find_questions_path(result_file.path))


def read_questions(questions_path: Path) -> list[tuple[int, Question]]:
    """(line number from 1, question) of each line of a file of questions; raises UserError, with the line, for a wrong one."""
    numbered_questions = []
    with _pause_garbage_collector():
        for line_number, question_json in read_json_lines(questions_path):
            try:
                numbered_questions.append((line_number, question_from_json(question_json)))
            except ValidationError as error:
                raise _as_user_error(error, f"{questions_path}:{line_number}", "a question") from None
    return numbered_questions


@contextlib.contextmanager
def _pause_garbage_collector() -> Iterator[None]:
    """Keep Python's garbage collector from walking over all questions again and again while more are made."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _as_user_error(error: ValidationError, file_or_line: str | Path, file_kind: str) -> UserError:
    """The first thing that is wrong, by its place in the file or line."""
    first_error = error.errors(include_url=False)[0]
    field_path = ".".join(str(key) for key in first_error["loc"] if key not in (SUITE_ENTRY_TAG, HARNESS_ENTRY_TAG))
    if first_error["type"] == "missing":
        return UserError(f"{file_kind} without '{field_path}'", where=file_or_line, hint="evaluate again")
    if not field_path:
        return UserError(first_error["msg"].removeprefix("Value error, "), where=file_or_line, hint="evaluate again")
    return UserError(
        f"'{field_path}': {first_error['msg']} ({str(first_error['input'])!r:.60})",
        where=file_or_line,
        hint="evaluate again",
    )


def is_result_file(path: Path) -> bool:
    """Whether a JSON file says at its beginning that it is a result."""
    return f'"{RESULT_FORMAT_PREFIX}'.encode() in first_bytes(path, 200)


def questions_path_for(result_path: Path) -> Path:
    """Where the questions of a result file are written."""
    return result_path.with_suffix(QUESTIONS_SUFFIX)


def find_questions_path(result_path: Path) -> Path:
    """Where the questions of a result file are read: where they were written, or that name with .gz where only this is there."""
    path = questions_path_for(result_path)
    compressed_path = Path(f"{path}{COMPRESSED_SUFFIX}")
    return compressed_path if compressed_path.is_file() and not path.is_file() else path
