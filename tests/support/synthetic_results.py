"""Small results for tests of reports, with scores at random or as the test lists them; written and read as any other."""

import random

from orca_bench.evaluate import result_building
from orca_bench.evaluate.protocols import Answer
from orca_bench.evaluate.scoring import Question
from orca_bench.evaluate.tasks import SUITE
from orca_bench.evaluate.tasks.task import Score
from orca_bench.results import reading
from orca_bench.suite import task_of

QUESTIONS_PER_TASK = 80


def random_result(folder, label, share, seed=0, tasks=None, file=None, **heading):
    """A result of 80 questions a task; each is right with probability `share`, a number or one by task.

    `heading` are further parameters of `write_result`.
    """
    rng = random.Random(seed)
    questions = []
    for task in SUITE:
        if tasks and task.name not in tasks:
            continue
        for n in range(QUESTIONS_PER_TASK):
            part = f"mmlu_subject_{n % 4}" if task.name == "mmlu" else task.name
            score = float(rng.random() < (share[task.name] if isinstance(share, dict) else share))
            cluster = str(n // 2) if task.name == "drop" else None
            questions.append(Question(part, n, n, Score(score, 0, 0, {}), [], cluster))
    return write_result(folder / (file or f"{label}.json"), label, questions, **heading)


def listed_result(target, label, questions, **heading):
    """A result, in the file `target`, of the listed questions, each (part, row, score, prediction, answers)."""
    scored = [
        Question(part, index, row, Score(score, prediction, prediction, {}), [Answer(answer) for answer in answers])
        for index, (part, row, score, prediction, answers) in enumerate(questions)
    ]
    return write_result(target, label, scored, **heading)


def write_result(target, label, questions, comparable=True, protocol="leaderboard", limit=None, rows="true", **model):
    """Write a result of a model called `label` to the file `target`, and read it again.

    `rows` is the status of the rows (true, other, not verified), `model` are further facts of the model.
    """
    result = {"format": result_building.FORMAT, "complete": True, "limit": limit}
    result |= {"protocol": {"name": protocol, "version": 1}, "suite": {"name": "s", "comparable": comparable}}
    result |= {"model": {"name": label, "path": None} | model, "tasks": {}}
    for task in SUITE:
        own = [question for question in questions if task_of(question.task) == task.name]
        if own:
            row_check = {split: rows for split in (task.split, task.few_shot_split) if split}
            result["tasks"][task.name] = result_building.summarize(task, own) | {"row_check": row_check}
    result["averages"] = result_building.averages(result["tasks"])
    result_building.write(target, result, questions)
    return reading.read(target, label)
