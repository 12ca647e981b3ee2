"""Protocol `plain`: lm-eval's own task files over our rows, so that the number is what today's lm-eval reports.

lm-eval makes the prompts, draws the few-shot examples and scores the answers; scored questions go out. Its own module because
nothing of it is ours but the rows and the model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import lm_eval
from lm_eval.api.task import Task as HarnessTask
from lm_eval.tasks import TaskManager

from orca_bench.errors import UserError
from orca_bench.evaluate.benchmark_rows import BenchmarkRows
from orca_bench.evaluate.harness.language_model import HarnessModel
from orca_bench.evaluate.harness.lm_eval_instances import answer_of
from orca_bench.evaluate.harness.lm_eval_run import (
    TaskOutcome,
    evaluate_tasks,
    explain_task_errors,
    hide_harness_log,
    without_samples,
)
from orca_bench.evaluate.harness.local_data_sets import without_data_set_bars
from orca_bench.evaluate.harness.named_tasks import FEW_SHOT_SEED
from orca_bench.evaluate.protocols import default_token_limits
from orca_bench.evaluate.protocols.protocol import Answer, describe_token_limits, parts_of_task
from orca_bench.evaluate.request_encoding import MAX_NEW_TOKENS
from orca_bench.evaluate.scoring import question_of
from orca_bench.evaluate.tasks.task import ChoiceTask, Row, Score, Task
from orca_bench.results.hashing import sha256_of_json
from orca_bench.results.models import Question
from orca_bench.suite import HarnessFacts


class Plain:
    """lm-eval's own prompts, no wrapper: BOS, today's templates, lm-eval's sampler and metrics. Named, not implemented, here."""

    name, version = "plain", 1

    def __init__(self, other_max_new_tokens_by_task: Mapping[str, int] = MappingProxyType({})):
        """`other_max_new_tokens_by_task` gives tasks another limit than the leaderboard's."""
        self.max_new_tokens_by_task: Mapping[str, int] = {
            **default_token_limits(self.name),
            **other_max_new_tokens_by_task,
        }

    def describe(self) -> dict[str, Any]:
        """Name, version, lm-eval's version and how strings become tokens."""
        return {
            "name": self.name,
            "version": self.version,
            "lm_eval": lm_eval.__version__,
            "tokens": "BOS + context and continuation encoded together",
            "max_new_tokens": describe_token_limits(self.max_new_tokens_by_task),
        }

    def reader_warnings(self, task: Task) -> list[str]:
        """None of its own."""
        return []


@dataclass(frozen=True)
class HarnessPart:
    """A part of a task as lm-eval runs it: the name of its task file, our row numbers, the rows and the few-shot pool."""

    harness_task_name: str
    row_indices: Sequence[int]
    evaluation_rows: list[Row]
    few_shot_pool: list[Row]


def run_plain(
    model: HarnessModel, task: Task, rows: BenchmarkRows, question_limit: int | None, max_new_tokens: int
) -> TaskOutcome:
    """Run lm-eval's own task files for one task over the given rows.

    `max_new_tokens` is the limit of a text, which `begin` gave to `model`. Raises UserError for a task or a subject that lm-eval
    does not have.
    """
    harness_task_facts = harness_facts(task)
    parts_in_order = list(harness_parts(task, rows))
    with without_data_set_bars(), explain_task_errors(task.name):
        harness_tasks = load_harness_tasks(task, parts_in_order)
        harness_result = evaluate_tasks(model, harness_tasks, question_limit, should_log_samples=True)
    questions: list[Question] = []
    requests: list[Any] = []
    for harness_part in parts_in_order:
        samples = [
            sample
            for sample in harness_result["samples"][harness_part.harness_task_name]
            if sample["filter"] == harness_task_facts.filter_name
        ]
        for sample in sorted(samples, key=lambda sample: sample["doc_id"]):
            questions.append(question_of_sample(task, harness_part, sample))
            requests += [list(arguments) for arguments in sample["arguments"]]
    if task.generates_text and max_new_tokens != MAX_NEW_TOKENS:
        requests.append(max_new_tokens)
    return TaskOutcome(questions, sha256_of_json(requests), without_samples(harness_result))


