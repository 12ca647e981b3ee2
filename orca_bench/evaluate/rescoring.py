"""A result's questions and the benchmark's rows in, the same questions scored anew out, with what differs.

The requests are made again by the protocol's rules, their hash is compared, and each question is scored again from the answers
that the result stores. Its own module because it is the part of verification that runs a protocol.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orca_bench.evaluate import protocols, request_files
from orca_bench.evaluate.benchmark_rows import BenchmarkRows
from orca_bench.evaluate.protocols import Answer, Document, RequestProtocol
from orca_bench.evaluate.scoring import score_document
from orca_bench.evaluate.tasks.task import Task
from orca_bench.results.consistency import MAX_DIFFERENCES_PER_FINDING, Finding, compare_hashes, is_equal_json
from orca_bench.results.models import Question, Result

NumberedQuestion = tuple[int, Question]


@dataclass(frozen=True)
class RescoredTask:
    """What was found of one task's requests and scores, and its questions with the scores that their answers give."""

    findings: list[Finding]
    questions: list[Question]


def rescore_task(
    result: Result, task: Task, numbered_questions: Sequence[NumberedQuestion], task_rows: BenchmarkRows
) -> RescoredTask:
    """Make a task's requests again and score its questions again; `numbered_questions` has each with its line number from 1.

    Where the protocol has another version today, the scores are taken as they are.
    """
    protocol = protocols.protocol_of_result(result.protocol)
    documents_by_key = {
        (document.part_name, document.document_index): document
        for document in protocol.documents(task, task_rows, result.question_limit.of_task(task.name))
    }
    requests_finding = compare_hashes(
        f"{task.title}: requests",
        request_files.requests_sha256(documents_by_key.values()),
        str(result.tasks[task.name].requests_sha256),
    )
    if result.protocol.version != protocol.version:
        detail = (
            f"scored by version {result.protocol.version} of {protocol.name}, which is no longer scored here: taken as "
            "they are stored"
        )
        findings = [requests_finding, Finding(f"{task.title}: scores", None, detail)]
        return RescoredTask(findings, [question for _, question in numbered_questions])
    questions, score_faults = [], []
    document_keys: set[tuple[str, int]] = set()
    for line_number, question in numbered_questions:
        if (question.task, question.index) in document_keys:
            score_faults.append(
                f"line {line_number}: document {question.index} of {question.task} stands here a second time"
            )
            continue
        document_keys.add((question.task, question.index))
        rescored_question = _rescore_question(protocol, task, question, documents_by_key)
        if isinstance(rescored_question, str):
            score_faults.append(f"line {line_number}: {rescored_question}")
            continue
        # Marks come from a report on the training records, not from answers.
        for mark_name in ("overlap", "relative"):
            if (share := getattr(question, mark_name)) is not None:
                setattr(rescored_question, mark_name, share)
        questions.append(rescored_question)
        difference = _describe_difference(question, rescored_question)
        if difference is not None:
            score_faults.append(f"line {line_number} ({question.task} row {question.row}): {difference}")
    missing_count = len(documents_by_key.keys() - document_keys)
    if missing_count > 0:
        score_faults.append(f"{missing_count} questions are missing")
    omission = (
        f"; … {len(score_faults) - MAX_DIFFERENCES_PER_FINDING} more"
        if len(score_faults) > MAX_DIFFERENCES_PER_FINDING
        else ""
    )
    detail = (
        "; ".join(score_faults[:MAX_DIFFERENCES_PER_FINDING]) + omission
        if score_faults
        else f"{len(questions):,} questions"
    )
    return RescoredTask([requests_finding, Finding(f"{task.title}: scores", not score_faults, detail)], questions)


def answers_of(question: Question) -> list[Answer]:
    """The stored answers of a question, one for each of its requests."""
    unknown_values = [None] * len(question.answers)
    answer_fields = (
        question.greedy or unknown_values,
        question.whole or unknown_values,
        question.ran_out or unknown_values,
    )
    return [Answer(*answer_values) for answer_values in zip(question.answers, *answer_fields, strict=True)]


def _rescore_question(
    protocol: RequestProtocol, task: Task, question: Question, documents_by_key: Mapping[tuple[str, int], Document]
) -> Question | str:
    """The question with the score that its answers give; or why it has none."""
    document = documents_by_key.get((question.task, question.index))
    if document is None or document.row_index != question.row or len(question.answers) != len(document.requests):
        return "not a question of this protocol, rows and limit"
    answers = answers_of(question)
    try:
        return score_document(task, protocol, document, answers)
    except (TypeError, ValueError, AttributeError, IndexError):
        return "answers that cannot be scored"


def _describe_difference(question: Question, rescored_question: Question) -> str | None:
    """The first thing that the question's line says otherwise than its answers, or None."""
    recorded_json, rescored_json = question.to_json(), rescored_question.to_json()
    scored_question_keys = [key for key in rescored_json if key not in _UNSCORED_KEYS]
    for key in dict.fromkeys([*scored_question_keys, "cluster"]):
        rescored_value = rescored_json.get(key)
        if not is_equal_json(rescored_value, recorded_json.get(key)):
            return f"{key} {recorded_json.get(key)!r:.60} stored, {rescored_value!r:.60} by its answers"
    return None


#: Keys of a question that scoring does not give.
_UNSCORED_KEYS = ("task", "index", "row", "answers", "greedy", "whole", "ran_out")
