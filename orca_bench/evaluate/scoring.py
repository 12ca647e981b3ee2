"""Documents and answers in, scored questions out: the one place where a protocol's score becomes a question.

lm-eval's tasks score each document here as it is answered, and a file of answers is scored here too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from orca_bench.evaluate.protocols import Answer, Document, RequestProtocol
from orca_bench.evaluate.request_files import RequestKey
from orca_bench.evaluate.tasks.task import Score, Task
from orca_bench.results.models import Question

#: A sum of shares, as TruthfulQA's mc2, is above 1 by rounding at most this far.
_MAX_ROUNDED_SCORE = 1 + 1e-12


def score_document(task: Task, protocol: RequestProtocol, document: Document, answers: Sequence[Answer]) -> Question:
    """The scored question of a document from the answers to its requests, in order."""
    score = protocol.score(task, document, answers)
    question_key = (document.part_name, document.document_index, document.row_index)
    return question_of(question_key, score, answers, task.cluster(document.row))


def question_of(
    question_key: tuple[str, int, int], score: Score, answers: Sequence[Answer], cluster_name: str | None = None
) -> Question:
    """A line of the file of questions; `question_key` is its lm-eval task, index in the protocol's order, row number.

    Questions of one `cluster_name` are not independent; None where each stands alone. A score that rounding brings above 1 is 1.
    """
    part_name, document_index, row_number = question_key
    answer_flags: dict[str, list[Any]] = {
        "greedy": [answer.is_greedy for answer in answers],
        "whole": [answer.full_text for answer in answers],
        "ran_out": [answer.hit_token_limit for answer in answers],
    }
    question_fields: dict[str, Any] = {
        "task": part_name,
        "index": document_index,
        "row": row_number,
        "prediction": score.prediction,
        "gold": score.gold_answer,
        "score": 1.0 if 1 < score.metric_value < _MAX_ROUNDED_SCORE else score.metric_value,
        **score.extra_fields,
        "answers": [answer.logprob_or_text for answer in answers],
        **{
            flag_name: flag_values
            for flag_name, flag_values in answer_flags.items()
            if any(flag_value is not None for flag_value in flag_values)
        },
    }
    if cluster_name is not None:
        question_fields["cluster"] = cluster_name
    return Question.model_validate(question_fields)


def score_documents(
    task: Task, protocol: RequestProtocol, documents: Iterable[Document], answers_by_key: Mapping[RequestKey, Answer]
) -> list[Question]:
    """The scored questions of a task from the answer to each of its requests."""
    return [
        score_document(
            task,
            protocol,
            document,
            [
                answers_by_key[document.part_name, document.document_index, request_index]
                for request_index in range(len(document.requests))
            ],
        )
        for document in documents
    ]
