"""The scored questions of a task in, its value with error and interval out; and the averages of several tasks.

Its own module because evaluation writes these numbers and verification computes them again from the same questions. All are
fractions of 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from orca_bench.results.models import Average, Question, TaskResult
from orca_bench.stats import estimates
from orca_bench.suite import AVERAGE_TASKS, TaskFacts


def summarize(task: TaskFacts, questions: Sequence[Question]) -> TaskResult:
    """Value, standard error, interval and n of one task from its questions, of which there is at least one.

    A task of subjects (MMLU) is the plain mean of its subjects' scores, as on the leaderboard. `whole` is the score with the
    tokens that a protocol discarded, `ran_out` the number of texts that reached their token limit, where that is known.
    """
    scores = [question.score for question in questions]
    clusters = clusters_of(questions)
    content: dict[str, Any] = {
        "title": task.title,
        "metric": task.metric,
        "shots": task.shots,
        "n": len(scores),
        "full_size": task.full_size,
    }
    ran_out = [flag for question in questions for flag in question.ran_out or () if flag is not None]
    if ran_out:
        content["ran_out"] = sum(ran_out)
    changed = sum(question.whole_score is not None for question in questions)
    if changed:
        whole_scores = [
            question.score if question.whole_score is None else question.whole_score for question in questions
        ]
        content["whole"] = _estimate_json(estimates.mean(whole_scores, clusters)) | {"questions": changed}
    if task.subject_column is not None:
        subjects = [task.subject_of_part(question.task) for question in questions]
        content |= _estimate_json(estimates.mean(scores, strata=subjects))
        content["subjects"] = _by_subject(subjects, scores)
        return TaskResult(**content)
    estimate = estimates.mean(scores, clusters)
    content |= _estimate_json(estimate)
    if clusters is not None:
        content["clusters"] = estimate.clusters
    return TaskResult(**content)


def clusters_of(questions: Sequence[Question]) -> list[str] | None:
    """The cluster of each question, or None where one of them stands alone."""
    labels = [question.cluster for question in questions if question.cluster is not None]
    return labels if len(labels) == len(questions) else None


def averages(tasks: Mapping[str, TaskResult]) -> dict[str, Average]:
    """The averages that are reported, each the plain mean of its tasks' values; without a value where a task is missing."""
    return {
        name: _average([tasks[task] for task in names]) if all(task in tasks for task in names) else _no_average()
        for name, names in AVERAGE_TASKS.items()
    }


def _by_subject(subjects: Sequence[str], scores: Sequence[float]) -> dict[str, dict[str, Any]]:
    by_subject: dict[str, list[float]] = {}
    for subject, score in zip(subjects, scores, strict=True):
        by_subject.setdefault(subject, []).append(score)
    return {
        name: _estimate_json(estimates.mean(subject_scores)) | {"n": len(subject_scores)}
        for name, subject_scores in by_subject.items()
    }


def _estimate_json(estimate: estimates.Estimate) -> dict[str, Any]:
    return {"value": estimate.value, "stderr": estimate.stderr, "interval": [estimate.low, estimate.high]}


def _no_average() -> Average:
    return Average(value=None, stderr=None, interval=None)


def _average(entries: Sequence[TaskResult]) -> Average:
    value = sum(entry.value for entry in entries) / len(entries)
    errors = [entry.stderr for entry in entries if entry.stderr is not None]
    if len(errors) < len(entries):
        return Average(value=value, stderr=None, interval=None)
    # A task without spread still has an interval: half of it stands for two standard errors.
    widths = [error or _width(entry) / 4 for entry, error in zip(entries, errors, strict=True)]
    error = math.sqrt(sum(e * e for e in errors)) / len(entries)
    width = math.sqrt(sum(w * w for w in widths)) / len(entries)
    return Average(value=value, stderr=error, interval=estimates.normal_interval(value, width, 0.0))


def _width(entry: TaskResult) -> float:
    low, high = entry.interval or (0.0, 1.0)
    return high - low
