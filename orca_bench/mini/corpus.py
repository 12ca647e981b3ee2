"""The mini benchmark rows and the explain-tuned records, from the skills and fixed seeds.

The benchmark's questions are drawn first; records are then drawn from what is left. Half of the records ask one question as
it stands; the others put worked examples before it, as evaluation does, so that the student has seen both shapes.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from orca_bench.mini.skills import SKILLS, SUBJECTS, Item
from orca_bench.suite import BY_NAME
from orca_bench.system_messages import SYSTEM_MESSAGES

_QUESTIONS = {"mmlu": 50}  # questions of each task (of each MMLU subject)
_QUESTIONS_DEFAULT = 120
_POOL = 40
#: The most examples put before a question of a task that evaluation puts none before; of another, as many as there.
_SHOTS_DEFAULT = 4
#: The share of records with examples before the question: less where examples are many, for they cost the time.
_WITH_EXAMPLES = {"arc_challenge": 0.15, "hellaswag": 0.2, "winogrande": 0.6}
_WITH_EXAMPLES_DEFAULT = 0.35
#: How much of each skill the records hold: facts must be met often, what comes next is soon learned.
_SHARES = {"arc_challenge": 4, "mmlu": 1, "truthful_qa": 3, "gsm8k": 3}
#: The shortest system messages: a small student spends its few minutes on the questions.
_SYSTEMS = (1, 5, 16)
RECORDS = 5800


def benchmarks(seed: int = 0) -> tuple[dict[tuple[str, str], list[dict[str, Any]]], set[str]]:
    """Rows by (task, split), and the keys of the benchmark's questions, which training must not use."""
    rows: dict[tuple[str, str], list[dict[str, Any]]] = {}
    keys: set[str] = set()
    for task in SKILLS:
        rng = random.Random(f"mini {seed} {task}")
        split, pool = BY_NAME[task].split, BY_NAME[task].few_shot_split
        for subject in SUBJECTS if task == "mmlu" else (None,):
            chosen = _distinct(task, subject, rng, _QUESTIONS.get(task, _QUESTIONS_DEFAULT))
            keys |= {f"{task} {item.key}" for item in chosen}
            rows.setdefault((task, split), []).extend(item.row for item in chosen)
            if pool is not None:
                examples = _distinct(task, subject, rng, 5 if subject else _POOL)
                rows.setdefault((task, pool), []).extend(item.row for item in examples)
    return rows, keys


def _draw(task: str, subject: str | None, rng: random.Random) -> Item:
    return SKILLS[task](rng, subject) if subject else SKILLS[task](rng)


def _distinct(task: str, subject: str | None, rng: random.Random, count: int) -> list[Item]:
    """Up to `count` items with different keys; fewer where the skill has fewer."""
    items: dict[str, Item] = {}
    for _ in range(50 * count):
        item = _draw(task, subject, rng)
        items.setdefault(item.key, item)
        if len(items) == count:
            break
    return list(items.values())


def records(benchmark_keys: set[str], count: int = RECORDS, seed: int = 1) -> Iterator[dict[str, Any]]:
    """Explain-tuned records: system, instruction, input, response; none asks a question of the benchmark."""
    rng = random.Random(f"mini records {seed}")
    tasks = [task for task in SKILLS for _ in range(_SHARES.get(task, 2))]
    for number in range(count):
        task = tasks[number % len(tasks)]
        subject = rng.choice(SUBJECTS) if task == "mmlu" else None
        item = _draw_new(task, subject, rng, benchmark_keys)
        with_examples = rng.random() < _WITH_EXAMPLES.get(task, _WITH_EXAMPLES_DEFAULT)
        shots = rng.randint(1, BY_NAME[task].shots or _SHOTS_DEFAULT) if with_examples else 0
        few_shot_examples = [_draw_new(task, subject, rng, benchmark_keys) for _ in range(shots)]
        before = "".join(f"{example.question} {example.answer}\n\n" for example in few_shot_examples)
        if subject and shots:
            name = " ".join(subject.split("_"))
            before = f"The following are multiple choice questions (with answers) about {name}.\n\n{before}"
        system_id = rng.choice(_SYSTEMS)
        yield {
            "id": f"mini-{number}",
            "source": f"mini/{task}",
            "teacher": "the generator in orca_bench/mini",
            "system_id": system_id,
            "system": SYSTEM_MESSAGES[system_id],
            "instruction": before + item.question,
            "input": "",
            "response": item.response,
        }


def _draw_new(task: str, subject: str | None, rng: random.Random, benchmark_keys: set[str]) -> Item:
    """An item that is no question of the benchmark."""
    while True:
        item = _draw(task, subject, rng)
        if f"{task} {item.key}" not in benchmark_keys:
            return item
