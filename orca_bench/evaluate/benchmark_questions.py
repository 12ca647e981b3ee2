"""A benchmarks folder in, its rows as records may contain them out: question, passage, choices and answer of each, apart.

Its own module because the check of records compares with all rows of the tasks, and knows nothing of tasks, splits and folders.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from orca_bench.evaluate.benchmark_files import has_split
from orca_bench.evaluate.benchmark_rows import load_split_rows, read_suite, tasks_of_suite
from orca_bench.evaluate.tasks import SUITE
from orca_bench.evaluate.tasks.task import ChoiceTask, Row, Task
from orca_bench.results.data_report import BenchmarkQuestion, BenchmarkQuestions, SplitRows


def load_benchmark_questions(
    benchmarks_folder: Path,
    tasks: Sequence[Task] = SUITE,
    show_message: Callable[[str], None] = lambda line: None,
) -> BenchmarkQuestions:
    """The rows of the evaluated splits and of those that few-shot examples come from.

    A few-shot split that is not there is left out, and `show_message` gets a line about it. Raises UserError where a split that
    is evaluated is not there, and for a row that is none of its task.
    """
    suite_name = read_suite(benchmarks_folder).suite_name
    questions: list[BenchmarkQuestion] = []
    splits_by_task: dict[str, dict[str, SplitRows]] = {}
    for task in tasks_of_suite(benchmarks_folder, tasks):
        splits_by_task[task.name] = {}
        for split in _splits_to_compare(task, benchmarks_folder, show_message):
            split_rows = load_split_rows(task, split, benchmarks_folder)
            splits_by_task[task.name][split] = SplitRows(rows=len(split_rows.rows), sha256=split_rows.sha256)
            questions += [
                _question_of_row(task, split, row_number, row, row_sha256)
                for row_number, (row, row_sha256) in enumerate(zip(split_rows.rows, split_rows.row_hashes, strict=True))
            ]
    return BenchmarkQuestions(questions, splits_by_task, suite_name)


def _splits_to_compare(task: Task, benchmarks_folder: Path, show_message: Callable[[str], None]) -> Iterator[str]:
    yield task.evaluation_split
    if task.few_shot_split is None:
        return
    if has_split(benchmarks_folder, task, task.few_shot_split):
        yield task.few_shot_split
    else:
        show_message(
            f"not compared: the split '{task.few_shot_split}' of {task.name}, which is not in {benchmarks_folder}"
        )


def _question_of_row(task: Task, split: str, row_number: int, row: Row, row_sha256: str) -> BenchmarkQuestion:
    choices: tuple[str, ...] = ()
    answer = task.few_shot_answer(row).strip()
    if isinstance(task, ChoiceTask):
        choices = tuple(task.plain_choices(row))
        answer = choices[task.gold(row)]
    return BenchmarkQuestion(
        task=task.name,
        split=split,
        row=row_number,
        row_sha256=row_sha256,
        is_evaluated=split == task.evaluation_split,
        question=task.plain_question(row),
        passage=task.passage(row),
        choices=choices,
        answer=answer,
    )
