"""Small results for tests of reports: questions whose scores are drawn or given, summarised, written and read as any other."""

import random

from orca_bench.evaluate import result_building
from orca_bench.evaluate.protocols import Answer
from orca_bench.evaluate.scoring import Question
from orca_bench.evaluate.tasks import SUITE
from orca_bench.evaluate.tasks.task import Score
from orca_bench.results import reading
from orca_bench.suite import task_of


def drawn(folder, label, share, seed=0, tasks=None, file=None, **heading):
    """A result of 80 questions a task that are right with a share, of all tasks or by task."""
    rng = random.Random(seed)
    questions = []
    for task in SUITE:
        if tasks and task.name not in tasks:
            continue
        for n in range(80):
            part = f"mmlu_subject_{n % 4}" if task.name == "mmlu" else task.name
            right = float(rng.random() < (share[task.name] if isinstance(share, dict) else share))
            cluster = str(n // 2) if task.name == "drop" else None
            questions.append(Question(part, n, n, Score(right, 0, 0, {}), [], cluster))
    return write(folder / (file or f"{label}.json"), label, questions, **heading)


def given(target, label, questions, **heading):
    """A result of some questions: (part, row, score, prediction, answers)."""
    made = [
        Question(part, index, row, Score(score, prediction, prediction, {}), [Answer(answer) for answer in answers])
        for index, (part, row, score, prediction, answers) in enumerate(questions)
    ]
    return write(target, label, made, **heading)


def write(target, label, questions, comparable=True, protocol="leaderboard", limit=None, rows="true", **model):
    """Write a result of a model called `label`, and read it again; `model` are further facts of it."""
    told = {"format": result_building.FORMAT, "complete": True, "limit": limit}
    told |= {"protocol": {"name": protocol, "version": 1}, "suite": {"name": "s", "comparable": comparable}}
    told |= {"model": {"name": label, "path": None} | model, "tasks": {}}
    for task in SUITE:
        own = [question for question in questions if task_of(question.task) == task.name]
        if own:
            checked = {split: rows for split in (task.split, task.few_shot_split) if split}
            told["tasks"][task.name] = result_building.summarize(task, own) | {"row_check": checked}
    told["averages"] = result_building.averages(told["tasks"])
    result_building.write(target, told, questions)
    return reading.read(target, label)
