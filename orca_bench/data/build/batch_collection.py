"""A batch that has ended in, its answers and failures in the ledger out, and which of its requests have to be asked again.

Every line is looked at: a batch that counts as completed may lack lines, or have lines without an answer. A file is downloaded
to the disk and read line by line. Its own module because what a batch gave is a matter apart from how it was sent.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from orca_bench.counts import counted
from orca_bench.data.build.answers import Outcome
from orca_bench.data.build.attempt_results import exceeded_error, store_failure, store_reply
from orca_bench.data.build.batch_client import BatchStatus
from orca_bench.data.build.batch_files import OutputLines, has_only_lines_of
from orca_bench.data.build.batch_ledger import Batch, request_ids_in
from orca_bench.data.build.data_recipe import Teacher
from orca_bench.data.build.ledger import Ledger
from orca_bench.data.build.teacher_replies import AttemptFailed, Reply, explain_status
from orca_bench.errors import UserError
from orca_bench.files import catch_write_errors

_DOWNLOADS = 3  # of a file with lines that are not of the batch, before it is taken as it is
_ATTEMPTS_AT_ONCE = 100  # in memory, and written by one commit
_REJECTIONS = 3  # all lines of a batch, so that a server that has answered nothing takes no request of this recipe
#: OpenAI's words for a limit of all open batches together.
_NO_ROOM_PATTERN = re.compile(r"token_limit_exceeded|enqueued token limit", re.IGNORECASE)

_T = TypeVar("_T")


@dataclass
class BatchCollection:
    """What a batch gave.

    Attributes:
        outcomes: Outcomes by request, of those that were answered and of those that were given up.
        ids_to_ask_again: Requests that have no outcome.
        failed_ids: Of these and those that were given up, the ones whose failure counts as an attempt.
        error: What ends the build.
        is_without_room: Whether the server refused the batch because too much is open.
        summary: All this in one line.
    """

    outcomes: dict[str, Outcome] = field(default_factory=dict)
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
    download: Callable[[str, Path], Awaitable[bool]],
    is_last_attempt: Callable[[str], bool],
    download_path: Path,
) -> BatchCollection:
    """Read the files of a batch that has ended, or is gone, and write what each of its attempts came to.

    What an earlier call has written stays as it is. `download` writes a file of the server to `download_path`, which is removed
    at the end, and returns whether the server has it. `is_last_attempt` says of a request whether its next failure is its last
    one. The answers of at most 100 requests are in memory.
    """
    collection, lines = BatchCollection(), OutputLines()
    remarks: list[str] = []
    # Written last: what follows from some of them depends on whether anything is answered.
    failures: list[tuple[int, AttemptFailed]] = []
    answered_count = 0
    had_answers, request_ids = ledger.has_answers(), request_ids_in(ledger, batch)

    async def store_answer(attempt: int, reply: Reply) -> None:
        collection.error = collection.error or exceeded_error(ledger, attempt, reply.usage, settings)
        await store_reply(ledger, attempt, request_ids[attempt], reply, settings)
        collection.outcomes[request_ids[attempt]] = reply.answer.outcome

    async def store_attempt_failure(attempt: int, failure: AttemptFailed) -> None:
        request_id = request_ids[attempt]
        if failure.consequence == "busy" and not answered_count and status.status != "failed":
            failure.consequence = "retry"  # counted, so that a server that never answers is not asked for ever
        if failure.consequence == "stop":
            collection.error = collection.error or UserError(failure.reason, where=failure.where, hint=failure.hint)
        if failure.consequence in ("retry", "reject"):
            collection.failed_ids.append(request_id)
        answer = await store_failure(ledger, attempt, request_id, failure, is_last_attempt(request_id), settings)
        if answer is None:
            collection.ids_to_ask_again.append(request_id)
        else:
            collection.outcomes[request_id] = answer.outcome

    try:
        for file_id in (status.output_file_id, status.error_file_id):
            if file_id is None or not await _download_file(file_id, download, download_path, batch, remarks):
                continue
            for group in _groups(lines.read(download_path, batch, settings)):
                replies = [(attempt, result) for attempt, result in group if isinstance(result, Reply)]
                answered_count += len(replies)
                failures += [(attempt, result) for attempt, result in group if isinstance(result, AttemptFailed)]
                await asyncio.gather(*(store_answer(*reply) for reply in replies if reply[0] in request_ids))
    finally:
        with catch_write_errors(download_path):
            download_path.unlink(missing_ok=True)
    rejections = [failure for _, failure in failures if failure.consequence == "reject"]
    missing_attempts = [attempt for attempt in request_ids if attempt not in lines.attempts]
    failures += [(attempt, _missing_line(status, answered_count)) for attempt in missing_attempts]
    _explain_failed_batch(status, collection, settings)
    is_all_rejected = not answered_count and len(rejections) == len(failures) >= _REJECTIONS
    for failure_group in _groups(failure for failure in failures if failure[0] in request_ids):
        await asyncio.gather(*(store_attempt_failure(*failure) for failure in failure_group))
    if not had_answers and is_all_rejected:
        reason = f"the server has answered nothing: {rejections[0].reason}"
        collection.error = collection.error or UserError(reason, where=rejections[0].where, hint=rejections[0].hint)
    remarks += lines.remarks()
    collection.summary = _summary(batch, status, answered_count, collection, remarks)
    return collection


def _groups(items: Iterable[_T]) -> Iterator[list[_T]]:
    """The items in lists, each of which is written by one commit."""
    iterator = iter(items)
    while group := list(itertools.islice(iterator, _ATTEMPTS_AT_ONCE)):
        yield group


async def _download_file(
    file_id: str,
    download: Callable[[str, Path], Awaitable[bool]],
    path: Path,
    batch: Batch,
    remarks: list[str],
) -> bool:
    """Download a file, again where it has lines that are not of the batch: it may have been cut off, or be an error.

    Returns whether the server has it.
    """
    for _ in range(_DOWNLOADS):
        if not await download(file_id, path):
            remarks.append(f"the server has no file {file_id} any more")
            return False
        if has_only_lines_of(path, batch):
            break
    return True


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
