"""lm-eval's result of an entry in, with its samples; our questions and the entry of the result out.

The values are lm-eval's own; standard errors and intervals are by question (stats/). Its own module because it knows nothing of
models and rows.
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orca_bench.errors import UserError
from orca_bench.evaluate.harness.harness_entries import HarnessEntry, split_of
from orca_bench.evaluate.harness.harness_questions import (
    Metric,
    count_unanswerable,
    finite,
    follows,
    json_value,
    metrics_of,
    metrics_of_tasks,
    questions_of,
)
from orca_bench.evaluate.harness.language_model import DEFAULT_SAMPLING_SEED, HarnessModel
from orca_bench.evaluate.harness.lm_eval_run import evaluate_tasks, explain_task_errors, without_samples
from orca_bench.results.harness_summary import (
    AGGREGATIONS_IN_POINTS,
    questions_of_metric,
    summarize_harness_metric,
    unit_of_values,
)
from orca_bench.results.hashing import sha256_of_json
from orca_bench.results.models import HarnessQuestion
from orca_bench.results.task_results import HarnessTask, HarnessTaskResult, MetricResult, PartResult
from orca_bench.stats.numbers import NumberEstimate, bootstrap_estimate

_DRAWS, _FEW_DRAWS = 1000, 100  # lm-eval too draws corpus metrics 100 times
_LONGEST_BOOTSTRAP_S = 20.0


@dataclass(frozen=True)
class EntryScores:
    """What was scored: the questions in order, the entry of the result, and lm-eval's own result without samples."""

    questions: list[HarnessQuestion]
    task_result: HarnessTaskResult
    lm_eval: dict[str, Any]


def run_entry(model: HarnessModel, entry: HarnessEntry, question_limit: int | None) -> EntryScores:
    """Run lm-eval's tasks of an entry, the first `question_limit` questions of each, and score them.

    Raises UserError where the code of a task fails, and where lm-eval has no finite value.
    """
    tasks = list(entry.tasks_by_name.values())
    with explain_task_errors(entry.name):
        harness_result = evaluate_tasks(model, tasks, question_limit, True, entry.groups_by_name)
    return score_entry(entry, harness_result)


def score_entry(entry: HarnessEntry, harness_result: Mapping[str, Any]) -> EntryScores:
    """The questions and the entry of the result, from lm-eval's result with samples.

    Raises UserError where lm-eval has no finite value.
    """
    samples_by_task = {name: harness_result["samples"][name] for name in entry.tasks_by_name}
    metrics_by_task = {name: metrics_of(task, samples_by_task[name]) for name, task in entry.tasks_by_name.items()}
    metric_names = _metric_names(entry, metrics_by_task, harness_result)
    main_metric = _main_metric(metric_names, metrics_by_task)
    questions = [
        question
        for name, task in entry.tasks_by_name.items()
        for question in questions_of(entry.name, task, samples_by_task[name], metrics_by_task[name], main_metric)
    ]
    metric_results, notes = {}, {}
    for name in metric_names:
        metric_results[name], notes[name] = _metric_result(entry, name, metrics_by_task, questions, harness_result)
    main = metric_results[main_metric]
    arguments = [
        json.loads(json.dumps(sample["arguments"], default=str))
        for samples in samples_by_task.values()
        for sample in samples
        if sample["filter"] == samples[0]["filter"]
    ]
    fields: dict[str, Any] = {
        "title": entry.title,
        "metric": main_metric,
        "shots": _common_value([task.get_config("num_fewshot") for task in entry.tasks_by_name.values()]),
        "n": len(questions),
        "value": main.value,
        "stderr": main.stderr,
        "interval": main.interval,
        "rows": entry.row_count,
        "requests_sha256": sha256_of_json(arguments),
        "unit": main.unit,
        "higher_is_better": main.higher_is_better,
        "harness": _description(entry, main.aggregation),
        "metrics": metric_results,
    }
    if notes[main_metric] is not None:
        fields["interval_note"] = notes[main_metric]
    flags = [flag for question in questions for flag in question.ran_out or () if flag is not None]
    if flags:
        fields["ran_out"] = sum(flags)
    if entry.group is not None:
        fields["weighting"] = _weighting(entry, main_metric)
        fields["subjects"] = _parts(entry, main_metric, main.unit, metrics_by_task, questions, harness_result)
    warnings_of_entry: list[str] = []
    document_count = sum(len({sample["doc_id"] for sample in samples}) for samples in samples_by_task.values())
    if missing_count := document_count - len(questions):
        warnings_of_entry.append(
            f"{missing_count:,} of {document_count:,} documents have no {main_metric}, and are left out"
        )
    unanswerable_count = sum(
        count_unanswerable(task, samples_by_task[name]) for name, task in entry.tasks_by_name.items()
    )
    if unanswerable_count:
        warnings_of_entry.append(
            f"the right answer of {unanswerable_count:,} of {document_count:,} questions is none of their choices (a hidden "
            "label?): they count as wrong"
        )
    if warnings_of_entry:
        fields["warnings"] = warnings_of_entry
    return EntryScores(questions, HarnessTaskResult(**fields), json_value(without_samples(dict(harness_result))))


