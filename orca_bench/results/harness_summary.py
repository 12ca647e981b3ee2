"""The scored questions of a task that the suite does not have in, its value with error and interval out.

The value of a mean, and of a perplexity, follows from the questions; that of another aggregation (f1 over all, bleu) only the
harness can compute. Its own module because evaluation writes these numbers, reports compare them by question, and verification
computes them again; summary.py does the same for the suite's tasks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from orca_bench.results.models import HarnessQuestion, Question
from orca_bench.results.task_results import HarnessTaskResult, TaskResult
from orca_bench.stats.estimates import estimate_mean
from orca_bench.stats.log_likelihoods import BITS_PER_BYTE, LOG_LIKELIHOOD_AGGREGATIONS, score_log_likelihoods
from orca_bench.stats.numbers import estimate_numbers

#: The aggregations whose value is the mean of the questions' scores.
MEAN_AGGREGATIONS = ("mean", "nanmean")
#: Those of a whole corpus whose values go from 0 to 100, and of which lm-eval's error rate may exceed it.
AGGREGATIONS_IN_POINTS = ("bleu", "chrf", "chrf++", "ter")
#: Those whose values are fractions where their metric is one by its name.
AGGREGATIONS_OF_FRACTIONS = (*MEAN_AGGREGATIONS, "median", "f1", "matthews_corrcoef", "several")
#: The names of metrics that are fractions of 1 in lm-eval's tasks, in small letters.
_FRACTION_NAME = re.compile(
    r"acc|acc_.*|.*_acc|.*accuracy|exact_match.*|.*_match|math_verify|em|.*_em|f1|f1_.*|.*_f1|mcc|matthews.*|mc[12]|"
    r"pct_.*|r@\d+|mrr|recall.*|precision.*|pass(@|_at_)\d+|contains|is_correct|correct"
)


def follows_from_questions(aggregation: str) -> bool:
    """Whether the value of an aggregation can be computed from the questions' scores and weights."""
    return aggregation in MEAN_AGGREGATIONS or aggregation in LOG_LIKELIHOOD_AGGREGATIONS


def unit_of_values(metric_name: str, aggregation: str, value: float, scores: Sequence[float]) -> str:
    """The unit of a metric, empty for fractions of 1: by its name and aggregation, so that all models have it in one unit.

    `metric_name` may end in a filter. A metric that is a fraction by its name is none where its `value`, or a question's of
    `scores`, is outside of 0…1 (of a correlation -1…1): some tasks have F1 from 0 to 100.
    """
    if aggregation == BITS_PER_BYTE:
        return "bits per byte"
    if aggregation in LOG_LIKELIHOOD_AGGREGATIONS:
        return "perplexity"
    if aggregation not in AGGREGATIONS_OF_FRACTIONS or not _FRACTION_NAME.fullmatch(
        metric_name.partition(",")[0].lower()
    ):
        return "points"
    least_value = 0.0 if follows_from_questions(aggregation) else -1.0
    return "" if all(least_value <= number <= 1 for number in (value, *scores)) else "points"


def question_values(entry: TaskResult, questions: Sequence[Question]) -> list[float]:
    """A number of each question [questions] such that the entry's value is their mean (of parts, where parts count alike).

    A score of the suite is such a number. That of a log-likelihood is by the first order of its influence on the value.
    """
    if not isinstance(entry, HarnessTaskResult) or entry.harness.aggregation not in LOG_LIKELIHOOD_AGGREGATIONS:
        return [question.score for question in questions]
    return _values_of_texts(entry.harness.aggregation, questions)


def summarize_harness_metric(
    questions: Sequence[Question], aggregation: str, unit: str, weighting: str | None
) -> dict[str, Any]:
    """`value`, `stderr` and `interval` of some questions' scores under an aggregation that follows from them.

    Fractions of 1 (no `unit`) are estimated as those of the suite. `weighting` says whether parts or questions count alike.
    """
    parts = [question.task for question in questions] if weighting == "parts" else None
    if aggregation in LOG_LIKELIHOOD_AGGREGATIONS:
        if len({question.task for question in questions}) == 1:
            score = score_log_likelihoods(*_log_likelihoods_and_weights(questions), aggregation)
            return _as_json(score.value, score.stderr, score.interval)
        estimate = estimate_numbers(_values_of_texts(aggregation, questions), parts)
        return _as_json(estimate.value, estimate.stderr, estimate.interval)
    scores = [question.score for question in questions]
    if unit:
        estimate = estimate_numbers(scores, parts)
        return _as_json(estimate.value, estimate.stderr, estimate.interval)
    mean = estimate_mean(scores, stratum_labels=parts)
    return _as_json(mean.value, mean.stderr, (mean.interval_low, mean.interval_high))


def metric_question(question: HarnessQuestion, metric_name: str) -> HarnessQuestion | None:
    """The question with its value of a metric for score and weight; None where it has none."""
    value = question.metrics.get(metric_name)
    if value is None:
        return None
    score, weight = (value[0], value[1]) if isinstance(value, list) else (value, None)
    return question.model_copy(update={"score": score, "weight": weight})


def questions_of_metric(questions: Iterable[Question], metric_name: str) -> list[HarnessQuestion]:
    """Those of some questions that have a value of a metric, each with it for score and weight."""
    return [
        metric_values
        for question in questions
        if isinstance(question, HarnessQuestion)
        and (metric_values := metric_question(question, metric_name)) is not None
    ]


def entry_of_metric(entry: HarnessTaskResult, metric_name: str) -> HarnessTaskResult:
    """The entry as it would be with another of its metrics for its value; its parts stay those of its own metric."""
    metric = entry.metrics[metric_name]
    return entry.model_copy(
        update={
            "metric": metric_name,
            "value": metric.value,
            "stderr": metric.stderr,
            "interval": metric.interval,
            "unit": metric.unit,
            "higher_is_better": metric.higher_is_better,
            "harness": entry.harness.model_copy(update={"aggregation": metric.aggregation}),
        }
    )


def _values_of_texts(aggregation: str, questions: Sequence[Question]) -> list[float]:
    """The linear values of texts, computed within each part, in the order of the questions."""
    indices_by_part: dict[str, list[int]] = {}
    for index, question in enumerate(questions):
        indices_by_part.setdefault(question.task, []).append(index)
    values = [0.0] * len(questions)
    for indices in indices_by_part.values():
        part_questions = [questions[index] for index in indices]
        score = score_log_likelihoods(*_log_likelihoods_and_weights(part_questions), aggregation)
        for index, value in zip(indices, score.text_values, strict=True):
            values[index] = value
    return values


def _log_likelihoods_and_weights(questions: Sequence[Question]) -> tuple[list[float], list[float]]:
    weights = [
        1.0 if not isinstance(question, HarnessQuestion) or question.weight is None else question.weight
        for question in questions
    ]
    return [question.score for question in questions], weights


def _as_json(value: float, stderr: float | None, interval: Sequence[float] | None) -> dict[str, Any]:
    return {"value": value, "stderr": stderr, "interval": None if interval is None else list(interval)}
