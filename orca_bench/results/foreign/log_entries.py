"""Scored questions of a task and what the program said of its metrics in, the entry of the result out.

How the values of questions become a metric's value is not taken from a name but computed: a metric whose value is the mean of
its questions, or their perplexity, has our standard error and interval. Any other one keeps the program's own numbers. Its own
module because logs of all programs become entries in the same way.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from orca_bench.results.harness_summary import (
    follows_from_questions,
    questions_of_metric,
    summarize_harness_metric,
    unit_of_values,
)
from orca_bench.results.models import HarnessQuestion
from orca_bench.results.task_results import HarnessTask, HarnessTaskResult, MetricResult, PartResult
from orca_bench.stats.log_likelihoods import LOG_LIKELIHOOD_AGGREGATIONS, score_log_likelihoods

#: How far a value may be from what the questions give: programs write fewer digits than they compute with.
_RELATIVE_TOLERANCE, _ABSOLUTE_TOLERANCE = 1e-6, 1e-9


@dataclass(frozen=True)
class LoggedMetric:
    """What a log says of a metric: `name` has the filter or scorer in it, `aggregation` is a name where the log has one."""

    name: str
    value: float
    stderr: float | None = None
    higher_is_better: bool = True
    aggregation: str | None = None


@dataclass
class LoggedTask:
    """A task, or a group of tasks, as a log has it.

    `parts` are the names of a group's tasks. `question_count` is the log's own. `facts` are those of `HarnessTask`, `fields`
    further ones of the entry.
    """

    name: str
    metrics: list[LoggedMetric]
    question_count: int
    main_metric: str
    questions: list[HarnessQuestion] = field(default_factory=list)
    parts: tuple[str, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)
    fields: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def build_entry(task: LoggedTask) -> HarnessTaskResult:
    """The entry of a task or group; the value is that of `main_metric`, and the questions' scores become those of it."""
    warnings = list(task.warnings)
    metrics = {metric.name: _metric_result(metric, task, warnings) for metric in task.metrics}
    main = metrics[task.main_metric]
    _set_scores(task, main)
    interval_note = None
    if not follows_from_questions(main.aggregation):
        interval_note = (
            f"{task.main_metric} is no mean of questions: the standard error is the log's own, without interval"
        )
    elif not task.questions:
        interval_note = "the log has no questions: the standard error is the log's own"
    optional_fields: dict[str, Any] = {} if interval_note is None else {"interval_note": interval_note}
    if task.parts:
        main_of_log = next(metric for metric in task.metrics if metric.name == task.main_metric)
        optional_fields["subjects"] = _part_results(task, main)
        optional_fields["weighting"] = _weighting(main_of_log, task) or "questions"
    return HarnessTaskResult(
        title=task.name,
        metric=task.main_metric,
        n=len(task.questions) or task.question_count,
        value=main.value,
        stderr=main.stderr,
        interval=main.interval,
        unit=main.unit,
        higher_is_better=main.higher_is_better,
        metrics=metrics,
        harness=HarnessTask(**task.facts, aggregation=main.aggregation),
        warnings=warnings,
        **optional_fields,
        **task.fields,
    )


def _set_scores(task: LoggedTask, main: MetricResult) -> None:
    """Give each question the score, and weight, that it has in the main metric.

    A question that the metric has no number for keeps the score that its reader gave it: whether it is right.
    """
    for question in task.questions:
        if task.main_metric in question.metrics:
            value = question.metrics[task.main_metric]
            question.score = value[0] if isinstance(value, list) else value
            if isinstance(value, list):
                question.weight = value[1]


def preferred_metric(metrics: Sequence[LoggedMetric], questions: Sequence[HarnessQuestion]) -> str:
    """The metric that stands for a task: the first one whose value follows from its questions, else the first."""
    for metric in metrics:
        if follows_from_questions(_aggregation(metric, questions)):
            return metric.name
    return metrics[0].name


def _metric_result(metric: LoggedMetric, task: LoggedTask, warnings: list[str]) -> MetricResult:
    questions = questions_of_metric(task.questions, metric.name)
    weighting = _weighting(metric, task) if task.parts else None
    if not task.parts:
        aggregation = _aggregation(metric, task.questions)
    else:
        aggregation = "mean" if weighting is not None or not task.questions else metric.aggregation or metric.name
    unit = unit_of_values(metric.name, aggregation, metric.value, [question.score for question in questions])
    fields: dict[str, Any] = {"value": metric.value, "stderr": metric.stderr, "interval": None}
    if questions and follows_from_questions(aggregation):
        computed = summarize_harness_metric(questions, aggregation, unit, weighting)
        if _is_close(computed["value"], metric.value):
            fields = computed | {"value": metric.value}
        else:
            warnings.append(
                f"{metric.name} is {metric.value:.6g} in the log's results and {computed['value']:.6g} by its questions"
            )
    if questions and len(questions) < len(task.questions):
        fields["n"] = len(questions)
    return MetricResult(**fields, unit=unit, higher_is_better=metric.higher_is_better, aggregation=aggregation)


def _aggregation(metric: LoggedMetric, questions: Sequence[HarnessQuestion]) -> str:
    """How the values of questions become the metric's, by lm-eval's names: what gives the value that the log has."""
    scored = questions_of_metric(questions, metric.name)
    if not questions:
        return metric.aggregation or "mean"
    if not scored:
        return metric.aggregation if metric.aggregation not in (None, "mean") else metric.name
    scores = [question.score for question in scored]
    has_plain_scores = all(question.weight is None for question in scored)
    if has_plain_scores:
        if _is_close(sum(scores) / len(scores), metric.value):
            return "mean"
        candidates: tuple[str, ...] = ("perplexity",)
    else:
        candidates = LOG_LIKELIHOOD_AGGREGATIONS
    weights = [question.weight or 1.0 for question in scored]
    for candidate in candidates:
        if _is_close(score_log_likelihoods(scores, weights, candidate).value, metric.value):
            return candidate
    # Scores whose mean is not the value: the log is inconsistent, unless it says that the value is no mean.
    return "mean" if has_plain_scores and metric.aggregation is None else metric.aggregation or metric.name


def _weighting(metric: LoggedMetric, task: LoggedTask) -> Literal["questions", "parts"] | None:
    """What counts alike in a group's value: what gives the value that the log has; None where neither does."""
    scores_by_part: dict[str, list[float]] = {}
    for question in questions_of_metric(task.questions, metric.name):
        if question.weight is None:
            scores_by_part.setdefault(question.task, []).append(question.score)
    if not scores_by_part:
        return None
    scores = [score for part_scores in scores_by_part.values() for score in part_scores]
    if _is_close(sum(scores) / len(scores), metric.value):
        return "questions"
    part_means = [sum(part_scores) / len(part_scores) for part_scores in scores_by_part.values()]
    return "parts" if _is_close(sum(part_means) / len(part_means), metric.value) else None


def _part_results(task: LoggedTask, main: MetricResult) -> dict[str, PartResult]:
    """The parts of a group in its main metric, those that have questions with it."""
    part_results = {}
    for part_name in task.parts:
        questions = questions_of_metric(
            (question for question in task.questions if question.task == part_name), task.main_metric
        )
        if questions:
            computed = summarize_harness_metric(questions, main.aggregation, main.unit, None)
            part_results[part_name] = PartResult(**computed, n=len(questions))
    return part_results


def _is_close(first: float, second: float) -> bool:
    return math.isclose(first, second, rel_tol=_RELATIVE_TOLERANCE, abs_tol=_ABSOLUTE_TOLERANCE)
