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
from orca_bench.evaluate.request_encoding import cut_at_stop_strings
from orca_bench.evaluate.request_files import RequestKey, keyed_requests, request_key_text
from orca_bench.files import read_json_lines
from orca_bench.suite import task_name_of_part

_NAMES_BY_TYPE = {str: "a text", int: "a whole number"}
_LOG_PROBABILITY_HINT = "the log-probability of the continuation in nats is needed"


@dataclass
class AnswerFile:
    """A file of answers: by request the number of its line and the line; `reader_notes` are what a reader should know of them."""

    answers_path: Path
    numbered_lines_by_key: dict[RequestKey, tuple[int, dict[str, Any]]] = field(default_factory=dict)
    reader_notes: list[str] = field(default_factory=list)

    def task_names(self) -> set[str]:
        """The tasks that have an answer; MMLU's subjects are `mmlu`."""
        return {task_name_of_part(part_name) for part_name, _, _ in self.numbered_lines_by_key}


def read_answers(answers_path: Path) -> AnswerFile:
    """Read a file of answers; raises UserError, with the line, for one that names no request or one for a second time."""
    answer_file = AnswerFile(answers_path)
    for line_number, line_fields in read_json_lines(answers_path):
        line_place = f"{answers_path}:{line_number}"
        for field_name, expected_type in (("task", str), ("index", int), ("request", int)):
            if field_name not in line_fields:
                raise UserError(
                    f"no '{field_name}'", where=line_place, hint="answers are the lines of `orca-bench requests`"
                )
            if not isinstance(line_fields[field_name], expected_type) or isinstance(line_fields[field_name], bool):
                raise UserError(
                    f"'{field_name}' is {line_fields[field_name]!r}, not {_NAMES_BY_TYPE[expected_type]}",
                    where=line_place,
                )
        if "answer" not in line_fields:
            raise UserError(
                "no 'answer'", where=line_place, hint="add a log-probability or a text to each request's line"
            )
        request_key = (line_fields["task"], line_fields["index"], line_fields["request"])
        if request_key in answer_file.numbered_lines_by_key:
            raise UserError(f"{request_key_text(request_key)} is answered a second time", where=line_place)
        answer_file.numbered_lines_by_key[request_key] = (line_number, line_fields)
    if not answer_file.numbered_lines_by_key:
        raise UserError("no answers", where=answers_path)
    return answer_file


def match_answers(
    answer_file: AnswerFile, documents: Sequence[Document], should_cut_texts: bool = False
) -> dict[RequestKey, Answer]:
    """The answer to each request of `documents`; raises UserError for one that is missing, of no request, or no answer.

    Where a line still has the request's strings, they must be those of the request. With `should_cut_texts`, a text ends where a
    stop string of its request begins.
    """
    requests_by_key = dict(keyed_requests(documents))
    unknown_key = next(
        (request_key for request_key in answer_file.numbered_lines_by_key if request_key not in requests_by_key),
        None,
    )
    if unknown_key is not None:
        raise UserError(
            f"{request_key_text(unknown_key)} is no request of this protocol",
            where=f"{answer_file.answers_path}:{answer_file.numbered_lines_by_key[unknown_key][0]}",
            hint=_unknown_key_hint(unknown_key, requests_by_key),
        )
    answers_by_key = {
        request_key: _answer_of_line(answer_file, request_key, request)
        for request_key, request in requests_by_key.items()
        if request_key in answer_file.numbered_lines_by_key
    }
    missing_keys = [request_key for request_key in requests_by_key if request_key not in answers_by_key]
    if missing_keys:
        first_missing = ", ".join(map(request_key_text, missing_keys[:5])) + (", …" if len(missing_keys) > 5 else "")
        raise UserError(
            f"{len(missing_keys)} of {len(requests_by_key)} answers are missing: {first_missing}",
            where=answer_file.answers_path,
            hint="give the --limit that the requests were made with",
        )
    if should_cut_texts:
        answers_by_key = {
            request_key: _cut_answer(answer, requests_by_key[request_key].stop_strings)
            for request_key, answer in answers_by_key.items()
        }
    answer_file.reader_notes += _answer_notes(requests_by_key, answers_by_key)
    return answers_by_key


