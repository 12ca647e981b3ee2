"""Requests in, answers in the ledger out: how a teacher is asked for all of them, whatever its server does.

Workers take the requests in order. Each attempt's worst case is reserved in the ledger before it is sent, so that the budget is
never passed; each answer is on disk before it counts. A request is asked again within the recipe's limit; a wrong key, an unknown
model or a refused account ends the build at once, and so does a server that answers nothing any more. Its own module because the
policy is here, and neither HTTP nor SQL.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from orca_bench.data.build.answers import FAILED_STATE, RETRYABLE_OUTCOMES, Answer
from orca_bench.data.build.attempt_results import exceeded_error, is_given_up, store_failure, store_reply
from orca_bench.data.build.concurrency import ConcurrencyLimit, Turn, backoff_s
from orca_bench.data.build.data_recipe import Teacher
from orca_bench.data.build.ledger import Ledger
from orca_bench.data.build.prices import PICODOLLARS, price_picodollars, worst_case_tokens
from orca_bench.data.build.teacher_client import Headers, TeacherClient
from orca_bench.data.build.teacher_replies import AttemptFailed, Reply
from orca_bench.data.build.teacher_requests import TeacherRequest
from orca_bench.errors import UserError

#: A build ends where its server has failed for so long without an answer.
PATIENCE_S = 600.0
_UNREACHED_ATTEMPTS = 4  # after which a server that has not replied to anything is taken to be absent
_FIRST_REJECTIONS = 3  # requests, by a server that has answered nothing
_FIRST_ATTEMPTS = 6  # that fail, of such a server
_CONSECUTIVE_FAILURES = 16  # requests given up by a server that has answered
_REQUESTS_AT_ONCE = 128  # looked up in the ledger together


@dataclass
class BatchCounts:
    """Batches of a build: how many are open at the server and were collected, and how many of these gave no answer.

    `requests`, `completed_requests` and `failed_requests` are the server's counts of the open batches.
    """

    open: int = 0
    collected: int = 0
    without_answers: int = 0
    requests: int = 0
    completed_requests: int = 0
    failed_requests: int = 0


@dataclass
class AskProgress:
    """Where a build is; `ask` changes it, anybody may read it.

    Attributes:
        answered: Requests of this build with an outcome that is not asked again.
        requests_by_outcome: Requests of this build by outcome, `failed` included.
        answered_before: Requests whose answers were in the ledger.
        in_flight, in_flight_limit: Attempts that are sent and not ended, and how many may be.
        rate_refusals: Attempts that the server refused for the rate.
        failed_attempts: Attempts that failed for another reason.
        spent_dollars: Price of all attempts in the ledger that the teacher counted.
        unknown_dollars: The most that attempts of unknown outcome may have cost besides.
        last_request, last_answer: The newest answer.
        batches: The batches where the teacher is asked in batches.
    """

    answered: int = 0
    requests_by_outcome: Counter[str] = field(default_factory=Counter)
    answered_before: int = 0
    in_flight: int = 0
    in_flight_limit: int = 1
    rate_refusals: int = 0
    failed_attempts: int = 0
    spent_dollars: float = 0.0
    unknown_dollars: float = 0.0
    last_request: TeacherRequest | None = None
    last_answer: Answer | None = None
    batches: BatchCounts | None = None


async def ask(
    requests: Iterable[TeacherRequest],
    ledger: Ledger,
    settings: Teacher,
    budget: float,
    progress: AskProgress | None = None,
    patience_s: float = PATIENCE_S,
) -> bool:
    """Ask the teacher for every request that has no outcome in the ledger, or one of `RETRYABLE_OUTCOMES`.

    Returns whether requests were left because the budget does not allow the worst case of another one.

    `budget` is dollars, all that the ledger has spent before included. Raises UserError where the server refuses the key, the
    model, the account or every request, where it cannot be reached or gives no answer for `patience_s` seconds and twice the
    recipe's time-out, where it counts more tokens than a request can have, and where the disk takes no more; what was answered
    before is in the ledger. Where it is cancelled, requests in flight become `unknown, possibly paid`.
    """
    return await _Build(iter(requests), ledger, settings, budget, progress or AskProgress(), patience_s).run()


class _Build:
    """One call of `ask`."""

    def __init__(
        self,
        requests: Iterator[TeacherRequest],
        ledger: Ledger,
        settings: Teacher,
        budget: float,
        progress: AskProgress,
        patience_s: float,
    ):
        self._requests, self._ledger, self._settings, self._progress = requests, ledger, settings, progress
        self._budget_picodollars, self._patience_s = round(budget * PICODOLLARS), max(patience_s, 2 * settings.timeout)
        self._client = TeacherClient(settings)
        self._limit = ConcurrencyLimit(settings.most_in_flight)
        self._buffer: deque[TeacherRequest] = deque()
        self._pending_ids: set[str] = set()  # of requests in the buffer and with workers
        self._workers: list[asyncio.Task[None]] = []
        self._sending_workers: set[asyncio.Task[None]] = set()  # whose attempts have begun and not ended
        self._attempt_ended = asyncio.Condition()
        self._error: UserError | None = None
        self._is_stopping = self._is_stopped_by_budget = False
        self._last_answer_s = time.monotonic()
        self._has_reply = False
        self._has_answer = ledger.has_answers()
        self._first_answer = asyncio.Event()  # of this build
        self._unreached_attempts = self._consecutive_failures = 0
        self._token_total = self._token_requests = 0

    async def run(self) -> bool:
        # Twice as many as may be in flight: those that wait to send again keep no other from being sent.
        worker_count = 2 * self._settings.most_in_flight
        self._workers = [asyncio.create_task(self._work(is_first=not n)) for n in range(worker_count)]
        try:
            # A worker that `_stop` cancelled is no error; a ledger that cannot be written is.
            await asyncio.wait(self._workers, return_when=asyncio.FIRST_EXCEPTION)
            for worker in self._workers:
                if worker.done() and not worker.cancelled():
                    worker.result()
        except BaseException as error:
            is_interrupted = isinstance(error, asyncio.CancelledError)
            await self._end_workers("the build was interrupted" if is_interrupted else "the build ended with an error")
            raise
        finally:
            self._show_progress()
            await self._client.close()
        if self._error is not None:
            raise self._error
        return self._is_stopped_by_budget

    async def _end_workers(self, reason: str) -> None:
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        if self._ledger.is_writable:
            await self._ledger.abandon_attempts(reason)

    def _stop(self, error: UserError | None = None) -> None:
        """Send nothing more; replies to what is in flight are waited for, as they are paid."""
        self._error = self._error or error
        if not self._is_stopping:
            self._is_stopping = True
            this_worker = asyncio.current_task()
            for worker in self._workers:
                if worker is not this_worker and worker not in self._sending_workers:
                    worker.cancel()

    async def _work(self, is_first: bool) -> None:
        if not is_first:  # one request shows whether the server answers at all
            await self._first_answer.wait()
        while not self._is_stopping:
            try:
                request = self._next_request()
            except UserError as error:  # of an instruction file
                self._stop(error)
                return
            if request is None:
                self._first_answer.set()  # the others find nothing either
                return
            await self._ask_until_final(request)
            self._pending_ids.discard(request.request_id)

    def _next_request(self) -> TeacherRequest | None:
        while not self._buffer:
            chunk = list(itertools.islice(self._requests, _REQUESTS_AT_ONCE))
            if not chunk:
                return None
            final_ids = self._ledger.final_ids([request.request_id for request in chunk])
            for request in chunk:
                if request.request_id in final_ids:
                    self._progress.answered_before += 1
                elif request.request_id not in self._pending_ids:
                    self._pending_ids.add(request.request_id)
                    self._buffer.append(request)
        return self._buffer.popleft()

    async def _ask_until_final(self, request: TeacherRequest) -> None:
        worst_case_picodollars = price_picodollars(worst_case_tokens(request, self._settings), self._settings)
        counted_failures = busy_failures = 0
        while not self._is_stopping:
            is_last_attempt = counted_failures + 1 >= self._settings.attempts
            failure = await self._attempt(request, worst_case_picodollars, is_last_attempt)
            if failure is None or failure.consequence in ("filter", "too long", "reject", "stop"):
                return
            if failure.consequence == "retry":
                counted_failures += 1
                if is_last_attempt:
                    return
            else:
                busy_failures += 1
            await asyncio.sleep(backoff_s(counted_failures + busy_failures))

    async def _attempt(
        self, request: TeacherRequest, worst_case_picodollars: int, is_last_attempt: bool
    ) -> AttemptFailed | None:
        """Send a request once and write what came; returns why there is no answer, None where there is one or none was sent."""
        turn = await self._acquire_within_budget(worst_case_picodollars)
        if turn is None:
            return None
        worker = asyncio.current_task()
        assert worker is not None
        self._sending_workers.add(worker)
        is_released = False
        try:
            attempt = await self._ledger.begin_attempt(request, worst_case_picodollars)
            if self._is_stopping:
                await self._ledger.end_attempt(attempt, request.request_id, FAILED_STATE, 0, reason="not sent")
                return None
            self._show_progress()
            reply, headers = await self._client.send(request.messages)
            if isinstance(reply, Reply):
                self._record_success()
                self._limit.record_answer(turn, headers)
                is_released = True
                await self._store_answer(request, attempt, reply)
                return None
            self._stop_if_hopeless(reply, is_last_attempt)  # before another request takes this one's place
            self._record_failure(reply, turn, headers)
            is_released = True
            await self._store_failure(request, attempt, reply, is_last_attempt)
            return reply
        finally:
            if not is_released:
                self._limit.release()
            self._sending_workers.discard(worker)
            async with self._attempt_ended:
                self._attempt_ended.notify_all()

    async def _acquire_within_budget(self, worst_case_picodollars: int) -> Turn | None:
        """Wait until a request may be sent and paid; None where the build stops instead."""
        while not self._is_stopping:
            turn = await self._limit.acquire()
            if (
                self._is_stopping
                or self._ledger.committed_picodollars + worst_case_picodollars <= self._budget_picodollars
            ):
                return turn
            self._limit.release()
            if not self._sending_workers:
                self._is_stopped_by_budget = True
                self._stop()
                return None
            async with self._attempt_ended:
                if self._sending_workers:  # they may cost less than their worst case
                    await self._attempt_ended.wait()
        return None

    async def _store_answer(self, request: TeacherRequest, attempt: int, reply: Reply) -> None:
        usage = reply.usage
        if error := exceeded_error(self._ledger, attempt, usage, self._settings):
            self._stop(error)
        if usage.is_known:
            self._token_total += (usage.prompt_tokens or 0) + (usage.completion_tokens or 0)
            self._token_requests += 1
            self._limit.tokens_per_request = self._token_total / self._token_requests
        await store_reply(self._ledger, attempt, request.request_id, reply, self._settings)
        self._count(request, reply.answer)

    async def _store_failure(
        self, request: TeacherRequest, attempt: int, failure: AttemptFailed, is_last_attempt: bool
    ) -> None:
        answer = await store_failure(
            self._ledger, attempt, request.request_id, failure, is_last_attempt, self._settings
        )
        if answer is not None:
            self._count(request, answer)

    def _record_failure(self, failure: AttemptFailed, turn: Turn, headers: Headers) -> None:
        if failure.consequence == "busy" and not failure.is_unreached:
            self._progress.rate_refusals += 1
            self._limit.record_refusal(turn, headers)
            return
        self._progress.failed_attempts += 1
        if failure.consequence in ("retry", "busy"):
            self._limit.record_failure(turn, backoff_s(self._unreached_attempts) if failure.is_unreached else 0.0)
        else:
            self._limit.release()

    def _record_success(self) -> None:
        self._last_answer_s, self._has_reply, self._has_answer = time.monotonic(), True, True
        self._first_answer.set()
        self._consecutive_failures = self._unreached_attempts = 0

    def _stop_if_hopeless(self, failure: AttemptFailed, is_last_attempt: bool) -> None:
        """Stop where no other request would be answered either."""
        if failure.consequence in ("filter", "too long"):  # of this request alone
            self._consecutive_failures, self._has_reply = 0, True
            return
        self._has_reply = self._has_reply or not failure.is_unreached
        self._unreached_attempts = self._unreached_attempts + 1 if failure.is_unreached else 0
        self._consecutive_failures += is_given_up(failure, is_last_attempt)
        seconds_without_answer = time.monotonic() - self._last_answer_s
        most_failures = _CONSECUTIVE_FAILURES
        if not self._has_answer:
            is_rejected = failure.consequence == "reject"
            most_failures = _FIRST_REJECTIONS if is_rejected else max(1, _FIRST_ATTEMPTS // self._settings.attempts)
        problem = None
        if failure.consequence == "stop" or (not self._has_reply and self._unreached_attempts >= _UNREACHED_ATTEMPTS):
            problem = failure.reason
        elif failure.consequence in ("busy", "retry") and seconds_without_answer > self._patience_s:
            problem = f"no answer for {seconds_without_answer:.0f} s: {failure.reason}"
        elif self._consecutive_failures >= most_failures:
            problem = f"{self._consecutive_failures} requests in a row were given up: {failure.reason}"
            if not self._has_answer:
                problem = f"the server has answered nothing: {failure.reason}"
        if problem is not None:
            self._stop(UserError(problem, where=failure.where, hint=failure.hint))

    def _count(self, request: TeacherRequest, answer: Answer) -> None:
        progress = self._progress
        progress.requests_by_outcome[answer.outcome] += 1
        progress.answered += answer.outcome not in RETRYABLE_OUTCOMES
        progress.last_request, progress.last_answer = request, answer
        self._show_progress()

    def _show_progress(self) -> None:
        progress, ledger = self._progress, self._ledger
        progress.in_flight, progress.in_flight_limit = self._limit.in_flight, int(self._limit.limit)
        progress.spent_dollars = ledger.picodollars_paid / PICODOLLARS
        progress.unknown_dollars = ledger.picodollars_unknown / PICODOLLARS
