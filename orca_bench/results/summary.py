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
    tokens that a protocol discarded, `token_limit_flags` the number of texts that reached their token limit, where that is known.
    """
    scores = [question.score for question in questions]
    clusters = clusters_of(questions)
    entry_fields: dict[str, Any] = {
        "title": task.title,
        "metric": task.metric,
        "shots": task.shots,
        "n": len(scores),
        "full_size": task.full_size,
    }
    token_limit_flags = [
        has_hit_limit for question in questions for has_hit_limit in question.ran_out or () if has_hit_limit is not None
    ]
    if token_limit_flags:
        entry_fields["ran_out"] = sum(token_limit_flags)
    changed_count = sum(question.whole_score is not None for question in questions)
    if changed_count:
        whole_scores = [
            question.score if question.whole_score is None else question.whole_score for question in questions
        ]
        entry_fields["whole"] = _estimate_json(estimates.estimate_mean(whole_scores, clusters)) | {
            "questions": changed_count
        }
    if task.subject_column is not None:
        subject_labels = [task.subject_of_part(question.task) for question in questions]
        entry_fields |= _estimate_json(estimates.estimate_mean(scores, stratum_labels=subject_labels))
        entry_fields["subjects"] = _subject_results(subject_labels, scores)
        return TaskResult(**entry_fields)
    estimate = estimates.estimate_mean(scores, clusters)
    entry_fields |= _estimate_json(estimate)
    if clusters is not None:
        entry_fields["clusters"] = estimate.cluster_count
    return TaskResult(**entry_fields)


def clusters_of(questions: Sequence[Question]) -> list[str] | None:
    """The cluster of each question, or None where one of them stands alone."""
    clusters = [question.cluster for question in questions if question.cluster is not None]
    return clusters if len(clusters) == len(questions) else None


def averages(tasks: Mapping[str, TaskResult]) -> dict[str, Average]:
    """The averages that are reported, each the plain mean of its tasks' values; without a value where a task is missing."""
    return {
        average_name: _average([tasks[task_name] for task_name in task_names])
        if all(task_name in tasks for task_name in task_names)
        else _no_average()
        for average_name, task_names in AVERAGE_TASKS.items()
    }


def _subject_results(subjects: Sequence[str], scores: Sequence[float]) -> dict[str, dict[str, Any]]:
    scores_by_subject: dict[str, list[float]] = {}
    for subject, score in zip(subjects, scores, strict=True):
        scores_by_subject.setdefault(subject, []).append(score)
    return {
        subject: _estimate_json(estimates.estimate_mean(subject_scores)) | {"n": len(subject_scores)}
        for subject, subject_scores in scores_by_subject.items()
    }


def _estimate_json(estimate: estimates.MeanScore) -> dict[str, Any]:
    return {
        "value": estimate.value,
        "stderr": estimate.stderr,
        "interval": [estimate.interval_low, estimate.interval_high],
    }


def _no_average() -> Average:
    return Average(value=None, stderr=None, interval=None)


def _average(entries: Sequence[TaskResult]) -> Average:
    mean_value = sum(entry.value for entry in entries) / len(entries)
    stderrs = [entry.stderr for entry in entries if entry.stderr is not None]
    if len(stderrs) < len(entries):
        return Average(value=mean_value, stderr=None, interval=None)
    # A task without spread still has an interval: half of it stands for two standard errors.
    positive_stderrs = [stderr or _interval_width(entry) / 4 for entry, stderr in zip(entries, stderrs, strict=True)]
    stderr = math.sqrt(sum(stderr_value * stderr_value for stderr_value in stderrs)) / len(entries)
    interval_stderr = math.sqrt(sum(positive_stderr * positive_stderr for positive_stderr in positive_stderrs)) / len(
        entries
    )
    return Average(
        value=mean_value, stderr=stderr, interval=estimates.normal_interval(mean_value, interval_stderr, 0.0)
    )


def _interval_width(entry: TaskResult) -> float:
    lower, upper = entry.interval or (0.0, 1.0)
    return upper - lower
