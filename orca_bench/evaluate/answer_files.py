"""A file of answers that were made elsewhere in, the answer to each request out: read, and held to the requests.

The lines are those of `orca-bench requests` with an `answer` each, and may have `greedy`, `whole` and `ran_out`. Its own
module because a file from outside can be wrong in many ways, and scoring need not know them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeGuard

from orca_bench.errors import UserError
from orca_bench.evaluate.protocols import Answer, Document, Request
from orca_bench.evaluate.request_encoding import cut
from orca_bench.evaluate.request_files import RequestKey, place_of, requests_by_key
from orca_bench.files import read_json_lines
from orca_bench.suite import task_of

_TYPE_NAMES = {str: "a text", int: "a whole number"}
_NATS = "the log-probability of the continuation in nats is needed"


@dataclass
class AnswerFile:
    """A file of answers: by request the number of its line and the line; `notes` are what a reader should know of them."""

    path: Path
    lines: dict[RequestKey, tuple[int, dict[str, Any]]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def tasks(self) -> set[str]:
        """The tasks that have an answer; MMLU's subjects are `mmlu`."""
        return {task_of(part) for part, _, _ in self.lines}


def read_answers(path: Path) -> AnswerFile:
    """Read a file of answers; raises UserError, with the line, for one that names no request or one for a second time."""
    answer_file = AnswerFile(path)
    for number, line in read_json_lines(path):
        where = f"{path}:{number}"
        for name, kind in (("task", str), ("index", int), ("request", int)):
            if name not in line:
                raise UserError(f"no '{name}'", where=where, hint="answers are the lines of `orca-bench requests`")
            if not isinstance(line[name], kind) or isinstance(line[name], bool):
                raise UserError(f"'{name}' is {line[name]!r}, not {_TYPE_NAMES[kind]}", where=where)
        if "answer" not in line:
            raise UserError("no 'answer'", where=where, hint="add a log-probability or a text to each request's line")
        key = (line["task"], line["index"], line["request"])
        if key in answer_file.lines:
            raise UserError(f"{place_of(key)} is answered a second time", where=where)
        answer_file.lines[key] = (number, line)
    if not answer_file.lines:
        raise UserError("no answers", where=path)
    return answer_file


def match_answers(
    answer_file: AnswerFile, documents: Sequence[Document], cut_texts: bool = False
) -> dict[RequestKey, Answer]:
    """The answer to each request of `documents`; raises UserError for one that is missing, of no request, or no answer.

    Where a line still has the request's strings, they must be those of the request. With `cut_texts`, a text ends where a
    stop string of its request begins.
    """
    requests = dict(requests_by_key(documents))
    unknown = next((key for key in answer_file.lines if key not in requests), None)
    if unknown is not None:
        raise UserError(
            f"{place_of(unknown)} is no request of this protocol",
            where=f"{answer_file.path}:{answer_file.lines[unknown][0]}",
            hint=_why_unknown(unknown, requests),
        )
    answers = {key: _answer(answer_file, key, request) for key, request in requests.items() if key in answer_file.lines}
    missing = [key for key in requests if key not in answers]
    if missing:
        first = ", ".join(map(place_of, missing[:5])) + (", …" if len(missing) > 5 else "")
        raise UserError(
            f"{len(missing)} of {len(requests)} answers are missing: {first}",
            where=answer_file.path,
            hint="give the --limit that the requests were made with",
        )
    if cut_texts:
        answers = {key: _cut(answer, requests[key].until) for key, answer in answers.items()}
    answer_file.notes += _notes(requests, answers)
    return answers


def _answer(answer_file: AnswerFile, key: RequestKey, request: Request) -> Answer:
    """The answer of a request's line."""
    number, line = answer_file.lines[key]
    where = f"{answer_file.path}:{number}"
    for name, expected in (
        ("context", request.context),
        ("continuation", request.continuation),
        ("until", list(request.until)),
        ("max_new_tokens", request.max_new_tokens),
    ):
        if name in line and line[name] != expected:
            raise UserError(
                f"the {name} of {place_of(key)} is not the one that this protocol makes",
                where=where,
                hint="score with the protocol, rows, limit, system message and --max-new-tokens that the requests were made with",
            )
    value, full_text = line["answer"], line.get("whole")
    greedy, hit_token_limit = (_flag(line, name, where) for name in ("greedy", "ran_out"))
    if request.continuation is None:
        if not _is_text(value):
            raise UserError(f"answer {str(value)[:60]!a} to {place_of(key)} is not a text", where=where)
        if full_text is not None and not _is_text(full_text):
            raise UserError(f"'whole' is {str(full_text)[:60]!a}, not a text", where=where)
        return Answer(value, greedy, full_text, hit_token_limit)
    if not _is_finite(value):
        raise UserError(
            f"answer {str(value)[:60]!a} to {place_of(key)} is not a finite number", where=where, hint=_NATS
        )
    return Answer(float(value), greedy)


def _flag(line: Mapping[str, Any], name: str, where: str) -> bool | None:
    value = line.get(name)
    if value is not None and not isinstance(value, bool):
        raise UserError(f"'{name}' is {value!r}, not true or false", where=where)
    return value


def _is_text(value: Any) -> TypeGuard[str]:
    """Whether a value is a text that can be written: JSON may hold half of a surrogate pair."""
    try:
        return isinstance(value, str) and value.encode() is not None
    except UnicodeEncodeError:
        return False


def _is_finite(value: Any) -> TypeGuard[float]:
    try:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # a whole number beyond float64
        return False


def _cut(answer: Answer, stops: Sequence[str]) -> Answer:
    if not isinstance(answer.value, str):
        return answer
    full_text = answer.full_text if answer.full_text is None else cut(answer.full_text, stops)
    return replace(answer, value=cut(answer.value, stops), full_text=full_text)


def _why_unknown(key: RequestKey, requests: Mapping[RequestKey, Request]) -> str:
    documents = {index for name, index, _ in requests if name == key[0]}
    if not documents:
        return f"no request is of task '{key[0]}'"
    if key[1] not in documents:
        return f"{key[0]} has {len(documents)} documents under this protocol, rows and limit"
    return "that document has other requests; were these made by another protocol?"


def _notes(requests: Mapping[RequestKey, Request], answers: Mapping[RequestKey, Answer]) -> Iterator[str]:
    positive = sum(isinstance(answer.value, float) and answer.value > 1e-3 for answer in answers.values())
    if positive:
        yield f"{positive} answers are above 0, which no log-probability is"
    uncut_count = sum(
        isinstance(answer.value, str) and any(stop in answer.value for stop in requests[key].until)
        for key, answer in answers.items()
    )
    if uncut_count:
        yield f"{uncut_count} texts hold a stop string of their request and are scored whole; `--cut-at-stop` cuts them there"
