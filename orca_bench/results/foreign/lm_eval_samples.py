"""The samples that lm-eval logged of a task in, a question for each document out.

A sample is a line for each document and filter; the filters' metrics become one question's, by names such as
`exact_match,strict-match`. Its own module because the shapes of lm-eval's samples are only here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orca_bench.counts import counted
from orca_bench.errors import UserError
from orca_bench.results.foreign.lm_eval_files import read_sample_lines
from orca_bench.results.hashing import sha256_of_json
from orca_bench.results.models import HarnessQuestion

_NO_FILTER = "none"


@dataclass
class TaskSamples:
    """The questions of a task by document number, and what is to be said of them.

    `requests_sha256` is the hash of all requests, None where the log has none; `documents_sha256` that of all documents with
    their numbers, None where a document has no hash.
    """

    questions: list[HarnessQuestion] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    requests_sha256: str | None = None
    documents_sha256: str | None = None


def metric_key(metric: str, filter_name: str) -> str:
    """The name of a metric in a result: with its filter, where that is one."""
    return metric if filter_name == _NO_FILTER else f"{metric},{filter_name}"


def read_task_samples(samples_file: Path, task_name: str, group_name: str, main_filter: str | None) -> TaskSamples:
    """The questions in a file of samples; `main_filter` is the filter whose answer is shown as the prediction.

    Raises UserError, with the line, for a sample without the keys that lm-eval 0.4 writes.
    """
    question_by_document: dict[int, HarnessQuestion] = {}
    request_by_document: dict[int, Any] = {}
    seen_filters: set[tuple[int, str]] = set()
    repeated_count = 0
    for line_number, sample in read_sample_lines(samples_file):
        where = f"{samples_file}:{line_number}"
        document_number, filter_name = sample.get("doc_id"), str(sample.get("filter", _NO_FILTER))
        if not isinstance(document_number, int) or "resps" not in sample:
            missing_key = "doc_id" if not isinstance(document_number, int) else "resps"
            raise UserError(f"a sample without '{missing_key}'", where=where, hint="samples of lm-eval 0.4 are read")
        if (document_number, filter_name) in seen_filters:
            repeated_count += 1
            continue
        seen_filters.add((document_number, filter_name))
        question = question_by_document.get(document_number)
        if question is None:
            question = question_by_document[document_number] = _question(sample, task_name, group_name)
            request_by_document[document_number] = _requests(sample)
        elif filter_name == main_filter:
            question.prediction, question.score = _prediction(sample), _rightness(sample)
        question.metrics |= _metric_values(sample, filter_name)
    questions = [question_by_document[number] for number in sorted(question_by_document)]
    for index, question in enumerate(questions):
        question.index = index
    notes = [f"{counted(repeated_count, 'line')} of {samples_file.name} repeat a document"] if repeated_count else []
    requests = [request_by_document[question.row] for question in questions]
    hashes = [(question.row, question.document_sha256) for question in questions]
    return TaskSamples(
        questions,
        notes,
        None if None in requests else sha256_of_json(requests),
        None if any(document_hash is None for _, document_hash in hashes) else sha256_of_json(hashes),
    )


def _question(sample: Mapping[str, Any], task_name: str, group_name: str) -> HarnessQuestion:
    log_probabilities, greedy = _choices(sample["resps"])
    fields: dict[str, Any] = {"greedy": greedy} if greedy else {}
    if log_probabilities is None:
        answers: list[Any] = [text for responses in sample["resps"] for text in _texts(responses)]
    else:
        answers = log_probabilities
    document_hash = sample.get("doc_hash")
    if isinstance(document_hash, str):
        fields["document_sha256"] = document_hash
    return HarnessQuestion(
        task=task_name,
        group=group_name,
        index=0,
        row=sample["doc_id"],
        prediction=_prediction(sample),
        gold=_gold(sample.get("target")),
        score=_rightness(sample),
        answers=answers,
        metrics={},
        **fields,
    )


def _choices(responses: Sequence[Any]) -> tuple[list[float] | None, list[bool | None]]:
    """The log-probabilities of the requests, nats, and whether each is greedy; None where the responses are texts.

    lm-eval writes a response as [["-12.5", "False"]], that of a rolling request as ["-12.5"], all as texts.
    """
    pairs = [repeats[0] if isinstance(repeats, list) and repeats else repeats for repeats in responses]
    if pairs and all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
        numbers = [_number(pair[0]) for pair in pairs]
        if None not in numbers:
            return [float(number) for number in numbers if number is not None], [
                str(pair[1]) == "True" for pair in pairs
            ]
    return None, []


def _texts(repeats: Any) -> list[str]:
    return [str(text) for text in repeats] if isinstance(repeats, list) else [str(repeats)]


def _prediction(sample: Mapping[str, Any]) -> Any:
    """The number of the likeliest choice, or the text that the filter left."""
    log_probabilities, _ = _choices(sample["resps"])
    if log_probabilities is not None:
        if len(log_probabilities) == 1:
            return None
        return max(range(len(log_probabilities)), key=log_probabilities.__getitem__)
    filtered = sample.get("filtered_resps")
    if isinstance(filtered, list) and len(filtered) == 1:
        return filtered[0][0] if isinstance(filtered[0], list) and filtered[0] else filtered[0]
    return filtered


def _gold(target: Any) -> Any:
    """The target, which lm-eval writes as a text; the number of a choice as a number."""
    return int(target) if isinstance(target, str) and target.isdecimal() and len(target) < 4 else target


def _rightness(sample: Mapping[str, Any]) -> float:
    """1 where the first metric that is a pair of a right and a given answer has twice the same, else 0."""
    for metric in sample.get("metrics", ()):
        value = sample.get(metric)
        if isinstance(value, list) and len(value) == 2:
            return float(value[0] == value[1])
    return 0.0


def _metric_values(sample: Mapping[str, Any], filter_name: str) -> dict[str, float | list[float]]:
    """The numbers of the sample's metrics; a pair is a log-likelihood and its words or bytes. Others are left out."""
    values: dict[str, float | list[float]] = {}
    for metric in sample.get("metrics", ()):
        value = sample.get(metric)
        if not isinstance(value, str) and (number := _number(value)) is not None:
            values[metric_key(str(metric), filter_name)] = number
        elif isinstance(value, list) and len(value) == 2:
            log_likelihood, weight = _number(value[0]), _number(value[1])
            if isinstance(value[0], float) and log_likelihood is not None and weight is not None and weight > 0:
                values[metric_key(str(metric), filter_name)] = [log_likelihood, weight]
    return values


def _number(value: Any) -> float | None:
    """A finite number, of JSON or as a text; None for anything else."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool | int | float) and math.isfinite(value):
        return float(value)
    return None


def _requests(sample: Mapping[str, Any]) -> Any:
    """The requests of a document: their strings, else lm-eval's hashes of them; None where it has neither."""
    if sample.get("arguments"):
        return sample["arguments"]
    if "prompt_hash" in sample:
        return [sample["prompt_hash"], sample.get("target_hash")]
    return None
