"""A result and its questions in, two files out: `NAME.json`, and beside it `NAME.questions.jsonl`.

Its own module because every evaluation writes the same two files, after each of its tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from orca_bench.errors import UserError
from orca_bench.files import catch_write_errors, file_sha256, write_json, write_json_lines
from orca_bench.results.hashing import compute_content_sha256
from orca_bench.results.models import Question, Result
from orca_bench.results.reading import COMPRESSED_SUFFIX, questions_path_for
from orca_bench.results.task_facts import ordered_names
from orca_bench.results.task_results import HarnessTaskResult
from orca_bench.suite import TASK_BY_NAME


def write_result(result_path: Path, result: Result, questions: Sequence[Question]) -> None:
    """Write a result and its questions, tasks in the suite's order, others after them; the result gets the hashes of both files.

    Within a task questions stay in the order in which they come. Raises UserError where the disk does not take them, and for
    a task outside the suite that the result does not describe, which no report could read.
    """
    for task_name in (*result.tasks, *dict.fromkeys(question.suite_task for question in questions)):
        if task_name not in TASK_BY_NAME and not isinstance(result.tasks.get(task_name), HarnessTaskResult):
            raise UserError(
                f"unknown task '{task_name}'", where=result_path, hint=f"tasks are {', '.join(TASK_BY_NAME)}"
            )
    task_order = ordered_names([*result.tasks, *(question.suite_task for question in questions)])
    place_by_task = {task_name: place for place, task_name in enumerate(task_order)}
    sorted_questions = sorted(questions, key=lambda question: place_by_task[question.suite_task])
    write_json_lines(questions_path_for(result_path), [question.to_json() for question in sorted_questions])
    result.questions_sha256 = file_sha256(questions_path_for(result_path))
    result.result_sha256 = ""  # so that the key has its place
    result_json = result.to_json()
    result.result_sha256 = result_json["result_sha256"] = compute_content_sha256(result_json)
    result.forget_file_content()
    write_json(result_path, result_json)
    with catch_write_errors(result_path):  # those of an earlier result
        Path(f"{questions_path_for(result_path)}{COMPRESSED_SUFFIX}").unlink(missing_ok=True)