def _answer_of_line(answer_file: AnswerFile, request_key: RequestKey, request: Request) -> Answer:
    """The answer of a request's line."""
    line_number, line_fields = answer_file.numbered_lines_by_key[request_key]
    line_place = f"{answer_file.answers_path}:{line_number}"
    for field_name, expected_value in (
        ("context", request.context),
        ("continuation", request.continuation),
        ("until", list(request.stop_strings)),
        ("max_new_tokens", request.max_new_tokens),
    ):
        if field_name in line_fields and line_fields[field_name] != expected_value:
            raise UserError(
                f"the {field_name} of {request_key_text(request_key)} is not the one that this protocol makes",
                where=line_place,
                hint="score with the protocol, rows, limit, system message and --max-new-tokens that the requests were made with",
            )
    answer_value, full_text = line_fields["answer"], line_fields.get("whole")
    greedy, hit_token_limit = (
        _optional_bool(line_fields, field_name, line_place) for field_name in ("greedy", "ran_out")
    )
    if request.continuation is None:
        if not _is_encodable_text(answer_value):
            raise UserError(
                f"answer {str(answer_value)[:60]!a} to {request_key_text(request_key)} is not a text", where=line_place
            )
        if full_text is not None and not _is_encodable_text(full_text):
            raise UserError(f"'whole' is {str(full_text)[:60]!a}, not a text", where=line_place)
        return Answer(answer_value, greedy, full_text, hit_token_limit)
    if not _is_finite(answer_value):
        raise UserError(
            f"answer {str(answer_value)[:60]!a} to {request_key_text(request_key)} is not a finite number",
            where=line_place,
            hint=_LOG_PROBABILITY_HINT,
        )
    return Answer(float(answer_value), greedy)


def _optional_bool(line_fields: Mapping[str, Any], field_name: str, line_place: str) -> bool | None:
    flag_value = line_fields.get(field_name)
    if flag_value is not None and not isinstance(flag_value, bool):
        raise UserError(f"'{field_name}' is {flag_value!r}, not true or false", where=line_place)
    return flag_value


def _is_encodable_text(value: Any) -> TypeGuard[str]:
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


def _cut_answer(answer: Answer, stop_strings: Sequence[str]) -> Answer:
    if not isinstance(answer.logprob_or_text, str):
        return answer
    full_text = answer.full_text if answer.full_text is None else cut_at_stop_strings(answer.full_text, stop_strings)
    return replace(
        answer, logprob_or_text=cut_at_stop_strings(answer.logprob_or_text, stop_strings), full_text=full_text
    )


def _unknown_key_hint(key: RequestKey, requests_by_key: Mapping[RequestKey, Request]) -> str:
    document_indices = {index for part_name, index, _ in requests_by_key if part_name == key[0]}
    if not document_indices:
        return f"no request is of task '{key[0]}'"
    if key[1] not in document_indices:
        return f"{key[0]} has {len(document_indices)} documents under this protocol, rows and limit"
    return "that document has other requests; were these made by another protocol?"


def _answer_notes(
    requests_by_key: Mapping[RequestKey, Request], answers_by_key: Mapping[RequestKey, Answer]
) -> Iterator[str]:
    positive_count = sum(
        isinstance(answer.logprob_or_text, float) and answer.logprob_or_text > 1e-3
        for answer in answers_by_key.values()
    )
    if positive_count:
        yield f"{positive_count} answers are above 0, which no log-probability is"
    uncut_count = sum(
        isinstance(answer.logprob_or_text, str)
        and any(stop_string in answer.logprob_or_text for stop_string in requests_by_key[key].stop_strings)
        for key, answer in answers_by_key.items()
    )
    if uncut_count:
        yield f"{uncut_count} texts hold a stop string of their request and are scored whole; `--cut-at-stop` cuts them there"
