"""Requests in, answers in the ledger out, through the endpoint's Batch API: upload, create, poll, download.

Each batch's worst case is reserved before its file is sent. After a restart a batch of the ledger is looked for at the server, by
its file or its metadata, before it is created; so no batch is created twice. A batch that ended early gives what it has, and its
other requests go into the next batch. Its own module because the policy is here, and neither HTTP nor SQL.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from orca_bench.counts import counted, dollars_text
from orca_bench.data.build.answers import FAILED_STATE, RETRYABLE_OUTCOMES
from orca_bench.data.build.batch_client import BatchClient, BatchStatus
from orca_bench.data.build.batch_collection import collect_batch
from orca_bench.data.build.batch_expiry import BatchExpiry
from orca_bench.data.build.batch_files import write_batch_file
from orca_bench.data.build.batch_ledger import (
    Batch,
    advance_batch,
    begin_batch,
    open_batches,
    request_ids_in,
)
from orca_bench.data.build.batch_retries import RetriedCalls
from orca_bench.data.build.data_recipe import Teacher
from orca_bench.data.build.ledger import Ledger
from orca_bench.data.build.prices import PICODOLLARS
from orca_bench.data.build.teacher import PATIENCE_S, AskProgress, BatchCounts
from orca_bench.data.build.teacher_replies import AttemptFailed
from orca_bench.data.build.teacher_requests import TeacherRequest
from orca_bench.errors import UserError
from orca_bench.files import catch_write_errors, file_sha256, make_writable_folder

_ENDED_STATUSES = ("completed", "failed", "expired", "cancelled")
_MISSING_POLLS = 5  # in a row, after which a batch that the server does not know is taken to be gone
_LOOKS_BEFORE_CREATING = 2  # `poll_seconds` apart: the server may still be about to list a batch whose reply was lost
_REQUESTS_AT_ONCE = 500  # looked up in the ledger together
_LOST_HINT = (
    "try again later, with the key that was used before; if it is lost, -o teacher.batch.ask_lost_again=true asks the requests "
    "again, which may have been paid"
)
_SIZE_HINT = "the endpoint may allow less in a file: set teacher.batch.most_requests or teacher.batch.most_megabytes"


async def ask_in_batches(
    requests: Iterable[TeacherRequest],
    ledger: Ledger,
    settings: Teacher,
    budget: float,
    progress: AskProgress | None = None,
    report: Callable[[str], None] = lambda line: None,
    patience_s: float = PATIENCE_S,
) -> bool:
    """Ask the teacher in batches for every request that has no outcome in the ledger, or one of `RETRYABLE_OUTCOMES`.

    Returns as `teacher.ask` does, and reads `requests` once for each round of batches. `report` hears of each batch. Raises
    UserError where the server has no Batch API, refuses the key, the model, a file or a batch, or is not reached for
    `patience_s` seconds. Batches that are open stay at the server, and the next call collects them.
    """
    assert settings.batch is not None
    return await _BatchBuild(requests, ledger, settings, budget, progress or AskProgress(), report, patience_s).run()


class _BatchBuild:
    """One call of `ask_in_batches`."""

    def __init__(
        self,
        requests: Iterable[TeacherRequest],
        ledger: Ledger,
        settings: Teacher,
        budget: float,
        progress: AskProgress,
        report: Callable[[str], None],
        patience_s: float,
    ):
        assert settings.batch is not None
        self._requests, self._ledger, self._settings, self._batch_settings = requests, ledger, settings, settings.batch
        self._budget_picodollars = round(budget * PICODOLLARS)
        self._progress, self._report = progress, report
        self._progress.batches = self._counts = BatchCounts()
        self._client = BatchClient(settings)
        self._calls = RetriedCalls(self._progress, max(patience_s, 2 * settings.timeout), self._show_progress)
        self._folder = ledger.path.with_name(".batches")  # hidden, so that the files in it are not taken for data
        self._most_open = self._batch_settings.most_open
        self._open: dict[str, Batch] = {}
        self._status_by_key: dict[str, BatchStatus] = {}
        self._expiry = BatchExpiry()
        self._missing_polls: Counter[str] = Counter()
        self._known_keys: set[str] = set()  # of batches that the server has shown in this build
        self._request_ids: set[str] = set()  # of requests in the next batch, and in those that have not ended
        self._final_ids: set[str] = set()  # of requests that have got their outcome in this build
        self._failures: Counter[str] = Counter()  # by request
        self._is_another_round_needed = True
        self._error: UserError | None = None

    async def run(self) -> bool:
        make_writable_folder(self._folder)
        try:
            await self._adopt()
            is_stopped_by_budget = False
            while self._is_another_round_needed and self._error is None and not is_stopped_by_budget:
                self._is_another_round_needed = False
                is_stopped_by_budget = await self._submit_round()
                await self._collect_until(0)
            if self._error is not None:
                raise self._error
            return is_stopped_by_budget
        finally:
            self._show_progress()
            if self._open:
                open_dollars = dollars_text(self._ledger.picodollars_in_batches / PICODOLLARS)
                self._report(
                    f"{counted(len(self._open), 'batch')} of at most {open_dollars} not collected yet; the same command goes on"
                )
            await self._client.close()
            with contextlib.suppress(OSError):
                self._folder.rmdir()  # where it is empty

    async def _adopt(self) -> None:
        """Go on with the batches that an earlier build has begun, and remove files that belong to none."""
        batches = open_batches(self._ledger)
        for batch in batches:
            if batch.base_url != self._settings.base_url:
                raise UserError(
                    f"{counted(len(batches), 'batch')} of this build are open at {batch.base_url}",
                    where="teacher.base_url",
                    hint="set it back until they are collected",
                )
        paths = {self._path_of(batch) for batch in batches}
        with catch_write_errors(self._folder):
            for path in self._folder.iterdir():
                if path not in paths:
                    path.unlink()
        for batch in batches:
            self._open[batch.key] = batch
            self._request_ids.update(request_ids_in(self._ledger, batch).values())
        for batch in batches:
            if self._error is None:
                await self._bring_to_server(batch, is_adopted=True)

    async def _submit_round(self) -> bool:
        """Send every request that has no outcome; returns whether the budget allows no more of them."""
        wanted_requests = self._wanted_requests()
        request = next(wanted_requests, None)
        while request is not None and self._error is None:
            await self._collect_until(self._most_open - 1)
            if self._error is not None:
                break
            batch, request = await self._prepare(itertools.chain([request], wanted_requests))
            if batch is not None:
                await self._bring_to_server(batch)
            elif self._open:
                await self._collect_until(len(self._open) - 1)  # it may cost less than its worst case
            else:
                return True
        return False

    def _wanted_requests(self) -> Iterator[TeacherRequest]:
        """The requests without an outcome that are in no batch."""
        requests = iter(self._requests)
        while chunk := list(itertools.islice(requests, _REQUESTS_AT_ONCE)):
            final_ids = self._ledger.final_ids([request.request_id for request in chunk])
            for request in chunk:
                request_id = request.request_id
                if request_id in final_ids:
                    if request_id not in self._final_ids:
                        self._final_ids.add(request_id)
                        self._progress.answered_before += 1
                elif request_id not in self._request_ids and request_id not in self._final_ids:
                    self._request_ids.add(request_id)
                    yield request

    async def _prepare(self, requests: Iterator[TeacherRequest]) -> tuple[Batch | None, TeacherRequest | None]:
        """Write the file of the next batch, and the batch into the ledger.

        Returns the batch, None where the budget allows no request, and the first request that is not in it.
        """
        key = secrets.token_hex(8)
        left_picodollars = self._budget_picodollars - self._ledger.committed_picodollars
        batch_file = write_batch_file(self._folder / f"{key}.jsonl", key, requests, self._settings, left_picodollars)
        if not batch_file.worst_cases:
            return None, batch_file.next_request
        base_url = self._settings.base_url
        batch = await begin_batch(self._ledger, key, base_url, batch_file.sha256, batch_file.worst_cases)
        self._open[key] = batch
        return batch, batch_file.next_request

    async def _bring_to_server(self, batch: Batch, is_adopted: bool = False) -> None:
        """Upload and create a batch, as far as it is not at the server yet."""
        if not request_ids_in(self._ledger, batch):
            await self._end(batch, None)  # everything was collected before the build was stopped
            return
        try:
            if batch.state == "prepared":
                batch = await self._upload(batch, is_adopted)
            if batch.state in ("uploaded", "creating"):
                batch = await self._create(batch)
        except AttemptFailed as failure:
            is_lost = failure.is_possibly_paid and failure.consequence not in ("busy", "retry")
            if is_lost and self._batch_settings.ask_lost_again:
                await self._collect(batch, BatchStatus(None))
                return
            if not failure.is_possibly_paid:  # else it may be at the server, and the next build looks for it there
                await self._give_back(batch, failure.reason)
            hint = _LOST_HINT if is_lost and failure.where == "teacher.batch" else failure.hint or _SIZE_HINT
            self._error = UserError(failure.reason, where=failure.where, hint=hint)
            return
        except FileNotFoundError:
            await self._give_back(batch, "its file was gone before it was sent")
            return
        self._open[batch.key] = batch
        verb = "goes on" if is_adopted else "created"
        self._show_progress()
        self._report(f"{batch.batch_id}: {verb}, {counted(batch.request_count, 'request')}")

    async def _upload(self, batch: Batch, may_be_there: bool) -> Batch:
        path = self._path_of(batch)

        async def upload_once() -> str:
            nonlocal may_be_there
            file_id = await self._client.find_file(batch) if may_be_there else None
            may_be_there = True  # also where the reply is lost
            if file_id is None and not (path.exists() and file_sha256(path) == batch.file_sha256):
                raise FileNotFoundError(path)
            return file_id or await self._client.upload(batch, path)

        try:
            file_id = await self._calls.until_success(upload_once)
        except AttemptFailed as failure:
            failure.is_possibly_paid = False  # a file alone costs nothing
            raise
        return await advance_batch(self._ledger, batch, "uploaded", file_id=file_id)

    async def _create(self, batch: Batch) -> Batch:
        may_be_there = batch.state == "creating"
        batch = await advance_batch(self._ledger, batch, "creating")

        async def create_once() -> str:
            nonlocal may_be_there
            if may_be_there:
                for look in range(_LOOKS_BEFORE_CREATING):
                    if look:
                        await asyncio.sleep(self._batch_settings.poll_seconds)
                    if batch_id := await self._client.find_batch(batch):
                        return batch_id
            try:
                return await self._client.create(batch)
            except AttemptFailed as failure:
                status_code = failure.status_code
                is_refused = status_code is not None and status_code < 500 and status_code not in (408, 409)
                may_be_there = may_be_there or not (failure.is_unreached or is_refused)
                raise

        try:
            batch_id = await self._calls.until_success(create_once)
        except AttemptFailed as failure:
            failure.is_possibly_paid = may_be_there
            raise
        self._known_keys.add(batch.key)
        return await advance_batch(self._ledger, batch, "open", batch_id=batch_id)

    async def _collect_until(self, open_count: int) -> None:
        """Look at the open batches until no more than `open_count` are left, or the build has an error."""
        while len(self._open) > open_count and self._error is None:
            for batch in list(self._open.values()):
                if self._error is None:
                    await self._poll(batch)
            if len(self._open) > open_count and self._error is None:
                self._error = self._expiry.error_of(self._open.keys())
                if self._error is None:
                    await asyncio.sleep(self._batch_settings.poll_seconds)

    async def _poll(self, batch: Batch) -> None:
        assert batch.batch_id is not None
        batch_id = batch.batch_id
        try:
            status = await self._calls.until_success(lambda: self._client.retrieve(batch_id))
            lacks_files = status.status == "completed" and not (status.output_file_id or status.error_file_id)
            if status.status is None or (lacks_files and status.completed_count != 0):
                self._missing_polls[batch.key] += 1
                if self._missing_polls[batch.key] >= _MISSING_POLLS:
                    await self._collect_lost(batch, status)
                return
            self._known_keys.add(batch.key)
            self._missing_polls[batch.key] = 0
            if status.status in _ENDED_STATUSES:
                await self._collect(batch, status)
                return
            if self._expiry.is_overdue(batch, status) and self._batch_settings.ask_lost_again:
                # Its files may have some of its answers already; its count is of those that the server has completed so far.
                await self._collect(batch, replace(status, status="overdue", completed_count=None))
                return
            self._status_by_key[batch.key] = status
            self._show_progress()
        except AttemptFailed as failure:
            self._error = self._error or UserError(failure.reason, where=failure.where, hint=failure.hint)

    async def _collect_lost(self, batch: Batch, status: BatchStatus) -> None:
        """Go on with a batch whose state or files the server does not tell; raises AttemptFailed where these may be paid."""
        if status.status is not None:
            self._check_loss(f"{batch.batch_id} is completed, and the server names no file of its answers")
        else:
            listed_id = await self._calls.until_success(lambda: self._client.find_batch(batch))
            if listed_id not in (None, batch.batch_id):
                self._missing_polls[batch.key] = 0
                self._open[batch.key] = await advance_batch(self._ledger, batch, "open", batch_id=listed_id)
                return
            if listed_id is not None:
                self._check_loss(f"the server lists {batch.batch_id} and does not show it")
            elif batch.key not in self._known_keys:
                self._check_loss(f"the server does not know {batch.batch_id}, which an earlier build created")
        await self._collect(batch, status)

    def _check_loss(self, reason: str) -> None:
        """Raise AttemptFailed for answers that are lost and may be paid, unless the recipe says to ask for them again."""
        if not self._batch_settings.ask_lost_again:
            raise AttemptFailed("stop", reason, where="teacher.batch", hint=_LOST_HINT)

    async def _download(self, file_id: str, path: Path) -> bool:
        has_file = await self._calls.until_success(lambda: self._client.download(file_id, path))
        if not has_file:
            self._check_loss(f"the server has no file {file_id}, which an ended batch names")
        return has_file

    async def _collect(self, batch: Batch, status: BatchStatus) -> None:
        """Write what an ended batch gave."""
        request_ids = request_ids_in(self._ledger, batch).values()
        collection = await collect_batch(
            self._ledger,
            batch,
            status,
            self._settings,
            self._download,
            lambda request_id: self._failures[request_id] + 1 >= self._settings.attempts,
            self._folder / f"{batch.key}.answers.jsonl",
        )
        self._request_ids.difference_update(request_ids)
        for request_id, outcome in collection.outcomes.items():
            self._final_ids.add(request_id)
            self._progress.requests_by_outcome[outcome] += 1
            self._progress.answered += outcome not in RETRYABLE_OUTCOMES
        self._failures.update(collection.failed_ids)
        self._progress.failed_attempts += len(collection.failed_ids)
        self._is_another_round_needed = self._is_another_round_needed or bool(collection.ids_to_ask_again)
        await self._end(batch, collection.summary)
        self._counts.collected += 1
        self._counts.without_answers += not collection.outcomes
        self._report(f"{batch.batch_id or batch.file_name}: {collection.summary}")
        if collection.is_without_room:
            if self._open:  # it is asked again when one of them has ended
                self._most_open = len(self._open)
                return
            collection.error = UserError(
                collection.summary, where="teacher.batch", hint=f"{_SIZE_HINT}; or wait for other batches"
            )
        self._error = self._error or collection.error

    async def _give_back(self, batch: Batch, reason: str) -> None:
        """End a batch that the server has not taken: nothing of it is paid."""
        request_ids = request_ids_in(self._ledger, batch)
        await asyncio.gather(
            *(
                self._ledger.end_attempt(attempt, request_id, FAILED_STATE, 0, reason=reason)
                for attempt, request_id in request_ids.items()
            )
        )
        self._request_ids.difference_update(request_ids.values())
        self._is_another_round_needed = True
        await self._end(batch, reason)

    async def _end(self, batch: Batch, reason: str | None) -> None:
        await advance_batch(self._ledger, batch, "ended", reason=reason)
        self._open.pop(batch.key, None)
        self._status_by_key.pop(batch.key, None)
        with catch_write_errors(self._folder):
            self._path_of(batch).unlink(missing_ok=True)
        self._show_progress()

    def _path_of(self, batch: Batch) -> Path:
        return self._folder / f"{batch.key}.jsonl"

    def _show_progress(self) -> None:
        progress, counts, ledger = self._progress, self._counts, self._ledger
        statuses = [self._status_by_key[key] for key in self._open if key in self._status_by_key]
        counts.open, counts.requests = len(self._open), sum(batch.request_count for batch in self._open.values())
        counts.completed_requests = sum(status.completed_count or 0 for status in statuses)
        counts.failed_requests = sum(status.failed_count or 0 for status in statuses)
        progress.spent_dollars = ledger.picodollars_paid / PICODOLLARS
        progress.unknown_dollars = ledger.picodollars_unknown / PICODOLLARS
