"""The mini benchmark rows and the explain-tuned records, from the skills and fixed seeds.

The benchmark's questions are drawn first; records are then drawn from what is left. Half of the records ask one question as
it stands; the others put worked examples before it, as evaluation does, so that the student has seen both shapes.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from orca_bench.mini.skills import SKILLS, SUBJECTS, Item
from orca_bench.system_messages import SYSTEM_MESSAGES

_ASKED = {"mmlu": 50}  # questions of each task (of each MMLU subject)
_ASKED_DEFAULT = 120
_POOL = 40
_SPLITS = {
    "arc_challenge": ("test", "train"),
    "hellaswag": ("validation", "train"),
    "mmlu": ("test", "dev"),
    "truthful_qa": ("validation", None),
    "winogrande": ("validation", "train"),
    "gsm8k": ("test", "train"),
    "drop": ("validation", "train"),
}
#: The most examples put before a question, by skill: as many as evaluation puts there.
_SHOTS = {"arc_challenge": 25, "hellaswag": 10, "mmlu": 5, "truthful_qa": 4, "winogrande": 5, "gsm8k": 5, "drop": 3}
#: The shorter system messages: a small student spends its few minutes on the questions.
_SYSTEMS = (1, 2, 3, 5, 16)
RECORDS = 8000


def benchmarks(seed: int = 0) -> tuple[dict[tuple[str, str], list[dict]], set[str]]:
    """Rows by (task, split), and the keys of the questions that are asked, which training must not see."""
    rows: dict[tuple[str, str], list[dict]] = {}
    asked: set[str] = set()
    for task, skill in SKILLS.items():
        rng = random.Random(f"mini {seed} {task}")
        split, pool = _SPLITS[task]
        for part in SUBJECTS if task == "mmlu" else (None,):
            options = {"subject": part} if part else {}
            chosen = _distinct(lambda: skill(rng, **options), _ASKED.get(task, _ASKED_DEFAULT))
            asked |= {f"{task} {item.key}" for item in chosen}
            rows.setdefault((task, split), []).extend(item.row for item in chosen)
        for part in SUBJECTS if task == "mmlu" and pool else (None,):
            if pool is None:
                continue
            options = {"subject": part} if part else {}
            examples = _distinct(lambda: skill(rng, **options), 5 if part else _POOL)
            rows.setdefault((task, pool), []).extend(item.row for item in examples)
    return rows, asked


def _distinct(draw: Callable[[], Item], count: int) -> list[Item]:
    """Up to `count` items with different keys; fewer where the skill has fewer."""
    items: dict[str, Item] = {}
    for _ in range(50 * count):
        item = draw()
        items.setdefault(item.key, item)
        if len(items) == count:
            break
    return list(items.values())


def records(asked: set[str], count: int = RECORDS, seed: int = 1) -> Iterator[dict]:
    """Explain-tuned records: system, instruction, input, response; none asks a question of the benchmark."""
    rng = random.Random(f"mini records {seed}")
    tasks = list(SKILLS)
    for number in range(count):
        task = tasks[number % len(tasks)]
        subject = {"subject": rng.choice(SUBJECTS)} if task == "mmlu" else {}

        def draw(task: str = task, subject: dict = subject) -> Item:
            while True:
                item = SKILLS[task](rng, **subject)
                if f"{task} {item.key}" not in asked:
                    return item

        item = draw()
        shots = rng.randint(1, _SHOTS[task]) if rng.random() < 0.2 else 0
        before = "".join(f"{shown.question} {shown.answer}\n\n" for shown in (draw() for _ in range(shots)))
        if subject and shots:
            name = " ".join(subject["subject"].split("_"))
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
