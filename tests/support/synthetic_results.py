"""Small results for tests of reports, with scores at random or as the test lists them; written and read as any other."""

import random

from orca_bench.results import reading, writing
from orca_bench.results.models import RESULT_FORMAT, ModelDescription, Question, Result, SuiteDescription
from orca_bench.results.protocol_description import ProtocolDescription
from orca_bench.results.summary import compute_averages, summarize_overlap, summarize_task
from orca_bench.suite import ALL_TASKS

QUESTIONS_PER_TASK = 80


def random_result(folder, label, share, seed=0, tasks=None, file=None, overlapping=None, **heading):
    """A result of 80 questions a task; each is right with probability `share`, a number or one by task.

    `overlapping` counts, by task, the first questions that are in the training records. `heading` are further parameters of
    `write_result`.
    """
    rng = random.Random(seed)
    questions = []
    for task in ALL_TASKS:
        if tasks and task.name not in tasks:
            continue
        for n in range(QUESTIONS_PER_TASK):
            part = f"mmlu_subject_{n % 4}" if task.name == "mmlu" else task.name
            score = float(rng.random() < (share[task.name] if isinstance(share, dict) else share))
            cluster = {"cluster": str(n // 2)} if task.name == "drop" else {}
            overlap = {"overlap": 1.0} if n < (overlapping or {}).get(task.name, 0) else {}
            question = Question(
                task=part, index=n, row=n, prediction=0, gold=0, score=score, answers=[], **cluster, **overlap
            )
            questions.append(question)
    if overlapping is not None:
        heading = {"compared_tasks": list(overlapping)} | heading
    return write_result(folder / (file or f"{label}.json"), label, questions, **heading)


def listed_result(target, label, questions, **heading):
    """A result, in the file `target`, of the listed questions, each (part, row, score, prediction, answers)."""
    scored = [
        Question(task=part, index=index, row=row, prediction=prediction, gold=prediction, score=score, answers=answers)
        for index, (part, row, score, prediction, answers) in enumerate(questions)
    ]
    return write_result(target, label, scored, **heading)


def write_result(
    target,
    label,
    questions,
    comparable=True,
    protocol="leaderboard",
    limit=None,
    rows="true",
    suite="s",
    compared_tasks=(),
    **model,
):
    """Write a result of a model called `label` to the file `target`, and read it again.

    `rows` is the status of the rows (true, other, not verified), `compared_tasks` are those whose entries say how many of their
    questions are in training records, and `model` are further facts of the model.
    """
    tasks = {}
    for task in ALL_TASKS:
        own = [question for question in questions if question.suite_task == task.name]
        if own:
            tasks[task.name] = summarize_task(task, own)
            tasks[task.name].row_check = {
                split: rows for split in (task.evaluation_split, task.few_shot_split) if split
            }
            if task.name in compared_tasks:
                tasks[task.name].overlap = summarize_overlap(task, own, "e" * 64)
    result = Result(
        format=RESULT_FORMAT,
        complete=True,
        limit=limit,
        protocol=ProtocolDescription(name=protocol, version=1),
        suite=SuiteDescription(name=suite, comparable=comparable),
        model=ModelDescription(**({"name": label, "path": None} | model)),
        tasks=tasks,
        averages=compute_averages(tasks),
    )
    writing.write_result(target, result, questions)
    return reading.read_with_questions(target, label)
