"""A results file of lm-eval with its samples in, a typed result with a question for each document out.

What lm-eval says is taken over (its own values, versions, hashes of documents and prompts); what it does not say (token ids,
hashes of weights and tokenizer) stays absent. Its own module because the keys of lm-eval's results are only here.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from orca_bench.results.foreign.lm_eval_files import read_results, results_files_in, samples_file_of
from orca_bench.results.foreign.lm_eval_samples import TaskSamples, metric_key, read_task_samples
from orca_bench.results.foreign.log_entries import LoggedMetric, LoggedTask, build_entry, preferred_metric
from orca_bench.results.foreign.log_results import ForeignLog, LoggedRun, build_log
from orca_bench.results.hashing import sha256_of_json
from orca_bench.results.task_facts import UNKNOWN_SPLIT
from orca_bench.suite import ALL_TASKS

#: lm-eval's metrics whose larger values are worse, of results that do not say it.
_LOWER_IS_BETTER = ("perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte", "brier_score", "ter")
#: What lm-eval calls how questions' values become the metric's, where a task's file does not say it.
_DEFAULT_AGGREGATION_BY_METRIC = {
    "mcc": "matthews_corrcoef",
    "f1": "f1",
    "bleu": "bleu",
    "chrf": "chrf",
    "chrf++": "chrf++",
    "ter": "ter",
    "brier_score": "brier_score",
}


def read_lm_eval_log(results_file: Path, place: Path) -> ForeignLog:
    """The result of a run, which reports call by `place`: the results file, or the folder that it is in.

    Raises UserError for JSON of another shape, and for samples that cannot be read.
    """
    content = read_results(results_file)
    groups = _groups(content)
    run = LoggedRun("lm-eval", place, "lm_eval")
    if place != results_file and (run_count := len(results_files_in(place))) > 1:
        run.notes.append(f"of {run_count} runs in this folder the newest is read: {results_file.name}")
    samples_by_task = {
        task_name: _read_samples(results_file, content, task_name, groups) for task_name in _leaf_names(content)
    }
    for task_name, part_names in [*groups.items(), *((name, ()) for name in _lone_names(content, groups))]:
        task = _logged_task(content, task_name, tuple(part_names), samples_by_task)
        if task is None:
            run.notes.append(f"{task_name} has no metric in the log")
            continue
        run.tasks[_suite_name(task_name)] = build_entry(task)
        run.questions += task.questions
        run.row_hashes |= _row_hashes(content, task_name, part_names, samples_by_task)
    without_samples = [name for name, samples in samples_by_task.items() if samples is None]
    if without_samples and len(without_samples) < len(samples_by_task):
        run.notes.append(f"no samples of {', '.join(without_samples)}")
    run.protocol = _protocol(content)
    run.model = _model(content)
    run.limit = _limit(content)
    if isinstance(content.get("date"), int | float):
        run.created = time.strftime("%Y-%m-%dT%H:%M:%S+0000", time.gmtime(content["date"]))
    run.versions = {
        name: str(content[f"{name}_version"])
        for name in ("lm_eval", "transformers")
        if content.get(f"{name}_version") is not None
    }
    return build_log(run)


def _leaf_names(content: Mapping[str, Any]) -> list[str]:
    """The tasks with questions of their own, in the log's order."""
    return [name for name in content["results"] if name in content["configs"]]


def _groups(content: Mapping[str, Any]) -> dict[str, list[str]]:
    """By group that has a value of its own, its tasks; of groups in groups the outermost, and each task in one group only."""
    children = content.get("group_subtasks") or {}
    valued_groups = [name for name in content.get("groups") or {} if children.get(name)]
    nested_groups = {child for name in valued_groups for child in children[name]}
    taken_names: set[str] = set()
    groups: dict[str, list[str]] = {}
    for name in valued_groups:
        if name in nested_groups or not _metric_names(content["groups"][name]):
            continue
        leaf_names = [
            leaf for leaf in _leaves(name, children) if leaf in content["configs"] and leaf not in taken_names
        ]
        if leaf_names:
            groups[name] = leaf_names
            taken_names |= set(leaf_names)
    return groups


def _leaves(name: str, children: Mapping[str, list[str]]) -> Iterator[str]:
    for child in children.get(name) or []:
        if children.get(child):
            yield from _leaves(child, children)
        else:
            yield child


