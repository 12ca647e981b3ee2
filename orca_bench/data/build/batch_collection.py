"""A batch that has ended in, its answers and failures in the ledger out, and which of its requests have to be asked again.

Every line is looked at: a batch that counts as completed may lack lines, or have lines without an answer. Its own module because
what a batch gave is a matter apart from how it was sent.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from orca_bench.counts import counted
from orca_bench.data.build.answers import Answer
from orca_bench.data.build.attempt_results import exceeded_error, store_failure, store_reply
from orca_bench.data.build.batch_client import BatchStatus
from orca_bench.data.build.batch_files import OutputLines
from orca_bench.data.build.batch_ledger import Batch, request_ids_in
from orca_bench.data.build.data_recipe import Teacher
from orca_bench.data.build.ledger import Ledger
from orca_bench.data.build.teacher_replies import AttemptFailed, Reply, explain_status
from orca_bench.errors import UserError

_DOWNLOADS = 3  # of a file with lines that are not of the batch, before it is taken as it is
_ATTEMPTS_AT_ONCE = 500  # written by one commit
_REJECTIONS = 3  # all lines of a batch, so that a server that has answered nothing takes no request of this recipe
#: OpenAI's words for a limit of all open batches together.
_NO_ROOM_PATTERN = re.compile(r"token_limit_exceeded|enqueued token limit", re.IGNORECASE)


@dataclass
class BatchCollection:
    """What a batch gave.

    Attributes:
        answers: Answers and outcomes by request, those that were given up included.
        ids_to_ask_again: Requests that have no outcome.
        failed_ids: Of these and those that were given up, the ones whose failure counts as an attempt.
        error: What ends the build.
        is_without_room: Whether the server refused the batch because too much is open.
        summary: All this in one line.
    """

    answers: dict[str, Answer] = field(default_factory=dict)
    ids_to_ask_again: list[str] = field(default_factory=list)
    failed_ids: list[str] = field(default_factory=list)
    error: UserError | None = None
    is_without_room: bool = False
    summary: str = ""


async def collect_batch(
    ledger: Ledger,
    batch: Batch,
    status: BatchStatus,
    settings: Teacher,
    download: Callable[[str], Awaitable[bytes | None]],
    is_last_attempt: Callable[[str], bool],
) -> BatchCollection:
    """Read the files of a batch that has ended, or is gone, and write what each of its attempts came to.

    What an earlier call has written stays as it is. `is_last_attempt` says of a request whether its next failure is its last one.
    """
    collection, lines = BatchCollection(), OutputLines()
    remarks: list[str] = []
    results: list[tuple[int, Reply | AttemptFailed]] = []
    for file_id in (status.output_file_id, status.error_file_id):
        if file_id is not None:
            results += await _download_results(file_id, download, lines, batch, settings, remarks)
    answered_count = sum(isinstance(result, Reply) for _, result in results)
    request_ids = request_ids_in(ledger, batch)
    missing_attempts = [attempt for attempt in request_ids if attempt not in lines.attempts]
    results += [(attempt, _missing_line(status, answered_count)) for attempt in missing_attempts]
    _explain_failed_batch(status, collection, settings)

    async def store(attempt: int, result: Reply | AttemptFailed) -> None:
        request_id = request_ids[attempt]
        if isinstance(result, Reply):
            collection.error = collection.error or exceeded_error(ledger, attempt, result.usage, settings)
            await store_reply(ledger, attempt, request_id, result, settings)
            collection.answers[request_id] = result.answer
            return
        if result.consequence == "busy" and not answered_count and status.status != "failed":
            result.consequence = "retry"  # counted, so that a server that never answers is not asked for ever
        if result.consequence == "stop":
            collection.error = collection.error or UserError(result.reason, where=result.where, hint=result.hint)
        if result.consequence in ("retry", "reject"):
            collection.failed_ids.append(request_id)
        answer = await store_failure(ledger, attempt, request_id, result, is_last_attempt(request_id), settings)
        if answer is None:
            collection.ids_to_ask_again.append(request_id)
        else:
            collection.answers[request_id] = answer

    had_answers = ledger.has_answers()
    pending_results = iter([(attempt, result) for attempt, result in results if attempt in request_ids])
    while group := list(itertools.islice(pending_results, _ATTEMPTS_AT_ONCE)):
        await asyncio.gather(*(store(attempt, result) for attempt, result in group))
    rejections = [
        result for _, result in results if isinstance(result, AttemptFailed) and result.consequence == "reject"
    ]
    if not had_answers and len(rejections) == len(results) >= _REJECTIONS:
        reason = f"the server has answered nothing: {rejections[0].reason}"
        collection.error = collection.error or UserError(reason, where=rejections[0].where, hint=rejections[0].hint)
    remarks += lines.remarks()
    collection.summary = _summary(batch, status, answered_count, collection, remarks)
    return collection


async def _download_results(
    file_id: str,
    download: Callable[[str], Awaitable[bytes | None]],
    lines: OutputLines,
    batch: Batch,
    settings: Teacher,
    remarks: list[str],
) -> list[tuple[int, Reply | AttemptFailed]]:
    """The lines of a file, which is downloaded again where some are not of the batch: it may have been cut off, or an error."""
    for _ in range(_DOWNLOADS):
        content = await download(file_id)
        if content is None:
            remarks.append(f"the server has no file {file_id} any more")
            return []
        file_lines = OutputLines(attempts=set(lines.attempts))
        results = list(file_lines.read(content, batch, settings))
        if not file_lines.unreadable and not file_lines.foreign:
            break
    lines.attempts = file_lines.attempts
    lines.unreadable += file_lines.unreadable
    lines.foreign += file_lines.foreign
    lines.repeated += file_lines.repeated
    return results


def _missing_line(status: BatchStatus, answered_count: int) -> AttemptFailed:
    """What follows for a request without a line; it may have been paid where the server completed more than it gave."""
    if status.status is None:
        return AttemptFailed("busy", "the batch is gone from the server", is_possibly_paid=True)
    if status.status == "failed":
        return AttemptFailed("busy", "the server did not take the batch")
    is_possibly_paid = status.completed_count is None or status.completed_count > answered_count
    reason = f"the batch is {status.status} and has no line of this request"
    return AttemptFailed("retry" if status.status == "completed" else "busy", reason, is_possibly_paid)


def _explain_failed_batch(status: BatchStatus, collection: BatchCollection, settings: Teacher) -> None:
    """What follows from a batch that the server did not take."""
    if status.status != "failed":
        return
    code, message = status.errors[0] if status.errors else ("", "the server does not say why")
    collection.is_without_room = _NO_ROOM_PATTERN.search(f"{code} {message}") is not None
    body = json.dumps({"error": {"code": code, "message": message}}).encode()
    failure = explain_status(400, body, settings.api_key_variable, settings.model)
    is_stop = failure.consequence == "stop"
    collection.error = (
        None
        if collection.is_without_room
        else UserError(
            f"the batch failed: {message}",
            where=failure.where if is_stop else "teacher.batch",
            hint=failure.hint if is_stop else None,
        )
    )


def _summary(
    batch: Batch, status: BatchStatus, answered_count: int, collection: BatchCollection, remarks: list[str]
) -> str:
    parts = [f"{answered_count:,} of {counted(batch.request_count, 'request')} answered"]
    if collection.ids_to_ask_again:
        parts.append(f"{len(collection.ids_to_ask_again):,} to be asked again")
    if status.status == "failed":
        parts.append("; ".join(message for _, message in status.errors[:3]) or "the server does not say why")
    return f"{status.status or 'gone from the server'}: {', '.join([*parts, *remarks])}"
