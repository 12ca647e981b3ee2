"""Logs of inspect_ai in, a typed result with a question for each sample out.

Each log is a task. Scores are those that inspect_ai reduced over epochs itself; values are read as inspect_ai reads them (C, I, P
and N, booleans, numbers, dictionaries). Samples are paired by their ids. Its own module because inspect_ai's log is only here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from orca_bench.counts import counted
from orca_bench.errors import UserError, join_names, one_line
from orca_bench.results.foreign.inspect_files import files_of_place, read_inspect_file
from orca_bench.results.foreign.log_entries import LoggedMetric, LoggedTask, build_entry, preferred_metric
from orca_bench.results.foreign.log_results import ForeignLog, LoggedRun, build_log
from orca_bench.results.hashing import sha256_of_json
from orca_bench.results.models import HarnessQuestion
from orca_bench.suite import TASK_BY_NAME

if TYPE_CHECKING:
    from inspect_ai.log import EvalLog, EvalSample, EvalScore
    from inspect_ai.scorer import ValueToFloat

#: Metrics that are errors of others, by inspect_ai's names.
_ERRORS_OF_METRICS = ("stderr", "std", "var", "bootstrap_stderr", "bootstrap_std")
#: Metrics that are means of the samples' values.
_MEANS = ("accuracy", "mean")
_MAX_NAMED_FILES = 3


def read_inspect_log(place: Path) -> ForeignLog:
    """The result of a log, of a folder of one model's logs, or of one model in a folder.

    Raises UserError where no log of a run that ended is there, and, for a file that is named itself, what `read_inspect_file`
    raises.
    """
    run = LoggedRun("inspect", place, "inspect_ai")
    files = files_of_place(place)
    unreadable: list[str] = []
    logs: dict[str, EvalLog] = {}
    repeated_tasks: set[str] = set()
    for file in files:
        try:
            log = read_inspect_file(file)
            _check_ended(log, file)
        except UserError as error:
            if len(files) == 1:
                raise
            unreadable.append(f"{Path(str(error.where)).name}: {error.problem}")
            continue
        if _task_name(log) in logs:
            repeated_tasks.add(_task_name(log))
        logs[_task_name(log)] = log  # the files are in the order of their times
    if unreadable:
        run.notes.append(f"left out {counted(len(unreadable), 'log')}: {join_names(unreadable, _MAX_NAMED_FILES)}")
    if repeated_tasks:
        run.notes.append(
            f"of several logs of {join_names(sorted(repeated_tasks), _MAX_NAMED_FILES)} the newest is read"
        )
    for task_name, log in logs.items():
        task = _logged_task(log, task_name)
        if task is None:
            run.notes.append(f"{task_name} has no score in the log")
            continue
        run.tasks[task_name] = build_entry(task)
        run.questions += task.questions
        documents = [question.document_sha256 for question in task.questions]
        if documents:
            run.row_hashes[task_name] = {"samples": sha256_of_json(documents)}
    if logs:
        _describe(run, logs)
    return build_log(run)


def _check_ended(log: EvalLog, file: Path) -> None:
    """Raise UserError for a log of a run that goes on or failed."""
    if log.status == "started":
        raise UserError("the run of this log goes on, or was killed", where=file, hint="read it when it has ended")
    if log.results is None:
        reason = f": {one_line(log.error.message, 120)}" if log.error is not None else ""
        raise UserError(f"the run of this log ended with '{log.status}'{reason}", where=file, hint="inspect eval-retry")


def _task_name(log: EvalLog) -> str:
    """The name of the task with the arguments that it was given; never that of a task of the suite, which has other prompts."""
    arguments = ", ".join(f"{key}={value}" for key, value in log.eval.task_args_passed.items())
    name = f"{log.eval.task}({arguments})" if arguments else str(log.eval.task)
    return f"inspect/{name}" if name in TASK_BY_NAME else name


def _describe(run: LoggedRun, logs: dict[str, EvalLog]) -> None:
    """Protocol, model, limit and versions of the run, from its logs; the first log speaks for what all have."""
    first = next(iter(logs.values()))
    run.created = str(first.eval.created)
    run.versions = {name: str(version) for name, version in first.eval.packages.items()}
    generation = first.plan.config.merge(first.eval.model_generate_config).model_dump(exclude_none=True, mode="json")
    run.protocol = {
        "name": "inspect",
        "scoring": {task_name: _scoring_text(log) for task_name, log in logs.items()},
        "generation": {key: generation[key] for key in sorted(generation) if key not in _SETTINGS_OF_THE_MACHINE},
    }
    run.model = {
        "name": first.eval.model,
        "path": first.eval.model,
        "engine": {"name": "inspect"} | ({"base_url": first.eval.model_base_url} if first.eval.model_base_url else {}),
    }
    limits = {task_name: _limit(log) for task_name, log in logs.items()}
    if any(limit is not None for limit in limits.values()):
        run.limit = {task_name: limit for task_name, limit in limits.items() if limit is not None}
        if len(set(limits.values())) == 1:
            run.limit = next(iter(limits.values()))


#: Settings of inspect_ai that change no answer.
_SETTINGS_OF_THE_MACHINE = ("max_connections", "max_retries", "timeout", "attempt_timeout", "batch", "cache")


def _limit(log: EvalLog) -> int | None:
    limit = log.eval.config.limit
    return limit[1] - limit[0] if isinstance(limit, tuple) else limit


def _scoring_text(log: EvalLog) -> str:
    """Scorers, epochs and how these are reduced, in words."""
    scorers = ", ".join(scorer.name for scorer in log.eval.scorers or [])
    epochs = log.eval.config.epochs or 1
    if epochs == 1:
        return scorers
    return f"{scorers}; {epochs} epochs reduced by {', '.join(log.eval.config.epochs_reducer or ['mean'])}"


def _logged_task(log: EvalLog, task_name: str) -> LoggedTask | None:
    """The task of a log; None where it has no metric."""
    from inspect_ai.scorer import value_to_float

    assert log.results is not None
    metrics: list[LoggedMetric] = []
    questions = _questions(log, task_name)
    for score in log.results.scores:
        score_metrics = _metrics_of(score)
        metrics += score_metrics
        _add_values(log, score, score_metrics, questions, value_to_float())
    if not metrics:
        return None
    scored = [question for question in questions.values() if question.metrics]
    for index, question in enumerate(scored):
        question.index = index
    names = {metric.name for metric in metrics}
    headline = _headline(log)
    main_metric = headline if headline in names else preferred_metric(metrics, scored)
    return LoggedTask(
        name=task_name,
        metrics=metrics,
        question_count=max(1, log.results.completed_samples // (log.eval.config.epochs or 1)),
        main_metric=main_metric,
        questions=scored,
        facts={
            "program": "inspect_ai",
            "version": log.eval.task_version,
            "dataset_path": log.eval.dataset.location or log.eval.dataset.name,
            "split": "samples",
        },
        fields={"requests_sha256": _requests_hash(log.samples or [])} if log.samples else {},
        warnings=_warnings(log, metrics, main_metric),
    )


def _metric_name(metric: str, score: str, reducer: str | None) -> str:
    """The name of a metric in a result: with its scorer, and with what reduced its epochs."""
    return ",".join(filter(None, (metric, score, reducer)))


def _headline(log: EvalLog) -> str:
    """The metric that inspect_ai itself shows for the log."""
    headline = None if log.results is None else log.results.headline
    if headline is None or headline.metric is None:
        return ""
    return _metric_name(headline.metric, headline.score or headline.scorer or "", headline.reducer)


def _metrics_of(score: EvalScore) -> list[LoggedMetric]:
    stderr = score.metrics.get("stderr")
    return [
        LoggedMetric(
            name=_metric_name(key, score.name, score.reducer),
            value=float(metric.value),
            stderr=float(stderr.value) if stderr is not None and math.isfinite(stderr.value) else None,
            aggregation=None if metric.name.rpartition("/")[2] in _MEANS else metric.name,
        )
        for key, metric in score.metrics.items()
        if metric.name.rpartition("/")[2] not in _ERRORS_OF_METRICS and math.isfinite(metric.value)
    ]


def _questions(log: EvalLog, task_name: str) -> dict[str, HarnessQuestion]:
    """By text of the sample id, a question for each sample; the answers of its epochs stand in one question."""
    places = {str(sample_id): place for place, sample_id in enumerate(log.eval.dataset.sample_ids or [])}
    questions: dict[str, HarnessQuestion] = {}
    for sample in sorted(log.samples or [], key=lambda sample: places.get(str(sample.id), len(places))):
        key = str(sample.id)
        if key in questions:
            questions[key].answers.append(sample.output.completion)
            continue
        answers = [score.answer for score in (sample.scores or {}).values() if score.answer is not None]
        questions[key] = HarnessQuestion(
            task=task_name,
            group=task_name,
            index=0,
            row=places.get(key, len(places) + len(questions)),
            prediction=answers[0] if answers else sample.output.completion,
            gold=sample.target,
            score=0.0,
            answers=[sample.output.completion],
            document_sha256=_document_hash(sample),
        )
    return questions


def _document_hash(sample: EvalSample) -> str:
    """What names the sample in another log: its id; an id that is a number may be its place only, so with its input."""
    if isinstance(sample.id, str):
        return sha256_of_json([sample.id])
    return sha256_of_json([sample.id, _input_text(sample)])


def _input_text(sample: EvalSample) -> str:
    if isinstance(sample.input, str):
        return sample.input
    return "\n".join(f"{message.role}: {message.text}" for message in sample.input)


def _requests_hash(samples: Sequence[EvalSample]) -> str:
    """The hash of what was sent before the first answer, sample by sample (of the first epoch)."""
    first_epoch = [sample for sample in samples if sample.epoch == 1]
    return sha256_of_json([str(sample.id), _sent_messages(sample)] for sample in sorted(first_epoch, key=_id_text))


def _id_text(sample: EvalSample) -> str:
    return str(sample.id)


def _sent_messages(sample: EvalSample) -> list[list[str]]:
    messages = []
    for message in sample.messages:
        if message.role == "assistant":
            break
        messages.append([message.role, message.text])
    return messages


def _add_values(
    log: EvalLog,
    score: EvalScore,
    metrics: Sequence[LoggedMetric],
    questions: dict[str, HarnessQuestion],
    to_float: ValueToFloat,
) -> None:
    """Put each sample's value of a score, as inspect_ai reduced it over the epochs, into its question."""
    for reduction in log.reductions or []:
        if reduction.scorer not in (score.scorer, score.name) or reduction.reducer != score.reducer:
            continue
        for sample_score in reduction.samples:
            question = questions.get(str(sample_score.sample_id))
            value = sample_score.value
            if isinstance(value, dict):
                value = value.get(score.name)
            if question is None or value is None or isinstance(value, list):
                continue
            number = to_float(value)
            if math.isfinite(number):
                question.metrics |= {metric.name: number for metric in metrics}