def _lone_names(content: Mapping[str, Any], groups: Mapping[str, list[str]]) -> list[str]:
    parts = {part for part_names in groups.values() for part in part_names}
    return [name for name in _leaf_names(content) if name not in parts]


#: The tasks of the suite by lm-eval's names.
_SUITE_FACTS_BY_HARNESS_NAME = {
    facts.harness_facts.harness_task_name: facts for facts in ALL_TASKS if facts.harness_facts is not None
}


def _suite_name(task_name: str) -> str:
    """The suite's name for a task of lm-eval's name, where it has the task."""
    facts = _SUITE_FACTS_BY_HARNESS_NAME.get(task_name)
    return task_name if facts is None else facts.name


def _read_samples(
    results_file: Path, content: Mapping[str, Any], task_name: str, groups: Mapping[str, list[str]]
) -> TaskSamples | None:
    samples_file = samples_file_of(results_file, task_name)
    if samples_file is None:
        return None
    group_name = next((group for group, part_names in groups.items() if task_name in part_names), task_name)
    metric_names = _metric_names(content["results"][task_name])
    main_filter = metric_names[0][1] if metric_names else None
    part_name = task_name if group_name != task_name else _suite_name(task_name)
    return read_task_samples(samples_file, part_name, _suite_name(group_name), main_filter)


