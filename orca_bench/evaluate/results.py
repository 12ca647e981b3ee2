"""A result: what one evaluation found, as one JSON file and one JSON Lines file of questions beside it.

The JSON holds, by task, value and standard error (fractions of 1), n, metric and shots; the protocol, the suite, the model's
fingerprint, versions, data and request hashes; and lm-eval's own result. It is written after every task, so an evaluation
that is stopped leaves a readable one that says `complete: false`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from orca_bench.evaluate.harness import Question
from orca_bench.evaluate.tasks import SUITE
from orca_bench.evaluate.tasks.base import Task
from orca_bench.files import write_json, write_json_lines

FORMAT = "orca-bench result 1"


def standard_error(values: Sequence[float]) -> float | None:
    """The standard error of a mean, sqrt(s² / n) with the sample variance s²; None for fewer than two values."""
    n = len(values)
    if n < 2:
        return None
    mean = sum(values) / n
    return math.sqrt(sum((value - mean) ** 2 for value in values) / (n - 1) / n)


def summarize(task: Task, questions: Sequence[Question]) -> dict:
    """Value, standard error and n of one task, fractions of 1.

    MMLU is the plain mean of its subjects' accuracies, as on the leaderboard; its standard error that of such a mean,
    sqrt(Σ se²) / subjects, and None where a subject has a single question.
    """
    values = [question.score.value for question in questions]
    entry = {
        "title": task.title,
        "metric": task.metric,
        "shots": task.shots,
        "n": len(values),
        "full_size": task.full_size,
    }
    if task.name != "mmlu":
        return entry | {"value": sum(values) / len(values), "stderr": standard_error(values)}
    subjects: dict[str, list[float]] = {}
    for question in questions:
        subjects.setdefault(question.task.removeprefix("mmlu_"), []).append(question.score.value)
    means = {name: sum(scores) / len(scores) for name, scores in subjects.items()}
    errors = [standard_error(scores) for scores in subjects.values()]
    known = all(error is not None for error in errors)
    return entry | {
        "value": sum(means.values()) / len(means),
        "stderr": math.sqrt(sum(e * e for e in errors)) / len(means) if known else None,
        "subjects": {name: {"value": means[name], "n": len(subjects[name])} for name in subjects},
    }


def averages(tasks: dict[str, dict]) -> dict:
    """The two averages that are reported: over all seven tasks, and over the six without DROP; None where one is missing."""
    names = [task.name for task in SUITE]

    def mean(wanted: Iterable[str]) -> dict:
        wanted = list(wanted)
        if any(name not in tasks for name in wanted):
            return {"value": None, "stderr": None}
        errors = [tasks[name]["stderr"] for name in wanted]
        error = None if None in errors else math.sqrt(sum(e * e for e in errors)) / len(wanted)
        return {"value": sum(tasks[name]["value"] for name in wanted) / len(wanted), "stderr": error}

    return {"all seven": mean(names), "six without DROP": mean(name for name in names if name != "drop")}


def write(path: Path, result: dict, questions: Sequence[Question]) -> None:
    """Write the result and, beside it, every question's prediction, gold and score."""
    write_json_lines(questions_file(path), [_line(question) for question in questions])
    write_json(path, result)


def questions_file(path: Path) -> Path:
    """Where the questions of a result file stand."""
    return path.with_suffix(".questions.jsonl")


def _line(question: Question) -> dict:
    score = question.score
    return {
        "task": question.task,
        "index": question.index,
        "row": question.row_number,
        "prediction": score.prediction,
        "gold": score.gold,
        "score": score.value,
        **score.extra,
        "answers": question.answers,
    }
