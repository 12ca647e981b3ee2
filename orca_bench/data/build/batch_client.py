"""One call of the Batch API: a file, a batch or an id in, what the server says of it out.

The client is `openai`'s, as `teacher_client` makes it. A call that fails raises AttemptFailed, which says whether to make it
again. Its own module because it is the only one that knows these calls.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from orca_bench.data.build.batch_files import ENDPOINT
from orca_bench.data.build.batch_ledger import Batch
from orca_bench.data.build.data_recipe import Teacher
from orca_bench.data.build.teacher_client import TeacherClient
from orca_bench.data.build.teacher_replies import AttemptFailed
from orca_bench.errors import one_line
from orca_bench.files import catch_read_errors, catch_write_errors

_FILE_TIMEOUT_S = 3600.0  # of 200 MB up or down
_NO_SUCH_CALL_STATUSES = (404, 405, 501)
_MAX_ERROR_LENGTH = 300
#: "No such File object: file-1": of the file that a batch is created of, not of the address.
_NO_SUCH_FILE_PATTERN = re.compile(r"such file|file object|\bfile-\w", re.IGNORECASE)
_NO_BATCHES_HINT = "the endpoint has no Batch API: leave teacher.batch out (-o teacher.batch=null)"

_T = TypeVar("_T")


@dataclass(frozen=True)
class BatchStatus:
    """What a server says of a batch: its status, how many requests are completed and failed, its files, and errors of the whole.

    `status` is None where the server has no such batch. `errors` are pairs of a code and a text. `expires_at` is when the server
    ends the batch, in seconds since 1970; None where it does not say.
    """

    status: str | None
    completed_count: int | None = None
    failed_count: int | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    errors: tuple[tuple[str, str], ...] = ()
    expires_at: int | None = None


class BatchClient:
    """The Batch API of a recipe's endpoint."""

    def __init__(self, settings: Teacher):
        self._teacher_client = TeacherClient(settings)
        self._openai_client = self._teacher_client.openai_client
        self._settings = settings

    async def close(self) -> None:
        """Close all connections."""
        await self._teacher_client.close()

    async def upload(self, batch: Batch, path: Path) -> str:
        """Send a batch's file; returns the server's id of it."""
        with catch_read_errors(path), open(path, "rb") as handle:
            files = self._openai_client.files.with_raw_response
            response = await self._call(
                files.create(file=(batch.file_name, handle), purpose="batch"), _FILE_TIMEOUT_S, is_first_call=True
            )
        return self._id_in(response.content, "file")

    async def find_file(self, batch: Batch) -> str | None:
        """The id of a batch's file at the server; None where it has none, or tells of none."""
        try:
            async for file in self._items(self._openai_client.files.list(purpose="batch")):
                if getattr(file, "filename", None) == batch.file_name:
                    return str(file.id)
        except AttemptFailed as failure:
            if failure.status_code not in _NO_SUCH_CALL_STATUSES:
                raise
        return None

    async def create(self, batch: Batch) -> str:
        """Create a batch of its uploaded file; returns the server's id of it."""
        assert batch.file_id is not None
        response = await self._call(
            self._openai_client.batches.with_raw_response.create(
                completion_window="24h",
                endpoint=ENDPOINT,
                input_file_id=batch.file_id,
                metadata=batch.metadata,
            ),
            is_first_call=True,
        )
        return self._id_in(response.content, "batch")

    async def find_batch(self, batch: Batch) -> str | None:
        """The id of a batch at the server, by its file or its metadata; None where the server lists no such batch."""
        async for listed_batch in self._items(self._openai_client.batches.list(limit=100)):
            metadata = getattr(listed_batch, "metadata", None)
            is_of_file = batch.file_id is not None and getattr(listed_batch, "input_file_id", None) == batch.file_id
            if is_of_file or (isinstance(metadata, dict) and metadata.items() >= batch.metadata.items()):
                return str(listed_batch.id)
        return None

    async def retrieve(self, batch_id: str) -> BatchStatus:
        """How far a batch is."""
        try:
            response = await self._call(self._openai_client.batches.with_raw_response.retrieve(batch_id))
        except AttemptFailed as failure:
            if failure.status_code != 404:
                raise
            return BatchStatus(None)
        status = _read_status(self._object(response.content))
        if status.status is None:
            raise AttemptFailed("retry", "a reply without the status of a batch")
        return status

    async def download(self, file_id: str, path: Path) -> bool:
        """Write the content of a file, without the key, to `path`, a piece at a time; returns whether the server has the file."""
        try:
            await self._call(self._write_content(file_id, path), _FILE_TIMEOUT_S)
        except AttemptFailed as failure:
            if failure.status_code != 404:
                raise
            return False
        return True

    async def _write_content(self, file_id: str, path: Path) -> None:
        async with self._openai_client.files.with_streaming_response.content(file_id) as response:
            with catch_write_errors(path), open(path, "wb") as handle:
                async for piece in self._teacher_client.redact_stream(response.iter_bytes()):
                    handle.write(piece)

    async def _items(self, pages: AsyncIterator[Any] | Any) -> AsyncIterator[Any]:
        """All items of a list that comes in pages; it ends where a server begins anew."""
        iterator, ids = aiter(pages), set()
        while True:
            try:
                item = await self._call(anext(iterator))
            except StopAsyncIteration:
                return
            item_id = getattr(item, "id", None)
            if item_id in ids:
                return
            ids.add(item_id)
            yield item

    async def _call(self, reply: Awaitable[_T], timeout_s: float | None = None, is_first_call: bool = False) -> _T:
        """Await a reply of the library; `is_first_call` is of an address that every Batch API has."""
        try:
            async with asyncio.timeout(timeout_s or self._settings.timeout):
                return await reply
        except self._teacher_client.call_errors as error:
            failure = self._teacher_client.explain_error(error)
            is_of_address = failure.where == "teacher.base_url" or failure.status_code in (405, 501)
            if is_first_call and failure.status_code in _NO_SUCH_CALL_STATUSES and is_of_address:
                is_of_file = _NO_SUCH_FILE_PATTERN.search(failure.reason) is not None
                failure.consequence, failure.where = "stop", "teacher.batch"
                failure.hint = None if is_of_file else _NO_BATCHES_HINT
            raise failure from None

    def _object(self, content: bytes) -> Mapping[str, Any]:
        try:
            json_value = json.loads(self._teacher_client.redact(content))
        except (ValueError, RecursionError):
            json_value = None
        if not isinstance(json_value, dict):
            raise AttemptFailed("retry", "a reply that is no JSON object")
        return json_value

    def _id_in(self, content: bytes, noun: str) -> str:
        json_id = self._object(content).get("id")
        if not isinstance(json_id, str) or not json_id:
            raise AttemptFailed("retry", f"a reply without the id of a {noun}")
        return json_id


