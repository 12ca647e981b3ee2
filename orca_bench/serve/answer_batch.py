"""Requests for answers in, the pieces of all answers out as they are computed: what one HTTP request needs of the scheduler.

A consumer that stops, or is cancelled, cancels the requests; their places are free within a step. Its own module because it joins
the thread of the model with an event loop, and knows no HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from orca_bench.serve.answer_text import AnswerText, TextPiece
from orca_bench.serve.batch_scheduler import BatchScheduler
from orca_bench.serve.request_sequence import RequestHandle
from orca_bench.serve.token_requests import Event, PromptScores, QueueFull, RequestEnd, TokenRequest, TokenScore

_LONGEST_WAIT_S = 1.0  # until a request is sent again that met a full queue


class AnswerFailed(Exception):
    """The model could not go on; the text says why. `is_closing` is whether the scheduler was closed."""

    def __init__(self, reason: str, is_closing: bool):
        super().__init__(reason)
        self.is_closing = is_closing


@dataclass(frozen=True)
class AnswerRequest:
    """What is computed, and where the text of the answer ends: before the first of `stop_texts`, or at one of `stop_ids`.

    With `continues_prompt` the text is what the prompt's is continued with, else a text of its own; see `TextStream`.
    """

    tokens: TokenRequest
    stop_texts: tuple[str, ...] = ()
    stop_ids: frozenset[int] = frozenset()
    continues_prompt: bool = False


@dataclass(frozen=True)
class AnswerEnd:
    """Why an answer ended, and how many tokens its prompt has, were in the cache, and are new.

    `stop_score` is the score of the token that ended it, which has no text; None where it was ended otherwise.
    """

    finish_reason: Literal["stop", "length"]
    prompt_tokens: int
    cached_tokens: int
    new_tokens: int
    stop_score: TokenScore | None


@dataclass(frozen=True)
class AnswerPart:
    """A part of the answer to the request of this `index`; the first may have the scores of the prompt, the last has `end`."""

    index: int
    piece: TextPiece = field(default_factory=TextPiece)
    prompt_scores: list[TokenScore | None] | None = None
    end: AnswerEnd | None = None


class AnswerBatch:
    """Some `requests` to one scheduler, of which at most `max_concurrent` are there at a time."""

    def __init__(self, scheduler: BatchScheduler, requests: Sequence[AnswerRequest], max_concurrent: int):
        self._scheduler, self.requests = scheduler, requests
        self._parts: asyncio.Queue[AnswerPart | BaseException] = asyncio.Queue()
        self._slots = asyncio.Semaphore(max_concurrent)
        self._has_submitted = False

    async def parts(self) -> AsyncGenerator[AnswerPart, None]:
        """Yield the parts of all answers in the order in which they are computed.

        Raises QueueFull where the first request finds no room, SchedulerClosed, and AnswerFailed. To be closed (`aclosing`).
        """
        tasks = [asyncio.create_task(self._answer(index, request)) for index, request in enumerate(self.requests)]
        try:
            open_count = len(tasks)
            while open_count:
                part = await self._parts.get()
                if isinstance(part, BaseException):
                    raise part
                open_count -= part.end is not None
                yield part
        finally:
            for task in tasks:
                task.cancel()

    async def _answer(self, index: int, request: AnswerRequest) -> None:
        loop, events = asyncio.get_running_loop(), asyncio.Queue[Event]()

        def deliver(event: Event) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the program ends
                loop.call_soon_threadsafe(events.put_nowait, event)

        async with self._slots:
            try:
                handle = await self._submit(request.tokens, deliver)
                try:
                    await self._assemble(index, request, handle, events)
                finally:
                    handle.cancel()
            except Exception as error:
                self._parts.put_nowait(error)

    async def _submit(self, tokens: TokenRequest, deliver: Callable[[Event], None]) -> RequestHandle:
        """Send a request to the scheduler; where another of the batch has been there, wait for room."""
        while True:
            try:
                handle = self._scheduler.submit(tokens, deliver)
            except QueueFull as error:
                if not self._has_submitted:
                    raise
                await asyncio.sleep(min(error.retry_after_s, _LONGEST_WAIT_S))
            else:
                self._has_submitted = True
                return handle

    async def _assemble(
        self, index: int, request: AnswerRequest, handle: RequestHandle, events: asyncio.Queue[Event]
    ) -> None:
        """Turn the events of one request into parts, until its end."""
        context_ids = request.tokens.prompt_ids if request.continues_prompt else ()
        answer_text = AnswerText(self._scheduler.tokenizer, request.stop_texts, context_ids)
        new_tokens, is_stopped = 0, False
        stop_score: TokenScore | None = None
        while True:
            event = await events.get()
            if isinstance(event, PromptScores):
                self._parts.put_nowait(AnswerPart(index, prompt_scores=event.scores))
            elif isinstance(event, RequestEnd):
                break
            elif not is_stopped:
                if event.token_id in request.stop_ids:
                    stop_score = event
                else:
                    new_tokens += 1
                    piece = answer_text.push(event)
                    if piece.text or piece.tokens:
                        self._parts.put_nowait(AnswerPart(index, piece))
                if is_stopped := stop_score is not None or answer_text.is_stopped:
                    handle.cancel()
        if event.error is not None or (event.reason == "cancelled" and not is_stopped):
            raise AnswerFailed(event.error or "the server is stopping", is_closing=event.error is None)
        piece = answer_text.end()
        is_stopped |= answer_text.is_stopped  # by what was held back
        finish_reason: Literal["stop", "length"] = "length" if event.reason == "length" and not is_stopped else "stop"
        end = AnswerEnd(
            finish_reason, event.prompt_tokens, event.cached_tokens, new_tokens, event.stop_score or stop_score
        )
        self._parts.put_nowait(AnswerPart(index, piece, end=end))