def harness_facts(task: Task) -> HarnessFacts:
    """What lm-eval calls the task; raises UserError for a task of which the suite does not say that."""
    if task.facts.harness_facts is None:
        raise UserError(
            f"lm-eval has no task for {task.name}",
            where="--protocol plain",
            hint="leave it out of --tasks, or use orca",
        )
    return task.facts.harness_facts


def harness_parts(task: Task, rows: BenchmarkRows) -> Iterator[HarnessPart]:
    """The parts of a task, in order; lm-eval's name of a subject of MMLU is ours."""
    harness_task_facts = harness_facts(task)
    for part in parts_of_task(task, rows):
        harness_task_name = part.part_name if task.facts.subject_column else harness_task_facts.harness_task_name
        yield HarnessPart(
            harness_task_name,
            part.row_indices,
            [rows.evaluation_rows[row_index] for row_index in part.row_indices],
            part.few_shot_pool,
        )


def load_harness_tasks(task: Task, parts_in_order: Sequence[HarnessPart]) -> list[HarnessTask]:
    """lm-eval's own tasks over our rows; raises UserError for a part that lm-eval does not have."""
    hide_harness_log()
    task_files_folder = Path(lm_eval.__file__).parent / "tasks" / harness_facts(task).task_folder
    task_manager = TaskManager(include_path=str(task_files_folder), include_defaults=False)
    for harness_part in parts_in_order:
        if harness_part.harness_task_name not in task_manager.all_tasks:
            raise UserError(
                f"lm-eval has no task '{harness_part.harness_task_name}'",
                where=task.name,
                hint="--protocol plain knows MMLU's 57 subjects only",
            )
    harness_task_configs = [
        {
            "task": harness_part.harness_task_name,
            "num_fewshot": task.shots,
            "custom_dataset": _data_set_of(task, harness_part),
        }
        for harness_part in parts_in_order
    ]
    # Only inside a group does lm_eval 0.4.13 lay a dictionary's keys over the task file of that name.
    harness_tasks = list(task_manager.load({"group": "orca_bench", "task": harness_task_configs})["tasks"].values())
    for harness_task in harness_tasks:
        harness_task.set_fewshot_seed(FEW_SHOT_SEED)
    return harness_tasks


def _data_set_of(task: Task, harness_part: HarnessPart) -> Callable[..., dict[str, Any]]:
    """What lm-eval calls for a data set: a function that gives the splits of a part."""

    def load_splits(**options: Any) -> dict[str, Any]:
        from datasets import Dataset

        rows_by_split = {task.evaluation_split: Dataset.from_list(harness_part.evaluation_rows)}
        if task.few_shot_split:
            rows_by_split[task.few_shot_split] = Dataset.from_list(harness_part.few_shot_pool)
        # A task file may name a split that it does not use; lm-eval reads its rows all the same.
        return rows_by_split | {
            split: rows_by_split[task.evaluation_split]
            for split in ("validation", "test")
            if split not in rows_by_split
        }

    return load_splits


def question_of_sample(task: Task, harness_part: HarnessPart, sample: Mapping[str, Any]) -> Question:
    """The scored question of a sample of lm-eval: the score is lm-eval's, the answers are those that the responses carry.

    Raises UserError where the score is NaN.
    """
    document_index: int = sample["doc_id"]
    row = harness_part.evaluation_rows[document_index]
    answers = [answer_of(responses[0]) for responses in sample["resps"]]
    metric = harness_facts(task).metric
    harness_score = float(sample[metric])
    if math.isnan(harness_score):
        raise UserError(
            f"lm-eval's {metric} of this question is NaN",
            where=f"{harness_part.harness_task_name} document {document_index} (row {harness_part.row_indices[document_index]})",
            hint="the probabilities of all its answers are zero; --protocol leaderboard scores it",
        )
    score = _score(task, row, harness_score, sample, answers)
    return question_of(
        (harness_part.harness_task_name, document_index, harness_part.row_indices[document_index]),
        score,
        answers,
        task.cluster(row),
    )


def _score(task: Task, row: Row, harness_score: float, sample: Mapping[str, Any], answers: Sequence[Answer]) -> Score:
    if isinstance(task, ChoiceTask):
        our_score = task.score(row, [answer.log_probability for answer in answers])
        return Score(harness_score, our_score.prediction, our_score.gold_answer, {})
    return Score(harness_score, sample["filtered_resps"][0], sample["target"], {})
