"""An address in, completions out: one OpenAI-compatible server, its kind, model and window, and one request at a time.

What a server does instead of answering becomes a UserError of one line. The client is `openai`'s asynchronous one, so that
requests that are under way can be cancelled at once. No part of an address that may be secret (a password, the values of its
query) gets into a result or an error, nor does the key. Its own module because it knows HTTP and nothing of evaluation.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit

from orca_bench.errors import UserError, one_line
from orca_bench.evaluate.servers import server_kinds

if TYPE_CHECKING:
    from openai import APIStatusError, Timeout
    from openai.types import Completion, Model

_MAX_REQUEST_RETRIES = (
    6  # of a request that met a full queue, a failure of the server or a broken connection; waits grow
)
#: Seconds that the first answers of a server may take: some load weights or compile kernels only then.
FIRST_ANSWER_TIMEOUT_S = 1800.0
_CONNECT_TIMEOUT_S = 60.0
_PROPERTIES_TIMEOUT_S = 30.0  # to answer a question that only some servers know
_REDACTION = "***"

_T = TypeVar("_T")


@dataclass(frozen=True)
class Address:
    """A server's address in parts.

    `url_without_secrets` has no secret; `query_parameters` and `authorization_headers` hold them. `redacted_url` has stars in
    their place. `secret_texts` are the texts to hide wherever they appear.
    """

    url_without_secrets: str
    query_parameters: dict[str, str]
    authorization_headers: dict[str, str]
    redacted_url: str
    secret_texts: tuple[str, ...]

    @staticmethod
    def parse(url_text: str) -> Address:
        """The parts of an address; raises UserError where it is no http address, without repeating it."""
        not_an_address_error = UserError(
            "not the address of a server", where="--base-url", hint="http://127.0.0.1:8000/v1, say"
        )
        try:
            url_parts = urlsplit(url_text.strip())
            host, port = url_parts.hostname, url_parts.port
        except ValueError:
            raise not_an_address_error from None
        if not host or url_parts.scheme not in ("http", "https"):
            raise not_an_address_error
        host_name = f"[{host}]" if ":" in host else host
        host_and_port = f"{host_name}:{port}" if port else host_name
        query_parameters = dict(parse_qsl(url_parts.query, keep_blank_values=True))
        secret_texts = [secret_value for query_pair in parse_qsl(url_parts.query) for secret_value in query_pair[1:]]
        authorization_headers: dict[str, str] = {}
        redacted_login = ""
        if url_parts.username or url_parts.password:
            user_name, password = unquote(url_parts.username or ""), unquote(url_parts.password or "")
            authorization_headers["Authorization"] = (
                "Basic " + base64.b64encode(f"{user_name}:{password}".encode()).decode()
            )
            # A name without a password may be a token itself.
            secret_texts += [
                secret for secret in (url_parts.username, url_parts.password, user_name, password) if secret
            ]
            redacted_login = f"{_REDACTION}@"
        url_path = url_parts.path.rstrip("/")
        redacted_query = "&".join(f"{key}={_REDACTION}" for key in query_parameters)
        return Address(
            urlunsplit((url_parts.scheme, host_and_port, url_path, "", "")),
            query_parameters,
            authorization_headers,
            urlunsplit((url_parts.scheme, redacted_login + host_and_port, url_path, redacted_query, "")),
            tuple(sorted({secret for secret in secret_texts if len(secret) > 2}, key=len, reverse=True)),
        )

    def redact(self, text: str) -> str:
        """A text without this address's secrets and without the key."""
        for secret_text in (*self.secret_texts, os.environ.get("OPENAI_API_KEY") or ""):
            if secret_text:
                text = text.replace(secret_text, _REDACTION)
        return text


