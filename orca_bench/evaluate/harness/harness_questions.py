"""Samples of one of lm-eval's tasks in, its metrics and our questions out.

Its own module because it is about single documents, and harness_scores.py about the value of an entry.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lm_eval.api import metrics as harness_metrics
from lm_eval.api.task import Task as HarnessTaskObject

from orca_bench.evaluate.harness.lm_eval_instances import answer_of
from orca_bench.evaluate.protocols import Answer
from orca_bench.results.harness_summary import follows_from_questions
from orca_bench.results.models import HarnessQuestion
from orca_bench.stats.log_likelihoods import BITS_PER_BYTE, PERPLEXITY, WEIGHTED_PERPLEXITY

#: The aggregations of lm_eval/api/metrics.py by their functions; others are called as their functions are.
_NAME_BY_AGGREGATION: dict[Callable[..., Any], str] = {
    harness_metrics.mean: "mean",
    harness_metrics.nanmean: "nanmean",
    harness_metrics.perplexity: PERPLEXITY,
    harness_metrics.weighted_perplexity: WEIGHTED_PERPLEXITY,
    harness_metrics.bits_per_byte: BITS_PER_BYTE,
    harness_metrics.f1_score: "f1",
    harness_metrics.matthews_corrcoef: "matthews_corrcoef",
    harness_metrics.bleu: "bleu",
    harness_metrics.chrf: "chrf",
    harness_metrics.chrfpp: "chrf++",
    harness_metrics.ter: "ter",
}


@dataclass(frozen=True)
class Metric:
    """A metric of one task of lm-eval: its name in a result, lm-eval's key, its aggregation, and its items by document."""

    name: str
    harness_key: str
    aggregation: str
    aggregate: Callable[[Sequence[Any]], float]
    higher_is_better: bool
    items: dict[int, Any]


def metrics_of(task: HarnessTaskObject, samples: Sequence[Mapping[str, Any]]) -> dict[str, Metric]:
    """The metrics of a task by name, in lm-eval's order."""
    aggregations, directions = task.aggregation(), task.higher_is_better()
    metrics: dict[str, Metric] = {}
    for sample in samples:
        for metric_name in sample["metrics"]:
            name = metric_name if sample["filter"] == "none" else f"{metric_name},{sample['filter']}"
            if name not in metrics:
                aggregate = aggregations.get(metric_name, harness_metrics.mean)
                metrics[name] = Metric(
                    name,
                    f"{metric_name},{sample['filter']}",
                    _NAME_BY_AGGREGATION.get(aggregate) or str(getattr(aggregate, "__name__", metric_name)),
                    aggregate,
                    directions.get(metric_name) is not False,
                    {},
                )
            metrics[name].items[sample["doc_id"]] = sample[metric_name]
    return metrics


def metrics_of_tasks(name: str, metrics_by_task: Mapping[str, Mapping[str, Metric]]) -> list[Metric]:
    """A metric as each task has it that has it."""
    return [metrics[name] for metrics in metrics_by_task.values() if name in metrics]


def follows(name: str, metrics_by_task: Mapping[str, Mapping[str, Metric]]) -> bool:
    """Whether each task's value of a metric follows from its questions: they have numbers, and it is their mean, say."""
    return all(
        follows_from_questions(metric.aggregation) and all(_number(item) is not None for item in metric.items.values())
        for metric in metrics_of_tasks(name, metrics_by_task)
    )


def questions_of(
    entry_name: str,
    task: HarnessTaskObject,
    samples: Sequence[Mapping[str, Any]],
    metrics: Mapping[str, Metric],
    main_metric: str,
) -> Iterator[HarnessQuestion]:
    """The questions of one task in lm-eval's order; a document without the main metric has none."""
    first_samples = {sample["doc_id"]: sample for sample in reversed(samples)}
    main_items = metrics[main_metric].items if main_metric in metrics else {}
    has_scores = follows(main_metric, {task.task_name: metrics})
    for document_index in sorted(first_samples):
        if document_index not in main_items:
            continue
        sample = first_samples[document_index]
        score = _number(main_items[document_index]) if has_scores else None
        if score is None:
            score = float(_is_right(main_items[document_index]))
        answers = [answer_of(response) for responses in sample["resps"] for response in responses]
        fields: dict[str, Any] = {
            "task": task.task_name,
            "index": document_index,
            "row": document_index,
            "prediction": _prediction(task, sample, answers),
            "gold": json_value(sample["target"]),
            "score": score[0] if isinstance(score, list) else score,
            "answers": [answer.logprob_or_text for answer in answers],
            **_flags(answers),
            "group": entry_name,
            **({"weight": score[1]} if isinstance(score, list) else {}),
            "metrics": {
                metric.name: number
                for metric in metrics.values()
                if document_index in metric.items
                and follows_from_questions(metric.aggregation)
                and (number := _number(metric.items[document_index])) is not None
            },
            "document_sha256": sample["doc_hash"],
        }
        yield HarnessQuestion.model_validate(fields)


def _flags(answers: Sequence[Answer]) -> dict[str, list[Any]]:
    flags = {
        "greedy": [answer.is_greedy for answer in answers],
        "ran_out": [answer.hit_token_limit for answer in answers],
    }
    return {name: values for name, values in flags.items() if any(value is not None for value in values)}


def _prediction(task: HarnessTaskObject, sample: Mapping[str, Any], answers: Sequence[Answer]) -> Any:
    """The choice with the highest log-probability, or the text that a filter read; None where there is neither."""
    if task.OUTPUT_TYPE == "multiple_choice":
        log_probabilities = [answer.log_probability for answer in answers]
        log_probabilities = log_probabilities[: _choice_count(sample)]
        return max(range(len(log_probabilities)), key=log_probabilities.__getitem__) if log_probabilities else None
    return json_value(sample["filtered_resps"][0]) if task.OUTPUT_TYPE == "generate_until" else None


def count_unanswerable(task: HarnessTaskObject, samples: Sequence[Mapping[str, Any]]) -> int:
    """How many questions have a right answer that is none of their choices, as hidden test labels are (-1, say)."""
    if task.OUTPUT_TYPE != "multiple_choice" or getattr(task, "multiple_input", 0):
        return 0
    first_filter = samples[0]["filter"] if samples else None
    return sum(
        isinstance(sample["target"], int)
        and not isinstance(sample["target"], bool)
        and not 0 <= sample["target"] < _choice_count(sample)
        for sample in samples
        if sample["filter"] == first_filter
    )


def _choice_count(sample: Mapping[str, Any]) -> int:
    """How many choices a question has; with mutual information each has a second request, without the question."""
    request_count = len(sample["resps"])
    return request_count // 2 if "acc_mutual_info" in sample["metrics"] else request_count


def _number(item: Any) -> float | list[float] | None:
    """What lm-eval has of a document: a finite number, or a log-likelihood with its weight; None for anything else."""
    if isinstance(item, tuple | list) and len(item) == 2 and not isinstance(item[0], str | bool):
        parts = [finite(part) for part in item]
        return [part for part in parts if part is not None] if None not in parts and (parts[1] or 0) >= 0 else None
    return finite(item)


def finite(value: Any) -> float | None:
    """A number that is finite, None for anything else."""
    if isinstance(value, str | bytes) or value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _is_right(item: Any) -> bool:
    """Whether the two things that a metric compares are equal; it says no more of a single question."""
    return isinstance(item, tuple | list) and len(item) == 2 and bool(item[0] == item[1])


def json_value(value: Any) -> Any:
    """A value as JSON has it; what JSON has not, as a number that is not finite, as text."""
    return json.loads(json.dumps(value, default=str), parse_constant=str)
