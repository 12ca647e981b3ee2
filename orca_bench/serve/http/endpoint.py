"""One POST request in, its answer out: a bounded body is read, work is done while the client is there, the answer is sent.

A handler turns a body into an object or into an answer that is to be generated, which is sent as JSON or as server-sent events.
Where the client goes away, the work is cancelled. While a client takes nothing of an answer, its memory is counted.
Its own module because the rules of HTTP are the same for all handlers.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

from starlette.responses import JSONResponse
from starlette.types import Message, Receive, Scope, Send

from orca_bench.errors import UserError, one_line
from orca_bench.serve.answer_batch import AnswerFailed
from orca_bench.serve.http.answer_memory import AnswerMemory
from orca_bench.serve.http.api_error import ApiError, stopping, too_many_requests
from orca_bench.serve.http.api_objects import GeneratedAnswer
from orca_bench.serve.http.requests import MAX_BODY_BYTES
from orca_bench.serve.token_requests import QueueFull, SchedulerClosed

#: Seconds until a client is given up that sends its body slowly.
BODY_TIMEOUT_S = 60.0

#: asyncio copies what the system does not take of an answer.
_COPIES = 2

#: What a handler answers: an object, an object with its status, or what is to be generated.
Answer = dict[str, Any] | JSONResponse | GeneratedAnswer
Handler = Callable[[bytes], Awaitable[Answer]]

_logger = logging.getLogger(__name__)


class JsonEndpoint:
    """An endpoint of POST requests, whose bodies a handler answers; what clients do not take is counted in a memory."""

    def __init__(self, handler: Handler, answer_memory: AnswerMemory):
        self._handler, self._answer_memory = handler, answer_memory

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, by the interface of ASGI."""
        try:
            async with asyncio.timeout(BODY_TIMEOUT_S):
                body = await _read_body(scope, receive)
        except TimeoutError:
            await _send_error(ApiError(408, "the body has not come in time"), scope, receive, send)
            return
        except ApiError as error:
            await _send_error(error, scope, receive, send)
            return
        except _ClientGone:
            return
        work = asyncio.create_task(self._respond(body, scope, receive, send))
        departure = asyncio.create_task(_wait_until_gone(receive))
        try:
            await asyncio.wait({work, departure}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (work, departure):
                task.cancel()
            await asyncio.gather(work, departure, return_exceptions=True)

    async def _respond(self, body: bytes, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            response = await self._answer(body, send)
        except Exception as error:
            await _send_error(_api_error(error), scope, receive, send)
            return
        if response is not None:
            with self._answer_memory.waiting(_COPIES * len(response.body) + len(body)):
                await _send_response(response, send)

    async def _answer(self, body: bytes, send: Send) -> JSONResponse | None:
        """The answer to a body; None where it was sent as a stream."""
        answer = await self._handler(body)
        if isinstance(answer, GeneratedAnswer):
            self._answer_memory.check_room()
            if answer.is_stream:
                await self._stream(answer, send)
                return None
            answer = await answer.whole()
        return answer if isinstance(answer, JSONResponse) else JSONResponse(answer)

    async def _stream(self, answer: GeneratedAnswer, send: Send) -> None:
        """Send an answer as it is computed; while its client takes nothing, all of it may wait in memory."""

        async def send_and_count(message: Message) -> None:
            with self._answer_memory.waiting(answer.max_bytes):
                await send(message)

        async with contextlib.aclosing(answer.events()) as events:
            # The first event decides whether there is an answer or a refusal.
            first_event = await anext(events)
            await _send_events(first_event, events, send_and_count)


class _ClientGone(Exception):
    """The client has closed the connection."""


async def _read_body(scope: Scope, receive: Receive) -> bytes:
    """The whole body; raises ApiError for one that is too long, before it is read where its length is announced."""
    too_long = ApiError(413, f"the body has more than {MAX_BODY_BYTES} bytes", headers={"Connection": "close"})
    for name, value in scope["headers"]:
        if name == b"content-length" and int(value) > MAX_BODY_BYTES:
            raise too_long
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _ClientGone
        body += message.get("body", b"")
        if len(body) > MAX_BODY_BYTES:
            raise too_long
        if not message.get("more_body", False):
            return bytes(body)


async def _wait_until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _send_events(first_event: dict[str, Any], events: AsyncGenerator[dict[str, Any], None], send: Send) -> None:
    """Send events as they come; an error after the first one is the last event."""
    headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    try:
        await _send_event(json.dumps(first_event, ensure_ascii=False), send)
        async for event in events:
            await _send_event(json.dumps(event, ensure_ascii=False), send)
        await _send_event("[DONE]", send)
    except Exception as error:
        await _send_event(json.dumps(_api_error(error).to_json(), ensure_ascii=False), send)
    await send({"type": "http.response.body", "body": b""})


async def _send_response(response: JSONResponse, send: Send) -> None:
    """Send a whole answer; uvicorn waits for a slow client before a message, hence the empty one at the end."""
    await send({"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers})
    await send({"type": "http.response.body", "body": response.body, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _send_event(data: str, send: Send) -> None:
    await send({"type": "http.response.body", "body": f"data: {data}\n\n".encode(), "more_body": True})


def _api_error(error: Exception) -> ApiError:
    """What a client is told of an error; one that nobody expects is logged."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, QueueFull):
        return too_many_requests(error)
    if isinstance(error, SchedulerClosed) or (isinstance(error, AnswerFailed) and error.is_closing):
        return stopping()
    if isinstance(error, UserError):
        return ApiError(400, str(error))
    if isinstance(error, AnswerFailed):
        return ApiError(500, f"the model could not go on: {error}")
    _logger.error("a request failed", exc_info=error)
    return ApiError(500, f"the server failed: {one_line(error, 200)}")


async def _send_error(error: ApiError, scope: Scope, receive: Receive, send: Send) -> None:
    await JSONResponse(error.to_json(), error.status, error.headers)(scope, receive, send)
