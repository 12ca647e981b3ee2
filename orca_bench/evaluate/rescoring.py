"""A result's questions and the benchmark's rows in, the same questions scored anew out, with what differs.

The requests are made again by the protocol's rules, their hash is compared, and each question is scored again from the answers
that the result keeps. Its own module because it is the part of verification that runs a protocol.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from orca_bench.evaluate import protocols, request_files
from orca_bench.evaluate.benchmark_rows import BenchmarkRows
from orca_bench.evaluate.protocols import Answer, Document, RequestProtocol
from orca_bench.evaluate.scoring import score_document
from orca_bench.evaluate.tasks.task import Task
from orca_bench.results.consistency import MOST_NAMED, Finding, same_json
from orca_bench.results.models import Question, Result

NumberedQuestion = tuple[int, Question]


@dataclass(frozen=True)
class Rescored:
    """What was found of one task's requests and scores, and its questions with the scores that their answers give."""

    findings: list[Finding]
    questions: list[Question]


def rescore(result: Result, task: Task, numbered: Sequence[NumberedQuestion], rows: BenchmarkRows) -> Rescored:
    """Make a task's requests again and score its questions again; `numbered` has each with its line number from 1.

    Where the protocol has another version today, the scores are taken as they are.
    """
    protocol = protocols.of_result(result.protocol)
    documents = {(d.task, d.index): d for d in protocol.documents(task, rows, result.limit)}
    requests = _requests_finding(result, task, documents.values())
    if result.protocol.version != protocol.version:
        detail = (
            f"scored by version {result.protocol.version} of {protocol.name}, which is no longer scored here: taken as "
            "they are kept"
        )
        findings = [requests, Finding(f"{task.title}: scores", None, detail)]
        return Rescored(findings, [question for _, question in numbered])
    questions, faults = [], []
    places: set[tuple[str, int]] = set()
    for number, question in numbered:
        if (question.task, question.index) in places:
            faults.append(f"line {number}: document {question.index} of {question.task} stands here a second time")
            continue
        places.add((question.task, question.index))
        rescored = _rescored(protocol, task, question, documents)
        if isinstance(rescored, str):
            faults.append(f"line {number}: {rescored}")
            continue
        questions.append(rescored)
        difference = _difference(question, rescored)
        if difference is not None:
            faults.append(f"line {number} ({question.task} row {question.row}): {difference}")
    missing = len(documents.keys() - places)
    if missing > 0:
        faults.append(f"{missing} questions are missing")
    more = f"; … {len(faults) - MOST_NAMED} more" if len(faults) > MOST_NAMED else ""
    detail = "; ".join(faults[:MOST_NAMED]) + more if faults else f"{len(questions):,} questions"
    return Rescored([requests, Finding(f"{task.title}: scores", not faults, detail)], questions)


def answers_of(question: Question) -> list[Answer]:
    """The answers that a question keeps, one for each of its requests."""
    unknown = [None] * len(question.answers)
    parts = (question.greedy or unknown, question.whole or unknown, question.ran_out or unknown)
    return [Answer(*values) for values in zip(question.answers, *parts, strict=True)]


def _requests_finding(result: Result, task: Task, documents: Iterable[Document]) -> Finding:
    digest, recorded = request_files.digest(documents), result.tasks[task.name].requests_sha256
    detail = digest[:16] if digest == recorded else f"{digest[:16]}, {str(recorded)[:16]} in the result"
    return Finding(f"{task.title}: requests", digest == recorded, detail)


def _rescored(
    protocol: RequestProtocol, task: Task, question: Question, documents: Mapping[tuple[str, int], Document]
) -> Question | str:
    """The question with the score that its answers give; or why it has none."""
    document = documents.get((question.task, question.index))
    if document is None or document.row_number != question.row or len(question.answers) != len(document.requests):
        return "not a question of this protocol, rows and limit"
    answers = answers_of(question)
    try:
        return score_document(task, protocol, document, answers)
    except (TypeError, ValueError, AttributeError, IndexError):
        return "answers that cannot be scored"


def _difference(question: Question, rescored: Question) -> str | None:
    """The first thing that the question's line says otherwise than its answers, or None."""
    recorded, scored = question.to_json(), rescored.to_json()
    names = [name for name in scored if name not in _NOT_SCORED]
    for name in dict.fromkeys([*names, "cluster"]):
        value = scored.get(name)
        if not same_json(value, recorded.get(name)):
            return f"{name} {recorded.get(name)!r:.60} kept, {value!r:.60} by its answers"
    return None


#: Keys of a question that scoring does not give.
_NOT_SCORED = ("task", "index", "row", "answers", "greedy", "whole", "ran_out")
