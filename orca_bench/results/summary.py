"""The scored questions of a task in, its value with error and interval out; and the averages of several tasks.

Its own module because evaluation writes these numbers and verification computes them again from the same questions. All are
fractions of 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from orca_bench.results.models import Question
from orca_bench.results.task_results import (
    Average,
    Estimate,
    HarnessTaskResult,
    Measurement,
    Overlap,
    PartResult,
    TaskResult,
)
from orca_bench.stats import estimates
from orca_bench.suite import TASK_NAMES_BY_AVERAGE, TaskFacts


def summarize_task(task: TaskFacts, questions: Sequence[Question]) -> TaskResult:
    """Value, standard error, interval and n of one task from its questions, of which there is at least one.

    A task of subjects (MMLU) is the plain mean of its subjects' scores, as on the leaderboard. `whole` is the score with the
    tokens that a protocol discarded, `token_limit_flags` the number of texts that reached their token limit, where that is known.
    """
    scores = [question.score for question in questions]
    cluster_labels = cluster_labels_of(questions)
    task_result_fields: dict[str, Any] = {
        "title": task.title,
        "metric": task.metric,
        "shots": task.shots,
        "n": len(scores),
        "full_size": task.full_question_count,
    }
    token_limit_flags = [
        has_hit_limit for question in questions for has_hit_limit in question.ran_out or () if has_hit_limit is not None
    ]
    if token_limit_flags:
        task_result_fields["ran_out"] = sum(token_limit_flags)
    changed_answer_count = sum(question.whole_score is not None for question in questions)
    if changed_answer_count:
        whole_answer_scores = [
            question.score if question.whole_score is None else question.whole_score for question in questions
        ]
        task_result_fields["whole"] = _mean_score_json(estimates.estimate_mean(whole_answer_scores, cluster_labels)) | {
            "questions": changed_answer_count
        }
    mean_score = _estimate_value(task, questions)
    task_result_fields |= _mean_score_json(mean_score)
    if task.subject_column is not None:
        subject_labels = [task.subject_of_part(question.task) for question in questions]
        task_result_fields["subjects"] = _subject_results(subject_labels, scores)
    elif cluster_labels is not None:
        task_result_fields["clusters"] = mean_score.cluster_count
    return TaskResult(**task_result_fields)


def summarize_overlap(task: TaskFacts, questions: Sequence[Question], report_sha256: str) -> Overlap:
    """How many of a task's questions are marked as overlapping with the training records, and the value of the others.

    The value is estimated as the task's own. Of MMLU it is the mean of the subjects that have other questions.
    """
    other_questions = [question for question in questions if question.overlap is None]
    without = _mean_score_json(_estimate_value(task, other_questions)) if other_questions else None
    subject_fields: dict[str, Any] = {}
    if task.subject_column is not None and without is not None:
        all_count, other_count = (len({question.task for question in some}) for some in (questions, other_questions))
        subject_fields = {"subjects": other_count} if other_count < all_count else {}
    return Overlap(
        questions=len(questions) - len(other_questions),
        without=None if without is None else Estimate(**without),
        relatives=sum(question.relative is not None for question in questions),
        report_sha256=report_sha256,
        **subject_fields,
    )


def _estimate_value(task: TaskFacts, questions: Sequence[Question]) -> estimates.MeanScore:
    """The value of a task with its error: the plain mean of its subjects' scores, where it has subjects."""
    scores = [question.score for question in questions]
    if task.subject_column is not None:
        subject_labels = [task.subject_of_part(question.task) for question in questions]
        return estimates.estimate_mean(scores, stratum_labels=subject_labels)
    return estimates.estimate_mean(scores, cluster_labels_of(questions))


def cluster_labels_of(questions: Sequence[Question]) -> list[str] | None:
    """The cluster of each question, or None where one of them stands alone."""
    cluster_labels = [question.cluster for question in questions if question.cluster is not None]
    return cluster_labels if len(cluster_labels) == len(questions) else None


def score_interval(score: TaskResult | PartResult) -> tuple[float, float]:
    """The 95 % interval of a score; from its standard error, or its counts, where an earlier version wrote none.

    It contains the score, which that of an edited result need not.
    """
    independent_count = (score.clusters if isinstance(score, TaskResult) else None) or score.n
    if score.interval is not None:
        low, high = score.interval
    elif isinstance(score, HarnessTaskResult):
        low = high = score.value
    elif score.stderr:
        low, high = estimates.normal_interval(score.value, score.stderr, 0.0)
    else:
        low, high = estimates.wilson_interval(score.value, independent_count)
    return min(low, score.value), max(high, score.value)


def compute_averages(task_results: Mapping[str, TaskResult]) -> dict[str, Average]:
    """The averages that are reported, each the plain mean of its tasks' values; without a value where a task is missing."""
    return {
        average_name: mean_of_tasks([task_results[task_name] for task_name in task_names])
        if all(task_name in task_results for task_name in task_names)
        else _average_without_value()
        for average_name, task_names in TASK_NAMES_BY_AVERAGE.items()
    }


def _subject_results(subject_labels: Sequence[str], scores: Sequence[float]) -> dict[str, dict[str, Any]]:
    scores_by_subject: dict[str, list[float]] = {}
    for subject, score in zip(subject_labels, scores, strict=True):
        scores_by_subject.setdefault(subject, []).append(score)
    return {
        subject: _mean_score_json(estimates.estimate_mean(subject_scores)) | {"n": len(subject_scores)}
        for subject, subject_scores in scores_by_subject.items()
    }


def _mean_score_json(mean_score: estimates.MeanScore) -> dict[str, Any]:
    return {
        "value": mean_score.value,
        "stderr": mean_score.stderr,
        "interval": [mean_score.interval_low, mean_score.interval_high],
    }


def _average_without_value() -> Average:
    return Average(value=None, stderr=None, interval=None)


def mean_of_tasks(task_results: Sequence[Measurement]) -> Average:
    """The plain mean of some tasks' values with its standard error, and an interval that has a width."""
    mean_value = sum(task_result.value for task_result in task_results) / len(task_results)
    task_stderrs = [task_result.stderr for task_result in task_results if task_result.stderr is not None]
    if len(task_stderrs) < len(task_results):
        return Average(value=mean_value, stderr=None, interval=None)
    # A task without spread still has an interval: half of it stands for two standard errors.
    nonzero_stderrs = [
        task_stderr or _interval_width(task_result) / 4
        for task_result, task_stderr in zip(task_results, task_stderrs, strict=True)
    ]
    average_stderr = math.sqrt(sum(task_stderr * task_stderr for task_stderr in task_stderrs)) / len(task_results)
    stderr_for_interval = math.sqrt(sum(nonzero_stderr * nonzero_stderr for nonzero_stderr in nonzero_stderrs)) / len(
        task_results
    )
    return Average(
        value=mean_value,
        stderr=average_stderr,
        interval=estimates.normal_interval(mean_value, stderr_for_interval, 0.0),
    )


def _interval_width(task_result: Measurement) -> float:
    lower, upper = task_result.interval or (0.0, 1.0)
    return upper - lower
