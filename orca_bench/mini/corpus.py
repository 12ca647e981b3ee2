"""The mini benchmark rows and the explain-tuned records, from the skills and fixed seeds.

The benchmark's questions are drawn first; records are then drawn from what is left. Half of the records ask one question as
it stands; the others put worked examples before it, as evaluation does, so that the student has seen both shapes.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from orca_bench.mini.skills import SKILLS, SUBJECTS, Item
from orca_bench.suite import TASK_BY_NAME
from orca_bench.system_messages import SYSTEM_MESSAGES

_QUESTION_COUNT_BY_TASK = {"mmlu": 50}  # questions of each task (of each MMLU subject)
_DEFAULT_QUESTION_COUNT = 120
_FEW_SHOT_POOL_SIZE = 40
#: The most examples put before a question of a task that evaluation puts none before; of another, as many as there.
_DEFAULT_MAX_SHOTS = 4
#: The share of records with examples before the question: less where examples are many, for they cost the time.
_FEW_SHOT_SHARE_BY_TASK = {"arc_challenge": 0.15, "hellaswag": 0.2, "winogrande": 0.6}
_DEFAULT_FEW_SHOT_SHARE = 0.35
#: How much of each skill the records hold: facts must be met often, what comes next is soon learned.
_RECORD_WEIGHT_BY_TASK = {"arc_challenge": 4, "mmlu": 1, "truthful_qa": 3, "gsm8k": 3}
#: The shortest system messages: a small student spends its few minutes on the questions.
_SYSTEM_IDS = (1, 5, 16)
RECORD_COUNT = 5800


def generate_benchmark_rows(seed: int = 0) -> tuple[dict[tuple[str, str], list[dict[str, Any]]], set[str]]:
    """Rows by (task, split), and the keys of the benchmark's questions, which training must not use."""
    rows_by_task_and_split: dict[tuple[str, str], list[dict[str, Any]]] = {}
    benchmark_keys: set[str] = set()
    for task in SKILLS:
        rng = random.Random(f"mini {seed} {task}")
        split, pool_split = TASK_BY_NAME[task].evaluation_split, TASK_BY_NAME[task].few_shot_split
        for subject in SUBJECTS if task == "mmlu" else (None,):
            items = _draw_distinct(task, subject, rng, _QUESTION_COUNT_BY_TASK.get(task, _DEFAULT_QUESTION_COUNT))
            benchmark_keys |= {f"{task} {item.key}" for item in items}
            rows_by_task_and_split.setdefault((task, split), []).extend(item.row for item in items)
            if pool_split is not None:
                pool_items = _draw_distinct(task, subject, rng, 5 if subject else _FEW_SHOT_POOL_SIZE)
                rows_by_task_and_split.setdefault((task, pool_split), []).extend(item.row for item in pool_items)
    return rows_by_task_and_split, benchmark_keys


def _draw_item(task: str, subject: str | None, rng: random.Random) -> Item:
    return SKILLS[task](rng, subject) if subject else SKILLS[task](rng)


def _draw_distinct(task: str, subject: str | None, rng: random.Random, count: int) -> list[Item]:
    """Up to `count` items with different keys; fewer where the skill has fewer."""
    item_by_key: dict[str, Item] = {}
    for _ in range(50 * count):
        item = _draw_item(task, subject, rng)
        item_by_key.setdefault(item.key, item)
        if len(item_by_key) == count:
            break
    return list(item_by_key.values())


def generate_records(
    benchmark_keys: set[str], record_count: int = RECORD_COUNT, seed: int = 1
) -> Iterator[dict[str, Any]]:
    """Explain-tuned records: system, instruction, input, response; none asks a question of the benchmark."""
    rng = random.Random(f"mini records {seed}")
    weighted_tasks = [task for task in SKILLS for _ in range(_RECORD_WEIGHT_BY_TASK.get(task, 2))]
    for index in range(record_count):
        task = weighted_tasks[index % len(weighted_tasks)]
        subject = rng.choice(SUBJECTS) if task == "mmlu" else None
        item = _draw_unseen_item(task, subject, rng, benchmark_keys)
        with_examples = rng.random() < _FEW_SHOT_SHARE_BY_TASK.get(task, _DEFAULT_FEW_SHOT_SHARE)
        few_shot_count = rng.randint(1, TASK_BY_NAME[task].shots or _DEFAULT_MAX_SHOTS) if with_examples else 0
        few_shot_examples = [_draw_unseen_item(task, subject, rng, benchmark_keys) for _ in range(few_shot_count)]
        few_shot_text = "".join(f"{example.question} {example.answer}\n\n" for example in few_shot_examples)
        if subject and few_shot_count:
            subject_name = " ".join(subject.split("_"))
            few_shot_text = (
                f"The following are multiple choice questions (with answers) about {subject_name}.\n\n{few_shot_text}"
            )
        system_id = rng.choice(_SYSTEM_IDS)
        yield {
            "id": f"mini-{index}",
            "source": f"mini/{task}",
            "teacher": "the generator in orca_bench/mini",
            "system_id": system_id,
            "system": SYSTEM_MESSAGES[system_id],
            "instruction": few_shot_text + item.question,
            "input": "",
            "response": item.response,
        }


def _draw_unseen_item(task: str, subject: str | None, rng: random.Random, benchmark_keys: set[str]) -> Item:
    """An item that is no question of the benchmark."""
    while True:
        item = _draw_item(task, subject, rng)
        if f"{task} {item.key}" not in benchmark_keys:
            return item
