"""Documents and answers in, scored questions out: the one place where a protocol's score becomes a question.

lm-eval's tasks score each document here as it is answered, and a file of answers is scored here too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from orca_bench.evaluate.protocols import Answer, Document, RequestProtocol
from orca_bench.evaluate.request_files import RequestKey
from orca_bench.evaluate.tasks.task import Score, Task


@dataclass(frozen=True)
class Question:
    """One answered question: lm-eval task name, place in the protocol's order, row number, score, and the answers.

    Questions of one `cluster` are not independent; None where each stands alone.
    """

    task: str
    index: int
    row_number: int
    score: Score
    answers: Sequence[Answer]
    cluster: str | None = None


def score_document(task: Task, protocol: RequestProtocol, document: Document, answers: Sequence[Answer]) -> Question:
    """The scored question of a document from the answers to its requests, in order."""
    score = protocol.score(task, document, answers)
    return Question(document.task, document.index, document.row_number, score, answers, task.cluster(document.row))


def score_documents(
    task: Task, protocol: RequestProtocol, documents: Iterable[Document], answers: Mapping[RequestKey, Answer]
) -> list[Question]:
    """The scored questions of a task from the answer to each of its requests."""
    return [
        score_document(
            task,
            protocol,
            document,
            [answers[document.task, document.index, number] for number in range(len(document.requests))],
        )
        for document in documents
    ]
