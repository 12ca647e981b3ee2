"""An OpenAI-compatible server: its address without secrets, what it says of itself, and one request at a time.

In: an address. Out: completions, or one line that says what the server did instead. The client is `openai`'s, asynchronous, so
that a request that is under way can be given up at once. Nothing of an address that may be secret (a password, the values
of its query) gets into a result or an error, nor does the key.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit

from orca_bench.errors import UserError

_RETRIES = 6  # of a request that met a full queue, a failure of the server or a broken connection; waits grow
_CONNECT_S, _ABOUT_S = 20, 10  # to connect; to answer what only llama.cpp's server is asked
_HIDDEN = "***"

_T = TypeVar("_T")


@dataclass(frozen=True)
class Address:
    """A server's address in parts: `url` has no secret, `query` and `headers` hold them, `display_url` is for the person."""

    url: str
    query: dict[str, str]
    headers: dict[str, str]
    display_url: str
    secrets: tuple[str, ...]

    @staticmethod
    def parse(text: str) -> Address:
        """Raises UserError where it is no http address; the error does not repeat it."""
        try:
            parts = urlsplit(text.strip())
            host, port = parts.hostname, parts.port
        except ValueError:
            host = port = parts = None
        if not host or parts.scheme not in ("http", "https"):
            raise UserError("not the address of a server", where="--base-url", hint="http://127.0.0.1:8000/v1, say")
        name = f"[{host}]" if ":" in host else host
        bare = f"{name}:{port}" if port else name
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        secrets = [value for pair in parse_qsl(parts.query) for value in pair[1:]]
        headers, login = {}, ""
        if parts.username or parts.password:
            user, password = unquote(parts.username or ""), unquote(parts.password or "")
            headers["Authorization"] = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
            # A name without a password may be a token itself.
            secrets += [secret for secret in (parts.username, parts.password, user, password) if secret]
            login = f"{_HIDDEN}@"
        path = parts.path.rstrip("/")
        hidden_query = "&".join(f"{key}={_HIDDEN}" for key in query)
        return Address(
            urlunsplit((parts.scheme, bare, path, "", "")),
            query,
            headers,
            urlunsplit((parts.scheme, login + bare, path, hidden_query, "")),
            tuple(sorted({secret for secret in secrets if len(secret) > 2}, key=len, reverse=True)),
        )

    def redacted(self, text: str) -> str:
        """A text without this address's secrets and without the key."""
        for secret in (*self.secrets, os.environ.get("OPENAI_API_KEY") or ""):
            if secret:
                text = text.replace(secret, _HIDDEN)
        return text


class Endpoint:
    """The server at `base_url` (…/v1), whose key is OPENAI_API_KEY, serving `model`; None takes the only one it lists.

    `window` is how many tokens a request and its answer may have together, as far as the server says, else None.
    """

    def __init__(self, base_url: str, model: str | None = None, timeout: float = 600):
        import openai

        self._openai, self._address = openai, Address.parse(base_url)
        self._runner = asyncio.Runner()
        self._client = openai.AsyncOpenAI(
            base_url=self._address.url,
            api_key=os.environ.get("OPENAI_API_KEY") or "none",
            default_query=self._address.query,
            default_headers=self._address.headers,
            max_retries=_RETRIES,
            timeout=openai.Timeout(timeout, connect=_CONNECT_S),
        )
        try:
            self._learn(model)
        except BaseException:
            self.close()
            raise

    @property
    def display_url(self) -> str:
        """The address without its secrets."""
        return self._address.display_url

    def close(self) -> None:
        """Give up what is under way, and close all connections."""
        with contextlib.suppress(Exception):
            self._runner.run(self._client.close())
        self._runner.close()

    def run(self, work: Awaitable[_T]) -> _T:
        """Wait for requests that are made together; what is under way when this is interrupted, `close` gives up."""
        return self._runner.run(work)

    async def complete(self, ids: list[int], **options):
        """One completion: openai's Completion. Raises UserError for what a server does instead."""
        completion = await self.ask(
            lambda: self._client.completions.create(model=self.model, prompt=ids, temperature=0, **options)
        )
        if not completion.choices:
            raise UserError("the server's completion has no choice", where=self.display_url)
        return completion

    async def ask(self, request: Callable[[], Awaitable[_T]]) -> _T:
        """A request's answer, with every failure in one line."""
        openai = self._openai
        try:
            return await request()
        except openai.APIStatusError as error:
            raise Refused(error.status_code, self._line(error.message, 300), self.display_url) from None
        except openai.APIConnectionError as error:
            reason = error.__cause__ or error
            cause = self._line(reason, 200) or type(reason).__name__
            raise UserError(
                f"cannot reach the server ({cause})", where=self.display_url, hint=self._unreached_hint(cause)
            ) from None
        except (openai.OpenAIError, ValueError, AttributeError, TypeError) as error:
            line = self._line(error, 200)
            raise UserError(f"not an answer of a completions server ({line})", where=self.display_url) from None

    def _unreached_hint(self, cause: str) -> str:
        """What to do about a connection that failed; OpenSSL and httpx 0.28 say what a server of the other scheme does."""
        if "WRONG_VERSION_NUMBER" in cause or "RECORD_LAYER" in cause or "record layer" in cause:
            return "it speaks no TLS: does its address begin with http://?"
        if "CERTIFICATE_VERIFY_FAILED" in cause:
            return "SSL_CERT_FILE names a file of the certificates that are trusted"
        if self._address.url.startswith("http:") and ("disconnected" in cause or cause == "ReadError"):
            return "is it running, and does its address begin with https://?"
        return "is it running?"

    def _line(self, message: object, length: int) -> str:
        return self._address.redacted(" ".join(str(message).split()))[:length]

    def _learn(self, wanted: str | None) -> None:
        """Which model is served, by what, and with which window."""
        # Once only: a server that is not there now will not come.
        once = self._client.with_options(max_retries=0)

        async def listed() -> list:
            return [model async for model in once.models.list()]

        models = self.run(self.ask(listed))
        names = [model.id for model in models]
        if wanted is not None and names and wanted not in names:
            raise UserError(
                f"the server has no model '{wanted}'", where=self.display_url, hint=f"it has {', '.join(names[:5])}"
            )
        if wanted is None and len(names) != 1:
            raise UserError(
                f"the server lists {len(names)} models ({', '.join(names[:5])})",
                where=self.display_url,
                hint="name one with --served-model",
            )
        self.model: str = wanted or names[0]
        card = next((model for model in models if model.id == self.model), None)
        # vLLM and SGLang say max_model_len there; llama.cpp says n_ctx, what one of its slots holds, elsewhere.
        self.window = _count(getattr(card, "max_model_len", None)) or self._slot_size(once)

    def _slot_size(self, client) -> int | None:
        url = self._address.url.removesuffix("/v1") + "/props"
        with contextlib.suppress(Exception):  # most servers do not have it
            properties = self.run(asyncio.wait_for(client.get(url, cast_to=object), _ABOUT_S))
            return _count(properties["default_generation_settings"]["n_ctx"])
        return None


class Refused(UserError):
    """The server answered with an HTTP error."""

    def __init__(self, status: int, message: str, where: str):
        self.status = status
        hints = {404: "the address ends in /v1 as a rule", 401: "the key is read from OPENAI_API_KEY"}
        super().__init__(f"the server refused ({status}): {message}", where=where, hint=hints.get(status))


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
