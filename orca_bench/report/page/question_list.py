"""Results in, the questions of the page in their order out: each once, whichever results have it.

Two results have the same question where part, row number and rows are the same; rows are the same where their hash is, or,
where no hash is known, the suite. Its own module because the list, the chunks and the tests need the same order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from orca_bench.results.models import Question, Result
from orca_bench.results.reading import ResultFile
from orca_bench.results.task_facts import facts_of, ordered_names
from orca_bench.suite import TASK_BY_NAME


class QuestionKey(NamedTuple):
    """What names a question on the page: task, hash or suite of its rows, part (MMLU's subject, or the task), row number."""

    task_name: str
    rows_id: str
    part_name: str
    row_index: int


@dataclass(frozen=True)
class PageQuestion:
    """A question and, for each result of the page, what it has of it: None where it has no such question."""

    key: QuestionKey
    by_result: list[Question | None]


def list_questions(result_files: Sequence[ResultFile]) -> list[PageQuestion]:
    """Every question of any result: tasks in the suite's order, others after them.

    Within a task they are in the order of the first result that has it.
    """
    questions: dict[QuestionKey, PageQuestion] = {}
    for result_index, result_file in enumerate(result_files):
        for task_name, task_questions in result_file.questions_by_task.items():
            rows_id = rows_id_of(result_file.result, task_name)
            for (part_name, row_index), question in task_questions.questions_by_key.items():
                key = QuestionKey(task_name, rows_id, part_name, row_index)
                if key not in questions:
                    questions[key] = PageQuestion(key, [None] * len(result_files))
                questions[key].by_result[result_index] = question
    task_order = {name: index for index, name in enumerate(ordered_names([key.task_name for key in questions]))}
    part_order: dict[tuple[str, str], int] = {}
    for key in questions:
        part_order.setdefault((key.rows_id, key.part_name), len(part_order))
    return sorted(
        questions.values(),
        key=lambda question: (
            task_order.get(question.key.task_name, len(task_order)),
            part_order[question.key.rows_id, question.key.part_name],
        ),
    )


def rows_id_of(result: Result, task_name: str) -> str:
    """What tells the rows of a task from those of another suite: their hash, or the suite's name where it is not known."""
    is_known = task_name in TASK_BY_NAME or task_name in result.tasks
    return (result.evaluation_row_hash(facts_of(result, task_name)) if is_known else None) or result.suite.name