def _read_status(content: Mapping[str, Any]) -> BatchStatus:
    def text_of(key: str) -> str | None:
        return content[key] if isinstance(content.get(key), str) and content[key] else None

    counts = content.get("request_counts")
    errors = content.get("errors")
    error_list = errors.get("data") if isinstance(errors, dict) else None
    return BatchStatus(
        status=text_of("status"),
        completed_count=_count(counts, "completed"),
        failed_count=_count(counts, "failed"),
        output_file_id=text_of("output_file_id"),
        error_file_id=text_of("error_file_id"),
        errors=tuple(_error_texts(error) for error in error_list) if isinstance(error_list, list) else (),
        expires_at=_count(content, "expires_at") or None,
    )


def _count(counts: Any, key: str) -> int | None:
    count = counts.get(key) if isinstance(counts, dict) else None
    return count if isinstance(count, int) and not isinstance(count, bool) else None


def _error_texts(error: Any) -> tuple[str, str]:
    """Code and text of an error, with the line of the batch's file where the server names it."""
    if not isinstance(error, dict):
        return "", one_line(str(error), _MAX_ERROR_LENGTH)
    line_text = f"line {error['line']}: " if error.get("line") is not None else ""
    return str(error.get("code")), one_line(f"{line_text}{error.get('message')}", _MAX_ERROR_LENGTH)
