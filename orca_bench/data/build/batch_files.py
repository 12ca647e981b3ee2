"""The two files of a batch: requests in, the lines of its input file out; its output and error files in, replies by attempt out.

Its own module because it knows the format of the lines (https://developers.openai.com/api/docs/guides/batch) and no network.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from orca_bench.counts import counted
from orca_bench.data.build.batch_ledger import Batch, custom_id_of
from orca_bench.data.build.data_recipe import Teacher
from orca_bench.data.build.prices import price_picodollars, worst_case_tokens
from orca_bench.data.build.teacher_replies import AttemptFailed, Consequence, Reply, explain_status, read_reply
from orca_bench.data.build.teacher_requests import TeacherRequest
from orca_bench.errors import UserError, one_line
from orca_bench.files import catch_read_errors, open_binary_replacement, parse_json_object

#: What a request's line of a batch is sent to.
ENDPOINT: Final = "/v1/chat/completions"
#: Codes of lines that the server has not asked, and does not bill.
_NOT_SENT_CODES = ("batch_expired", "batch_cancelled")
_MAX_ERROR_LENGTH = 300
#: Of an output file: far above `MOST_RESPONSE_TOKENS` of one byte each with JSON around them. A longer one is read as several.
_MAX_LINE_BYTES = 2**26


@dataclass(frozen=True)
class BatchFile:
    """What was written into an input file: requests with their worst cases in millionths of a millionth of a dollar; its hash.

    `next_request` is the first request that is not in it; None where there is no other one.
    """

    worst_cases: list[tuple[TeacherRequest, int]]
    sha256: str
    next_request: TeacherRequest | None


def write_batch_file(
    path: Path, batch_key: str, requests: Iterable[TeacherRequest], settings: Teacher, left_picodollars: int
) -> BatchFile:
    """Write as many requests into an input file as its limits and the budget allow; there is no file where it is none.

    Raises UserError for a request that is larger than a file may be.
    """
    limits = settings.batch
    assert limits is not None
    most_bytes = int(limits.most_megabytes * 10**6)
    worst_cases: list[tuple[TeacherRequest, int]] = []
    file_hash, byte_count = hashlib.sha256(), 0
    next_request: TeacherRequest | None = None
    with open_binary_replacement(path) as handle:
        for request in requests:
            line = _request_line(custom_id_of(batch_key, len(worst_cases) + 1), request, settings)
            worst_case_picodollars = price_picodollars(worst_case_tokens(request, settings), settings)
            if len(line) > most_bytes:
                raise UserError(f"{request.row_id} alone has {len(line):,} bytes", where="teacher.batch.most_megabytes")
            is_full = len(worst_cases) == limits.most_requests or byte_count + len(line) > most_bytes
            if is_full or worst_case_picodollars > left_picodollars:
                next_request = request
                break
            left_picodollars -= worst_case_picodollars
            worst_cases.append((request, worst_case_picodollars))
            handle.write(line)
            file_hash.update(line)
            byte_count += len(line)
    if not worst_cases:
        path.unlink()
    return BatchFile(worst_cases, file_hash.hexdigest(), next_request)


def _request_line(custom_id: str, request: TeacherRequest, settings: Teacher) -> bytes:
    body = {**settings.parameters, "model": settings.model, "messages": request.messages}
    line = {"custom_id": custom_id, "method": "POST", "url": ENDPOINT, "body": body}
    return json.dumps(line).encode() + b"\n"


@dataclass
class OutputLines:
    """The lines of a batch's output and error files: how many belong to none of its requests, or to one that came before.

    `unreadable` are no JSON objects, `foreign` have a `custom_id` that the batch does not have, `repeated` one that came before.
    One line is in memory at a time: the answers of 50,000 requests may be larger than it.
    """

    unreadable: int = 0
    foreign: int = 0
    repeated: int = 0
    attempts: set[int] = field(default_factory=set)

    def read(self, path: Path, batch: Batch, settings: Teacher) -> Iterator[tuple[int, Reply | AttemptFailed]]:
        """Each attempt of a file with its reply, or why it has none; of lines with the same `custom_id` the first one counts."""
        for attempt, entry in _entries(path, batch):
            if entry is None:
                self.unreadable += 1
            elif attempt is None:
                self.foreign += 1
            elif attempt in self.attempts:
                self.repeated += 1
            else:
                self.attempts.add(attempt)
                yield attempt, _read_entry(entry, settings)

    def remarks(self) -> list[str]:
        """What was wrong with the lines, for the user."""
        counts = Counter(
            {
                "that cannot be read": self.unreadable,
                "with a custom_id that is not of this batch": self.foreign,
                "with the custom_id of another line": self.repeated,
            }
        )
        return [f"{counted(count, 'line')} {text}" for text, count in counts.items() if count]


def has_only_lines_of(path: Path, batch: Batch) -> bool:
    """Whether every line of a file is of one of the batch's requests: a file that was cut off, or an error, has others."""
    return all(attempt is not None for attempt, _ in _entries(path, batch))


def _entries(path: Path, batch: Batch) -> Iterator[tuple[int | None, dict[str, Any] | None]]:
    """Each line of a file as its attempt, None where the batch has no such one, and its object, None where it is none."""
    with catch_read_errors(path), open(path, "rb") as handle:
        while line := handle.readline(_MAX_LINE_BYTES):
            if not line.strip():
                continue
            try:
                entry = parse_json_object(line.decode("utf-8"), "line")
            except (UnicodeDecodeError, UserError):
                yield None, None
            else:
                yield batch.attempt_of(entry.get("custom_id")), entry


def _read_entry(entry: dict[str, Any], settings: Teacher) -> Reply | AttemptFailed:
    response, error = entry.get("response"), entry.get("error")
    if not isinstance(response, dict):
        code = str(error.get("code")) if isinstance(error, dict) else ""
        message = error.get("message") if isinstance(error, dict) else error
        reason = one_line(f"{code}: {message}" if code else str(message), _MAX_ERROR_LENGTH)
        consequence: Consequence = "busy" if code in _NOT_SENT_CODES else "retry"
        return AttemptFailed(consequence, reason, is_possibly_paid=error is None)
    status_code, body = response.get("status_code"), response.get("body")
    body_bytes = json.dumps(body).encode()
    if status_code == 200:
        try:
            return read_reply(body_bytes)
        except AttemptFailed as failure:
            return failure
    if not isinstance(status_code, int) or not 300 <= status_code < 600:
        return AttemptFailed("retry", f"a line of status {status_code!r}", is_possibly_paid=True)
    return explain_status(status_code, body_bytes, settings.api_key_variable, settings.model)