def _metric_names(
    entry: HarnessEntry, metrics_by_task: Mapping[str, Mapping[str, Metric]], harness_result: Mapping[str, Any]
) -> list[str]:
    """The metrics that lm-eval has a finite value of, in the order of the first task that has them."""
    names = list(dict.fromkeys(name for metrics in metrics_by_task.values() for name in metrics))
    values = harness_result["results"][entry.name]
    keys = {name: _harness_key(name) for name in names}
    finite_names = [name for name in names if finite(values.get(keys[name])) is not None]
    if not finite_names:
        described = ", ".join(f"{name} {values.get(keys[name], 'none')}" for name in names) or "no metric"
        raise UserError(f"lm-eval has no value that is a number ({described})", where=entry.name)
    return finite_names


def _harness_key(name: str) -> str:
    return name if "," in name else f"{name},none"


def _main_metric(names: Sequence[str], metrics_by_task: Mapping[str, Mapping[str, Metric]]) -> str:
    """The first metric whose value follows from numbers of questions, else the first."""
    return next((name for name in names if follows(name, metrics_by_task)), names[0])


def _metric_result(
    entry: HarnessEntry,
    name: str,
    metrics_by_task: Mapping[str, Mapping[str, Metric]],
    questions: Sequence[HarnessQuestion],
    harness_result: Mapping[str, Any],
) -> tuple[MetricResult, str | None]:
    """One metric of an entry, with a note where its interval is not the usual one."""
    value = finite(harness_result["results"][entry.name][_harness_key(name)])
    assert value is not None, "only metrics with a value are asked for"
    task_metrics = metrics_of_tasks(name, metrics_by_task)
    higher_is_better = all(metric.higher_is_better for metric in task_metrics)
    aggregations = {metric.aggregation for metric in task_metrics}
    aggregation = aggregations.pop() if len(aggregations) == 1 else "several"
    scored = questions_of_metric(questions, name)
    unit = unit_of_values(name, aggregation, value, [question.score for question in scored])
    note = None
    if scored and follows(name, metrics_by_task) and aggregation != "several":
        summary = summarize_harness_metric(scored, aggregation, unit, _weighting(entry, name))
        stderr, interval = summary["stderr"], summary["interval"]
        # lm-eval sums in another order, so the last digit may lie outside of an interval without width.
        if interval is not None:
            interval = [min(interval[0], value), max(interval[1], value)]
    else:
        estimates = {metric.name: _bootstrap(metric) for metric in task_metrics} if len(task_metrics) == 1 else {}
        estimate = estimates.get(name, NumberEstimate(value, None, None))
        stderr, interval = estimate.stderr, None if estimate.interval is None else list(estimate.interval)
        note = (
            f"{name} is computed over all questions at once; no interval"
            if interval is None
            else f"{name} is computed over all questions at once; its interval is the bootstrap's, by question"
        )
    count = len(scored) if scored and len(scored) != len(questions) else None
    fields: dict[str, Any] = {
        "value": value,
        "stderr": stderr,
        "interval": interval,
        "unit": unit,
        "higher_is_better": higher_is_better,
        "aggregation": aggregation,
        **({} if count is None else {"n": count}),
    }
    return MetricResult(**fields), note