def _metric_names(results: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(metric, filter) of each value of a task or group, in the log's order."""
    names = []
    for key, value in results.items():
        metric, comma, filter_name = key.partition(",")
        if comma and not metric.endswith("_stderr") and isinstance(value, int | float) and math.isfinite(value):
            names.append((metric, filter_name))
    return names


def _logged_task(
    content: Mapping[str, Any],
    task_name: str,
    part_names: tuple[str, ...],
    samples_by_task: Mapping[str, TaskSamples | None],
) -> LoggedTask | None:
    """A task or group as the log has it; None where it has no metric."""
    results = content["groups" if part_names else "results"][task_name]
    config = content["configs"].get(part_names[0] if part_names else task_name) or {}
    metrics = [_logged_metric(content, results, config, task_name, *names) for names in _metric_names(results)]
    if not metrics:
        return None
    samples = [samples_by_task.get(name) for name in part_names or (task_name,)]
    questions = [
        question for task_samples in samples if task_samples is not None for question in task_samples.questions
    ]
    sample_count = sum(_sample_count(content, name) for name in part_names or (task_name,))
    warnings = [note for task_samples in samples if task_samples is not None for note in task_samples.notes]
    if questions and sample_count and len(questions) != sample_count:
        warnings.append(f"the log has samples of {len(questions):,} of {sample_count:,} documents")
    shots = content["n-shot"].get(task_name)
    version = content.get("versions", {}).get(task_name)
    fields: dict[str, Any] = {"shots": shots} if isinstance(shots, int) else {}
    request_hashes = [None if task_samples is None else task_samples.requests_sha256 for task_samples in samples]
    if questions and None not in request_hashes:
        fields["requests_sha256"] = request_hashes[0] if not part_names else sha256_of_json(request_hashes)
    main_metric = _suite_metric(task_name, metrics) or preferred_metric(metrics, questions)
    if len({metric.name.partition(",")[0] for metric in metrics}) < len(metrics):
        others = [metric.name for metric in metrics if metric.name != main_metric]
        warnings.append(f"the score is {main_metric}; the log has {', '.join(others)} too")
    return LoggedTask(
        name=task_name,
        metrics=metrics,
        question_count=max(1, sample_count),
        main_metric=main_metric,
        questions=questions,
        parts=part_names,
        facts={
            "program": "lm_eval",
            "version": version if isinstance(version, str | int | float) else None,
            "output_type": config.get("output_type"),
            "dataset_path": config.get("dataset_path"),
            "dataset_name": config.get("dataset_name"),
            "split": _split_of(config),
            "generation": config.get("generation_kwargs"),
        },
        fields=fields,
        warnings=warnings,
    )


def _logged_metric(
    content: Mapping[str, Any],
    results: Mapping[str, Any],
    config: Mapping[str, Any],
    task_name: str,
    metric: str,
    filter_name: str,
) -> LoggedMetric:
    stderr = results.get(f"{metric}_stderr,{filter_name}")
    higher_is_better = (content.get("higher_is_better", {}).get(task_name) or {}).get(metric)
    listed = next(
        (
            metric_entry
            for metric_entry in config.get("metric_list") or []
            if isinstance(metric_entry, dict) and metric_entry.get("metric") == metric
        ),
        {},
    )
    aggregation = listed.get("aggregation") or _DEFAULT_AGGREGATION_BY_METRIC.get(metric)
    return LoggedMetric(
        name=metric_key(metric, filter_name),
        value=float(results[f"{metric},{filter_name}"]),
        stderr=float(stderr) if isinstance(stderr, int | float) and math.isfinite(stderr) else None,
        higher_is_better=metric not in _LOWER_IS_BETTER if higher_is_better is None else bool(higher_is_better),
        aggregation=aggregation if isinstance(aggregation, str) and aggregation != "mean" else None,
    )


def _suite_metric(task_name: str, metrics: list[LoggedMetric]) -> str | None:
    """The metric that the suite takes of its own tasks, where the log has it."""
    facts = _SUITE_FACTS_BY_HARNESS_NAME.get(task_name)
    if facts is None or facts.harness_facts is None:
        return None
    name = metric_key(facts.harness_facts.metric, facts.harness_facts.filter_name)
    return name if any(metric.name == name for metric in metrics) else None


def _sample_count(content: Mapping[str, Any], task_name: str) -> int:
    counts = (content.get("n-samples") or {}).get(task_name) or {}
    return int(counts.get("effective") or counts.get("original") or 0)


def _row_hashes(
    content: Mapping[str, Any],
    task_name: str,
    part_names: Sequence[str],
    samples_by_task: Mapping[str, TaskSamples | None],
) -> dict[str, dict[str, str]]:
    """The hash of a task's documents by split, as `Result.data_hashes`; nothing where one has no hash."""
    names = part_names or [task_name]
    hashes = [None if (samples := samples_by_task.get(name)) is None else samples.documents_sha256 for name in names]
    if None in hashes:
        return {}
    config = content["configs"].get(names[0]) or {}
    split = _split_of(config) or UNKNOWN_SPLIT
    return {_suite_name(task_name): {str(split): str(hashes[0]) if len(hashes) == 1 else sha256_of_json(hashes)}}


def _split_of(config: Mapping[str, Any]) -> Any:
    """The split that the questions of a task are of, as lm-eval chooses it; None where its file names none."""
    return config.get("test_split") or config.get("validation_split")


def _protocol(content: Mapping[str, Any]) -> dict[str, Any]:
    """What two runs must have in common, as far as the log says it."""
    config = content.get("config") or {}
    shots = {_suite_name(name): count for name, count in content["n-shot"].items() if isinstance(count, int)}
    return {
        "name": "lm-eval",
        "lm_eval": content.get("lm_eval_version"),
        "shots": shots,
        "system": content.get("system_instruction"),
        "chat_template": content.get("chat_template_sha") is not None,
        "fewshot_as_multiturn": bool(content.get("fewshot_as_multiturn")),
        "generation": config.get("gen_kwargs") or None,
        "fewshot_seed": config.get("fewshot_seed"),
    }


def _model(content: Mapping[str, Any]) -> dict[str, Any]:
    config = content.get("config") or {}
    path = str(content.get("model_name") or config.get("model") or "unknown")
    parameters = config.get("model_num_parameters")
    fields = {
        "path": path,
        "name": Path(path).name if Path(path).is_absolute() else path,
        "dtype": str(config["model_dtype"]).removeprefix("torch.") if config.get("model_dtype") else None,
        "device": config.get("device"),
        "engine": {"name": f"lm-eval {config.get('model')}"},
        "revision": config.get("model_revision"),
        "commit": config.get("model_sha") or None,
        "parameters": parameters if isinstance(parameters, int) and parameters >= 0 else None,
        "chat_template_sha256": content.get("chat_template_sha"),
    }
    return {key: value for key, value in fields.items() if value is not None}


def _limit(content: Mapping[str, Any]) -> int | dict[str, int] | None:
    """The limit of each task; where it is a share of the questions, the number by task."""
    limit = (content.get("config") or {}).get("limit")
    if not isinstance(limit, int | float) or isinstance(limit, bool) or limit <= 0:
        return None
    if limit >= 1:
        return int(limit)
    return {name: max(1, _sample_count(content, name)) for name in _leaf_names(content)}
