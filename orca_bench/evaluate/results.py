"""A result: what one evaluation found, as one JSON file and one JSON Lines file of questions beside it.

The JSON holds, by task, value and standard error (fractions of 1), n, metric, shots, a hash of all requests and the warnings
that belong to the number; the protocol, the suite, the model's fingerprint, versions and data hashes; and lm-eval's own
result. It is written after every task, so an evaluation that is stopped leaves a readable one that says `complete: false`.
"""

from __future__ import annotations

import importlib.metadata
import math
import platform
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from orca_bench import __version__
from orca_bench.evaluate.protocols import Protocol
from orca_bench.evaluate.requests import digest_of
from orca_bench.evaluate.rows import Rows, Suite
from orca_bench.evaluate.scoring import Question
from orca_bench.evaluate.tasks import SUITE
from orca_bench.evaluate.tasks.base import Task
from orca_bench.files import write_json, write_json_lines

FORMAT = "orca-bench result 1"
_LIBRARIES = ("lm_eval", "torch", "transformers", "tokenizers", "sentencepiece", "datasets", "numpy")


def start(suite: Suite, protocol: Protocol, limit: int | None, model: dict) -> dict:
    """A result without tasks. `model` says what was asked: at least `name`."""
    return {
        "format": FORMAT,
        "complete": False,
        "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "suite": {"name": suite.name, "comparable": suite.comparable, "note": suite.note},
        "protocol": protocol.describe(),
        "requests_sha256": digest_of([]),
        "limit": limit,
        "model": model,
        "tasks": {},
        "averages": {},
        "data_hashes": {},
        "versions": {
            "orca_bench": __version__,
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in _LIBRARIES},
        },
        "lm_eval": {},
    }


def add(
    result: dict,
    task: Task,
    rows: Rows,
    protocol: Protocol,
    questions: Sequence[Question],
    requests_sha256: str,
    **more,
) -> dict:
    """Put a task's scored questions into a result; returns the task's entry. `more` are further facts of the entry."""
    entry = summarize(task, questions) | {"rows": len(rows.asked), "requests_sha256": requests_sha256} | more
    entry["warnings"] = protocol.warnings(task) + _whole_warning(entry)
    if result["suite"]["comparable"]:
        entry["warnings"] += _row_warnings(task, rows)
    result["tasks"][task.name] = entry
    result["data_hashes"][task.name] = rows.hashes
    result["averages"] = averages(result["tasks"])
    result["requests_sha256"] = digest_of([name, other["requests_sha256"]] for name, other in result["tasks"].items())
    return entry


def _row_warnings(task: Task, rows: Rows) -> list[str]:
    warnings = []
    if len(rows.asked) != task.full_size:
        warnings.append(f"{len(rows.asked):,} rows here and {task.full_size:,} in full")
    if task.pool and len(rows.pool) != task.pool_size:
        warnings.append(
            f"{len(rows.pool):,} rows to draw examples from here and {task.pool_size:,} in full: other examples are drawn"
        )
    return warnings


def _whole_warning(entry: dict) -> list[str]:
    if "whole" not in entry:
        return []
    whole = entry["whole"]
    return [
        f"the first tokens of {whole['questions']} answers, whose contexts were cut, are thrown away, as the harness did; "
        f"{100 * whole['value']:.2f} with them"
    ]


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
    sqrt(Σ se²) / subjects, and None where a subject has a single question. `whole` is the score with the tokens that a
    protocol threw away.
    """
    values = [question.score.value for question in questions]
    entry = {
        "title": task.title,
        "metric": task.metric,
        "shots": task.shots,
        "n": len(values),
        "full_size": task.full_size,
    }
    wholes = [question.score.extra.get("whole_score") for question in questions]
    if any(whole is not None for whole in wholes):
        kept = [value if whole is None else whole for value, whole in zip(values, wholes, strict=True)]
        entry["whole"] = {
            "value": sum(kept) / len(kept),
            "stderr": standard_error(kept),
            "questions": sum(whole is not None for whole in wholes),
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
        "answers": [answer.value for answer in question.answers],
    } | {
        name: values
        for name, values in (
            ("greedy", [answer.greedy for answer in question.answers]),
            ("whole", [answer.whole for answer in question.answers]),
        )
        if any(value is not None for value in values)
    }