class Endpoint:
    """The server at `base_url` (…/v1), serving a model, by default the only one it lists. The key is OPENAI_API_KEY.

    `window_tokens` is how many tokens a request and its answer may have together, as far as the server says, else None. `kind` is
    which program it is. An answer may take `timeout_s` seconds. Raises UserError where no server is there, it serves another
    model, or it is of a kind that cannot be evaluated.
    """

    def __init__(self, base_url: str, requested_model_name: str | None = None, timeout_s: float = 600.0):
        import openai

        self._openai, self._address, self._timeout_s = openai, Address.parse(base_url), timeout_s
        self._runner, self._is_interrupted = asyncio.Runner(), False
        self._client = openai.AsyncOpenAI(
            base_url=self._address.url_without_secrets,
            api_key=os.environ.get("OPENAI_API_KEY") or "none",
            default_query=self._address.query_parameters,
            default_headers=self._address.authorization_headers,
            max_retries=_MAX_REQUEST_RETRIES,
            timeout=self._client_timeout(),
        )
        try:
            self._look_up_model(requested_model_name)
        except BaseException:
            self.close()
            raise

    @property
    def redacted_url(self) -> str:
        """The address without its secrets."""
        return self._address.redacted_url

    def close(self) -> None:
        """Cancel the requests that are under way, and close all connections."""
        # An interrupt that met a request inside the event loop is raised once more by whatever waits for that request.
        expected_errors = (Exception, KeyboardInterrupt) if self._is_interrupted else (Exception,)
        with contextlib.suppress(*expected_errors):
            self._runner.run(self._client.close())
        with contextlib.suppress(*expected_errors):
            self._runner.close()

    def run(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        """Wait for some requests; `close` cancels those that are under way when this is interrupted."""
        try:
            return self._runner.run(coroutine)
        except KeyboardInterrupt:
            self._is_interrupted = True
            # Nobody looks at the requests that are under way any more, so that nobody is told of their errors either.
            self._runner.get_loop().set_exception_handler(lambda loop, context: None)
            raise

    @contextlib.contextmanager
    def first_answer_timeout(self) -> Iterator[None]:
        """Inside the block an answer may take FIRST_ANSWER_TIMEOUT_S, where that is longer."""
        later_timeout_s = self._timeout_s
        self._timeout_s = max(later_timeout_s, FIRST_ANSWER_TIMEOUT_S)
        try:
            yield
        finally:
            self._timeout_s = later_timeout_s

    async def complete(self, prompt: list[int] | str, **options: Any) -> Completion:
        """One completion of a prompt, ids as a rule, at temperature 0; `options` are those of the completions API.

        Raises UserError for what a server does instead.
        """
        client_timeout = self._client_timeout()
        create_completion = self._client.completions.create
        completion = await self.request(
            lambda: create_completion(
                model=self.model_name, prompt=prompt, temperature=0, timeout=client_timeout, **options
            )
        )
        # openai's client checks no types.
        choices = getattr(completion, "choices", None)
        if not isinstance(choices, list) or not choices:
            raise UserError("the server's completion has no choice", where=self.redacted_url)
        return completion

    async def post(self, path: str, content: dict[str, Any]) -> dict[str, Any]:
        """The JSON object that the server answers to one at a path of its own, outside of /v1; errors as of `complete`."""
        request_options: Any = {"timeout": self._client_timeout()}
        answer: Any = await self.request(
            lambda: self._client.post(self._own_url(path), body=content, cast_to=object, options=request_options)
        )
        if not isinstance(answer, dict):
            raise UserError(f"the server's answer of {path} is no JSON object", where=self.redacted_url)
        return answer

    def look_up(self, path: str, as_text: bool = False) -> Any:
        """What the server has at a path of its own, as JSON or text; None where it has nothing there, or does not answer."""
        answer_type: Any = str if as_text else object
        # One retry: a server that had an internal error may have closed the connection that is used again.
        client_with_one_retry = self._client.with_options(max_retries=1)
        with contextlib.suppress(Exception):
            return self.run(
                asyncio.wait_for(
                    client_with_one_retry.get(self._own_url(path), cast_to=answer_type), _PROPERTIES_TIMEOUT_S
                )
            )
        return None

    def _own_url(self, path: str) -> str:
        return self._address.url_without_secrets.removesuffix("/v1") + path

    def _client_timeout(self) -> Timeout:
        return self._openai.Timeout(self._timeout_s, connect=_CONNECT_TIMEOUT_S)

    async def request(self, send: Callable[[], Awaitable[_T]]) -> _T:
        """The answer to what `send` sends; every failure is a UserError of one line."""
        openai = self._openai
        try:
            return await send()
        except openai.APIStatusError as error:
            raise RequestRefused(
                error.status_code, self._one_line(_refusal_text(error), 300), self.redacted_url
            ) from None
        except openai.APIConnectionError as error:
            # An APITimeoutError too: httpx says whether it was the connection or the answer that took so long.
            if type(error.__cause__).__name__ in ("ReadTimeout", "WriteTimeout"):
                raise UserError(
                    f"the server has not answered a request within {self._timeout_s:g} s",
                    where=self.redacted_url,
                    hint="it is slow, or it hangs; fewer requests at a time (--concurrency) are each answered sooner",
                ) from None
            underlying_error = error.__cause__ or error
            cause_text = self._one_line(underlying_error, 200) or type(underlying_error).__name__
            raise UserError(
                f"cannot reach the server ({cause_text})",
                where=self.redacted_url,
                hint=self._unreached_hint(cause_text),
            ) from None
        except (openai.OpenAIError, ValueError, AttributeError, TypeError) as error:
            line = self._one_line(error, 200)
            raise UserError(f"not an answer of a completions server ({line})", where=self.redacted_url) from None

    def _unreached_hint(self, cause_text: str) -> str:
        """What to do about a connection that failed; OpenSSL and httpx 0.28 say what a server of the other scheme does."""
        if "WRONG_VERSION_NUMBER" in cause_text or "RECORD_LAYER" in cause_text or "record layer" in cause_text:
            return "it speaks no TLS: does its address begin with http://?"
        if "CERTIFICATE_VERIFY_FAILED" in cause_text:
            return "SSL_CERT_FILE names a file of the certificates that are trusted"
        if self._address.url_without_secrets.startswith("http:") and (
            "disconnected" in cause_text or cause_text == "ReadError"
        ):
            return "is it running, and does its address begin with https://?"
        return "is it running?"

    def _one_line(self, message: Exception | str, max_length: int) -> str:
        return one_line(self._address.redact(str(message)), max_length)

    def _look_up_model(self, requested_model_name: str | None) -> None:
        """Set `kind`, `model_name`, the name under which it is served, and `window_tokens`."""
        # Once only: a server that is not there now will not come.
        client_without_retries = self._client.with_options(max_retries=0)

        async def list_models() -> list[_ListedModel]:
            return [_ListedModel.read(model) async for model in client_without_retries.models.list()]

        try:
            listed_models = self.run(self.request(list_models))
        except RequestRefused:  # transformers serve has an internal error where there is no folder of downloaded models
            self._refuse_unusable_kind(None)
            raise
        listed_model_names = [listed_model.name for listed_model in listed_models]
        self._refuse_unusable_kind(listed_models[0].owner if listed_models else None)
        if requested_model_name is not None and listed_model_names and requested_model_name not in listed_model_names:
            raise UserError(
                f"the server has no model '{requested_model_name}'",
                where=self.redacted_url,
                hint=f"it has {', '.join(listed_model_names[:5])}",
            )
        if requested_model_name is None and len(listed_model_names) != 1:
            raise UserError(
                f"the server lists {len(listed_model_names)} models ({', '.join(listed_model_names[:5])})",
                where=self.redacted_url,
                hint="name one with --served-model",
            )
        self.model_name: str = requested_model_name or listed_model_names[0]
        window_tokens_by_name = {listed_model.name: listed_model.window_tokens for listed_model in listed_models}
        # vLLM and SGLang list max_model_len; llama.cpp has n_ctx, what one of its slots holds, elsewhere.
        listed_tokens = window_tokens_by_name.get(self.model_name) or self._slot_window_tokens()
        self.window_tokens = server_kinds.usable_window_tokens(self.kind, listed_tokens, self.look_up)

    def _refuse_unusable_kind(self, owner: str | None) -> None:
        """Set `kind`, from whom the listed models say that they are owned by; raises UserError where it cannot be evaluated."""
        self.kind = server_kinds.identify(owner, self.look_up)
        server_kinds.check_usable(self.kind, self.redacted_url)

    def _slot_window_tokens(self) -> int | None:
        """The window of a slot of llama.cpp's server in tokens; None of any other server."""
        properties = self.look_up("/props")  # most servers do not have it
        with contextlib.suppress(KeyError, TypeError):
            return _positive_int(properties["default_generation_settings"]["n_ctx"])
        return None


class _ListedModel(NamedTuple):
    """A model that a server lists: its name, its owner and its window in tokens; None where the server does not say."""

    name: str
    owner: str | None
    window_tokens: int | None

    @staticmethod
    def read(model: Model) -> _ListedModel:
        """From openai's object, whose types are not checked; raises AttributeError or TypeError where it has no name."""
        if not isinstance(model.id, str):
            raise TypeError("a listed model has no name")
        owner = getattr(model, "owned_by", None)
        window_tokens = _positive_int(getattr(model, "max_model_len", None))
        return _ListedModel(model.id, owner if isinstance(owner, str) else None, window_tokens)


class RequestRefused(UserError):
    """The server answered with an HTTP error, whose code is `status_code`."""

    def __init__(self, status_code: int, message: str, where: str):
        self.status_code = status_code
        hints = {404: "the address ends in /v1 as a rule", 401: "the key is read from OPENAI_API_KEY"}
        super().__init__(f"the server refused ({status_code}): {message}", where=where, hint=hints.get(status_code))


def _refusal_text(error: APIStatusError) -> str:
    """What a server says of a request that it refuses: openai's client repeats only what stands under `error`."""
    with contextlib.suppress(Exception):
        content = error.response.json()
        explanation = content.get("error", content.get("detail", content.get("message", content)))
        explanation = explanation.get("message", explanation) if isinstance(explanation, dict) else explanation
        return explanation if isinstance(explanation, str) else json.dumps(explanation, ensure_ascii=False)
    return error.message


def _positive_int(json_value: Any) -> int | None:
    return json_value if isinstance(json_value, int) and not isinstance(json_value, bool) and json_value > 0 else None