def _warnings(log: EvalLog, metrics: Sequence[LoggedMetric], main_metric: str) -> list[str]:
    """What a reader of the score must know: samples without a score, other scores, how epochs were reduced."""
    assert log.results is not None
    warnings = []
    if len({metric.name.partition(",")[2] for metric in metrics}) > 1:
        others = [metric.name for metric in metrics if metric.name != main_metric]
        warnings.append(f"the score is {main_metric}; the log has {', '.join(others)} too")
    if (epochs := log.eval.config.epochs or 1) > 1:
        reducers = ", ".join(log.eval.config.epochs_reducer or ["mean"])
        warnings.append(f"{epochs} epochs, reduced by inspect_ai ({reducers})")
    error_count = sum(sample.error is not None for sample in log.samples or [])
    if error_count:
        warnings.append(
            f"{error_count} of {counted(log.results.total_samples, 'sample')} ended in an error, without a score"
        )
    elif log.results.completed_samples < log.results.total_samples:
        warnings.append(
            f"{log.results.completed_samples} of {counted(log.results.total_samples, 'sample')} were completed"
        )
    limit_count = sum(sample.limit is not None for sample in log.samples or [])
    if limit_count:
        warnings.append(f"{counted(limit_count, 'sample')} reached a limit (tokens, time, messages)")
    if log.status != "success":
        warnings.append(f"the run ended with '{log.status}'")
    if log.invalidated:
        warnings.append("samples of the log are marked as invalid")
    return warnings