def _bootstrap(metric: Metric) -> NumberEstimate:
    """The bootstrap of a metric over documents; without an error where the metric takes too long, or no sample has it."""
    items = list(metric.items.values())
    draw_count = _FEW_DRAWS if metric.aggregation in AGGREGATIONS_IN_POINTS else _DRAWS
    start_time_s = time.monotonic()
    value = float(metric.aggregate(items))
    if (time.monotonic() - start_time_s) * draw_count > _LONGEST_BOOTSTRAP_S:
        return NumberEstimate(value, None, None)
    try:
        with warnings.catch_warnings():  # of samples that have answers of one kind only
            warnings.simplefilter("ignore")
            return bootstrap_estimate(metric.aggregate, items, draw_count)
    except Exception:  # whatever the code of a task's metric raises on a sample that lacks a kind of answer
        return NumberEstimate(value, None, None)


def _parts(
    entry: HarnessEntry,
    main_metric: str,
    unit: str,
    metrics_by_task: Mapping[str, Mapping[str, Metric]],
    questions: Sequence[HarnessQuestion],
    harness_result: Mapping[str, Any],
) -> dict[str, PartResult]:
    """The tasks of a group that have its metric, each with its own value."""
    parts = {}
    for name, metrics in metrics_by_task.items():
        own_questions = [question for question in questions if question.task == name]
        value = finite(harness_result["results"][name].get(_harness_key(main_metric)))
        if main_metric not in metrics or value is None or not own_questions:
            continue
        summary: dict[str, Any] = {"stderr": None, "interval": None}
        if follows(main_metric, {name: metrics}):
            summary = summarize_harness_metric(own_questions, metrics[main_metric].aggregation, unit, None)
        parts[name] = PartResult(
            value=value, stderr=summary["stderr"], interval=summary["interval"], n=len(own_questions)
        )
    return parts


def _weighting(entry: HarnessEntry, metric_name: str) -> str | None:
    """What counts alike in a group's value, as its file says; None of a task alone."""
    if entry.group is None:
        return None
    aggregations = entry.group.aggregate_metric_list or []
    weights = [
        aggregation.weight_by_size
        for aggregation in aggregations
        if aggregation.metric == metric_name.partition(",")[0]
    ]
    return "questions" if not weights or weights[-1] else "parts"


def _description(entry: HarnessEntry, aggregation: str) -> HarnessTask:
    tasks = list(entry.tasks_by_name.values())
    configs = [getattr(task, "config", None) for task in tasks]
    generation = _common_value([json_value(getattr(config, "generation_kwargs", None)) for config in configs])
    if generation is not None and generation.get("do_sample"):
        generation = generation | {"seed": DEFAULT_SAMPLING_SEED}
    fields = {
        "version": json_value(tasks[0].VERSION if entry.group is None else entry.group.version),
        "output_type": _common_value([task.OUTPUT_TYPE for task in tasks]),
        "dataset_path": _common_value([getattr(config, "dataset_path", None) for config in configs]),
        "dataset_name": _common_value([getattr(config, "dataset_name", None) for config in configs]),
        "split": entry.split if entry.group is not None else split_of(tasks[0]),
        "generation": generation,
    }
    known_fields: dict[str, Any] = {key: value for key, value in fields.items() if value is not None}
    return HarnessTask(aggregation=aggregation, **known_fields)


def _common_value(values: Sequence[Any]) -> Any:
    """The value that all share, else None."""
    return values[0] if values and all(value == values[0] for value in values) else None
