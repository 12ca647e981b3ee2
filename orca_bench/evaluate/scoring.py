"""Documents and answers in, scored questions out; and answers that were made elsewhere, read and held to what was asked."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from orca_bench.errors import UserError
from orca_bench.evaluate.protocols import Answer, Document, Request, RequestProtocol
from orca_bench.evaluate.request_encoding import cut
from orca_bench.evaluate.request_files import Key, numbered
from orca_bench.evaluate.tasks.task import Score, Task
from orca_bench.files import read_json_lines
from orca_bench.suite import task_of


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
    task: Task, protocol: RequestProtocol, documents: Iterable[Document], answers: Mapping[Key, Answer]
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


@dataclass
class Answers:
    """The answers of a file, by request, with the line that each stands in and what a reader should know of them."""

    path: Path
    lines: dict[Key, tuple[int, dict]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def tasks(self) -> set[str]:
        """The tasks that have an answer; MMLU's subjects are `mmlu`."""
        return {task_of(name) for name, _, _ in self.lines}


def read(path: Path) -> Answers:
    """Read a file of answers; raises UserError, with the line, for one without a place or with a place twice."""
    answers = Answers(path)
    for number, line in read_json_lines(path):
        where = f"{path}:{number}"
        for name, kind in (("task", str), ("index", int), ("request", int)):
            if name not in line:
                raise UserError(f"no '{name}'", where=where, hint="answers are the lines of `orca-bench requests`")
            if not isinstance(line[name], kind) or isinstance(line[name], bool):
                raise UserError(f"'{name}' is {line[name]!r}, not {_KINDS[kind]}", where=where)
        if "answer" not in line:
            raise UserError("no 'answer'", where=where, hint="add a log-probability or a text to each request's line")
        key = (line["task"], line["index"], line["request"])
        if key in answers.lines:
            raise UserError(f"{_place(key)} is answered a second time", where=where)
        answers.lines[key] = (number, line)
    if not answers.lines:
        raise UserError("no answers", where=path)
    return answers


def match(answers: Answers, documents: Sequence[Document], cut_texts: bool = False) -> dict[Key, Answer]:
    """The answer to each request of `documents`; raises UserError for one that is missing, unasked or not an answer.

    Where a line still has the request's strings, they must be those that are asked. With `cut_texts`, a text ends where a
    stop string of its request begins.
    """
    asked = dict(numbered(documents))
    unasked = next((key for key in answers.lines if key not in asked), None)
    if unasked is not None:
        raise UserError(
            f"{_place(unasked)} was not asked",
            where=f"{answers.path}:{answers.lines[unasked][0]}",
            hint=_why_unasked(unasked, asked),
        )
    found = {key: _answer(answers, key, request) for key, request in asked.items() if key in answers.lines}
    missing = [key for key in asked if key not in found]
    if missing:
        named = ", ".join(map(_place, missing[:5])) + (", …" if len(missing) > 5 else "")
        raise UserError(
            f"{len(missing)} of {len(asked)} answers are missing: {named}",
            where=answers.path,
            hint="give the --limit that the requests were made with",
        )
    if cut_texts:
        found = {key: _cut(answer, asked[key].until) for key, answer in found.items()}
    answers.notes += _notes(asked, found)
    return found


def _cut(answer: Answer, stops: Sequence[str]) -> Answer:
    if not isinstance(answer.value, str):
        return answer
    whole = answer.full_text if answer.full_text is None else cut(answer.full_text, stops)
    return replace(answer, value=cut(answer.value, stops), full_text=whole)


def _answer(answers: Answers, key: Key, request: Request) -> Answer:
    number, line = answers.lines[key]
    where = f"{answers.path}:{number}"
    for name, sent in (
        ("context", request.context),
        ("continuation", request.continuation),
        ("until", list(request.until)),
        ("max_new_tokens", request.max_new_tokens),
    ):
        if name in line and line[name] != sent:
            raise UserError(
                f"the {name} of {_place(key)} is not the one that is asked",
                where=where,
                hint="score with the protocol, rows, limit, system message and --max-new-tokens that the requests were made with",
            )
    value, whole = line["answer"], line.get("whole")
    greedy, ran_out = (_flag(line, name, where) for name in ("greedy", "ran_out"))
    if request.continuation is None:
        if not _is_text(value):
            raise UserError(f"answer {str(value)[:60]!a} to {_place(key)} is not a text", where=where)
        if whole is not None and not _is_text(whole):
            raise UserError(f"'whole' is {str(whole)[:60]!a}, not a text", where=where)
        return Answer(value, greedy, whole, ran_out)
    if not _is_finite(value):
        raise UserError(f"answer {str(value)[:60]!a} to {_place(key)} is not a finite number", where=where, hint=_NATS)
    return Answer(float(value), greedy)


def _flag(line: dict, name: str, where: str) -> bool | None:
    value = line.get(name)
    if value is not None and not isinstance(value, bool):
        raise UserError(f"'{name}' is {value!r}, not true or false", where=where)
    return value


def _is_text(value: object) -> bool:
    """Whether a value is a text that can be written: JSON may hold half of a surrogate pair."""
    try:
        return isinstance(value, str) and value.encode() is not None
    except UnicodeEncodeError:
        return False


def _is_finite(value: object) -> bool:
    try:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # a whole number beyond float64
        return False


_KINDS = {str: "a text", int: "a whole number"}
_NATS = "the log-probability of the continuation in nats is needed"


def _place(key: Key) -> str:
    return f"{key[0]} document {key[1]} request {key[2]}"


def _why_unasked(key: Key, asked: Mapping[Key, Request]) -> str:
    documents = {index for name, index, _ in asked if name == key[0]}
    if not documents:
        return f"no request of task '{key[0]}' is"
    if key[1] not in documents:
        return f"{key[0]} has {len(documents)} documents under this protocol, rows and limit"
    return "other requests of that document are; was another protocol asked?"


def _notes(asked: Mapping[Key, Request], found: Mapping[Key, Answer]) -> Iterator[str]:
    positive = sum(isinstance(a.value, float) and a.value > 1e-3 for a in found.values())
    if positive:
        yield f"{positive} answers are above 0, which no log-probability is"
    uncut = sum(isinstance(a.value, str) and any(s in a.value for s in asked[k].until) for k, a in found.items())
    if uncut:
        yield f"{uncut} texts hold a stop string of their request and are scored whole; `--cut-at-stop` cuts them there"
