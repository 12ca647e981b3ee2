"""One attempt at a teacher: chat messages in, its reply out, or why there is none.

The client is `openai`'s asynchronous one with its retries off. The key is read from the environment and taken out of every text
that a server sends back. Its own module because it is the only one that knows that library.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from orca_bench.data.build.data_recipe import Teacher
from orca_bench.data.build.teacher_replies import AttemptFailed, Reply, explain_status, read_reply
from orca_bench.errors import UserError, one_line

_CONNECT_TIMEOUT_S = 30.0
_REDACTION = "***"
_NO_KEY = "none"  # of a server that needs none; the library refuses an empty one
#: What httpx raises before a request is sent.
_UNREACHED_CAUSES = ("ConnectError", "ConnectTimeout", "PoolTimeout", "UnsupportedProtocol", "LocalProtocolError")
_TIMEOUT_CAUSES = ("ReadTimeout", "WriteTimeout")

#: The headers of a reply, by their names in lower case.
Headers = Mapping[str, str]


class TeacherClient:
    """The teacher of a recipe that was checked, by `read_data_recipe` and `check_key`; `openai_client` is `openai`'s."""

    def __init__(self, settings: Teacher):
        import openai

        self._openai, self._settings, self._key = openai, settings, _read_key(settings)
        self.openai_client = openai.AsyncOpenAI(
            base_url=settings.base_url,
            api_key=self._key or _NO_KEY,
            max_retries=0,
            timeout=openai.Timeout(settings.timeout, connect=min(settings.timeout, _CONNECT_TIMEOUT_S)),
        )

    async def close(self) -> None:
        """Close all connections."""
        await self.openai_client.close()

    async def send(self, messages: Sequence[Mapping[str, str]]) -> tuple[Reply | AttemptFailed, Headers]:
        """Send messages once; returns the reply, or why there is none, with the headers of what came."""
        openai, settings = self._openai, self._settings
        # Messages as part of `extra_body`: openai 3.54 looks through an argument `messages` piece by piece, which took a quarter
        # of a request's time under a profiler.
        request_body: Any = {**settings.parameters, "messages": messages}
        try:
            async with asyncio.timeout(settings.timeout):  # of all together: httpx starts anew with every byte
                response = await self.openai_client.chat.completions.with_raw_response.create(
                    model=settings.model, messages=[], extra_body=request_body
                )
        except self.call_errors as error:
            headers = error.response.headers if isinstance(error, openai.APIStatusError) else {}
            return self.explain_error(error), headers
        try:
            return read_reply(response.content), response.headers
        except AttemptFailed as failure:
            failure.reason = self._line(failure.reason)
            return failure, response.headers

    @property
    def call_errors(self) -> tuple[type[Exception], ...]:
        """What a call of the library raises where no usable reply came: `explain_error` explains it."""
        return (TimeoutError, self._openai.OpenAIError, ValueError, AttributeError, TypeError, LookupError)

    def explain_error(self, error: Exception) -> AttemptFailed:
        """Why a call of the library gave no reply, without the key."""
        settings = self._settings
        if isinstance(error, TimeoutError):
            return self._timed_out()
        if isinstance(error, self._openai.APIStatusError):
            reply_body = self.redact(error.response.content)
            failure = explain_status(error.status_code, reply_body, settings.api_key_variable, settings.model)
            failure.status_code = error.status_code
            return failure
        if isinstance(error, self._openai.APIConnectionError):  # an APITimeoutError too
            return self._explain_connection_error(error)
        return AttemptFailed("retry", f"not a reply of a teacher ({self._line(error)})", is_possibly_paid=True)

    def redact(self, reply_body: bytes) -> bytes:
        """What a server has sent, without the key."""
        return reply_body.replace(self._key.encode(), _REDACTION.encode()) if self._key else reply_body

    async def redact_stream(self, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The pieces of a reply's body, without the key, also where two of them have parts of it.

        Raises AttemptFailed where the connection breaks off: `openai` makes its own errors of those before the body alone.
        """
        kept_length = max(len(self._key.encode()) - 1, 0)  # of the end, which may be the beginning of the key
        end = b""
        while True:
            try:
                piece = await anext(pieces)
            except StopAsyncIteration:
                break
            except Exception as error:  # httpx's, of a dozen kinds
                raise self._explain_connection_error(error) from None
            text = self.redact(end + piece)
            cut = max(len(text) - kept_length, 0)
            end = text[cut:]
            yield text[:cut]
        yield end

    def _explain_connection_error(self, error: Exception) -> AttemptFailed:
        cause = error.__cause__ or error
        cause_name = type(cause).__name__
        if cause_name in _TIMEOUT_CAUSES:
            return self._timed_out()
        cause_text = self._line(cause) or cause_name
        if cause_name in _UNREACHED_CAUSES:
            reason = f"cannot reach {self._settings.base_url} ({cause_text})"
            return AttemptFailed("busy", reason, where="teacher.base_url", hint="is it running?", is_unreached=True)
        return AttemptFailed("retry", f"the connection broke off ({cause_text})", is_possibly_paid=True)

    def _timed_out(self) -> AttemptFailed:
        return AttemptFailed("retry", f"no complete reply within {self._settings.timeout:g} s", is_possibly_paid=True)

    def _line(self, error_or_text: BaseException | str) -> str:
        text = str(error_or_text)
        return one_line(text.replace(self._key, _REDACTION) if self._key else text, 200)


def check_key(settings: Teacher) -> None:
    """Raise UserError where the key in the environment is none, or stands in a parameter too; the key is not repeated.

    Call it before the recipe is written anywhere.
    """
    key = _read_key(settings)
    for name, value in settings.parameters.items():
        if key and key in str(value):
            raise UserError(
                "the key, which would be kept with the records",
                where=f"teacher.parameters.{name}",
                hint=f"it is read from the environment: {settings.api_key_variable}",
            )


def key_note(settings: Teacher) -> str:
    """A line for the user that says which key goes where, without the key."""
    host = urlsplit(settings.base_url).hostname
    if _read_key(settings):
        return f"the key in ${settings.api_key_variable} is sent to {host}"
    return f"no key in ${settings.api_key_variable}: {host} is asked without one"


def _read_key(settings: Teacher) -> str:
    key = os.environ.get(settings.api_key_variable, "").strip()
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise UserError("not a key: it has spaces or signs that no key has", where=f"${settings.api_key_variable}")
    return key
