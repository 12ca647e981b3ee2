"""The bodies of requests as typed models: what OpenAI's API has, where the server does it, and a few fields of vLLM's.

A field that nobody knows is refused, as OpenAI refuses it, and so is a known one that would change the answer and is not
supported; a value that changes nothing is taken. Its own module because it needs neither a server nor a model.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
    model_validator,
)

from orca_bench.errors import one_line, spelling_hint
from orca_bench.serve.http.api_error import ApiError
from orca_bench.serve.token_requests import MAX_TOP_TOKENS

#: The longest body that is read, in bytes: a quarter of a million token ids, or of words, have place in it.
MAX_BODY_BYTES = 4 * 2**20
MAX_CHOICES = 128
_LONG_BODY_BYTES = 64 * 2**10  # from here on a body is parsed in a thread
_LONGEST_NAME = 100  # characters of a field's name in a refusal
_SEED_LIMIT = 2**63

_Parsed = TypeVar("_Parsed", bound=BaseModel)


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _keep_first_unknown_field(cls, fields: Any) -> Any:
        """The known fields and the first unknown one: pydantic makes an error of each, and a body may have 100,000."""
        if not isinstance(fields, dict):
            return fields
        first_unknown = next((name for name in fields if name not in cls.model_fields), None)
        return {name: value for name, value in fields.items() if name in {*cls.model_fields, first_unknown}}


def _only(neutral_value: Any) -> AfterValidator:
    """A check that a field has a value that changes nothing: None or `neutral_value`."""

    def check(value: Any) -> Any:
        if value is not None and value != neutral_value:
            raise ValueError(f"is not supported: leave it out, or {neutral_value!r}")
        return value

    return AfterValidator(check)


def _prompts(value: Any) -> list[str] | list[list[int]]:
    """The prompts of a completion: a text, texts, token ids or lists of them."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and value:
        if all(isinstance(item, str) for item in value):
            return value
        if _are_ids(value):
            return [value]
        if all(isinstance(item, list) and item and _are_ids(item) for item in value):
            return value
    raise ValueError(
        "must be a text, a list of texts, a list of token ids, or a list of such lists, none of them empty"
    )


def _are_ids(items: list[Any]) -> bool:
    return all(type(item) is int for item in items)


def _stop_texts(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


StopText = Annotated[str, Field(min_length=1)]


class StreamOptions(_Body):
    """What a stream has besides the text: `include_usage`, a last event with the numbers of tokens."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None  # there is none


class SamplingBody(_Body):
    """What completions and chats have in common. A `seed` gives the same answer again; of `n` answers each has the next one."""

    model: str
    temperature: Annotated[float, Field(ge=0, le=1000)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1)] | None = None
    seed: Annotated[int, Field(ge=-_SEED_LIMIT, lt=_SEED_LIMIT)] | None = None
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None
    stop: Annotated[list[StopText] | None, Field(max_length=64), BeforeValidator(_stop_texts)] = None
    stop_token_ids: Annotated[list[int] | None, Field(max_length=1024)] = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = None  # changes nothing
    presence_penalty: Annotated[float | None, _only(0)] = None
    frequency_penalty: Annotated[float | None, _only(0)] = None
    repetition_penalty: Annotated[float | None, _only(1)] = None
    repeat_penalty: Annotated[float | None, _only(1)] = None
    min_p: Annotated[float | None, _only(0)] = None
    logit_bias: Annotated[Any, _only({})] = None

    @property
    def has_usage_event(self) -> bool:
        """Whether a stream ends with an event that has the numbers of tokens."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)


class CompletionBody(SamplingBody):
    """`POST /v1/completions`. Texts get a BOS, where the model has one, unless `add_special_tokens` is false."""

    prompt: Annotated[list[str] | list[list[int]], PlainValidator(_prompts)]
    max_tokens: Annotated[int, Field(ge=0)] | None = None
    echo: bool | None = None
    logprobs: Annotated[int, Field(ge=0, le=MAX_TOP_TOKENS)] | None = None
    best_of: Annotated[int | None, _only(1)] = None
    suffix: Annotated[str | None, _only("")] = None
    add_special_tokens: bool = True
    return_token_ids: bool | None = None
    return_tokens_as_token_ids: bool | None = None


def _check_tool_choice(value: Any) -> Any:
    if value not in (None, "auto", "none"):
        raise ValueError("no tool can be used here: leave it out, or 'auto' or 'none'")
    return value


_without_tools = AfterValidator(_check_tool_choice)


def _joined_parts(value: Any) -> Any:
    """The content of a message as one text, where it comes in parts that are texts; anything else stays as it is."""
    is_text = isinstance(value, list) and all(
        isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str) for part in value
    )
    return "".join(part["text"] for part in value) if is_text else value


class Message(BaseModel):
    """One message. An answer of this server can be sent again as it came: what else it has is not looked at.

    `developer` is OpenAI's name of the role `system` for its later models.
    """

    model_config = ConfigDict(extra="ignore", strict=True)

    role: Literal["system", "developer", "user", "input", "assistant"]
    content: Annotated[str, BeforeValidator(_joined_parts)]


class ResponseFormat(_Body):
    """The only format is a text."""

    type: Literal["text"]


Messages = Annotated[list[Message], Field(min_length=1, fail_fast=True)]


class ChatBody(SamplingBody):
    """`POST /v1/chat/completions`. Tools may be offered, as some clients do; the model is not told of them and uses none."""

    messages: Messages
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_TOP_TOKENS)] | None = None
    response_format: ResponseFormat | None = None
    tools: list[Any] | None = None
    tool_choice: Annotated[Any, _without_tools] = None
    parallel_tool_calls: bool | None = None


class TokenizeBody(_Body):
    """`POST /tokenize`, as vLLM has it."""

    model: str | None = None
    prompt: str
    add_special_tokens: bool = True


class PromptBody(_Body):
    """`POST /page/prompt`: the messages of a chat."""

    model: str
    messages: Messages


def _not_blank(value: str) -> str:
    if not value.strip():
        raise ValueError("must not be blank")
    return value


NonBlankText = Annotated[str, AfterValidator(_not_blank)]


class RecordBody(_Body):
    """`POST /page/records`: one turn that is to become a record; `was_cut` as `turn_record` has it."""

    system: str
    instruction: NonBlankText
    input: str | None = None
    response: NonBlankText
    model: str
    was_cut: bool = False


async def parse_body(body_type: type[_Parsed], body: bytes) -> _Parsed:
    """The body of a request; raises ApiError (400), with the first field that is wrong."""
    if len(body) > _LONG_BODY_BYTES:
        return await asyncio.to_thread(_parse, body_type, body)
    return _parse(body_type, body)


def _parse(body_type: type[_Parsed], body: bytes) -> _Parsed:
    try:
        return body_type.model_validate_json(body)
    except ValidationError as error:
        first_error = error.errors(include_url=False, include_input=False, include_context=False)[0]
    location, kind = [str(part)[:_LONGEST_NAME] for part in first_error["loc"]], first_error["type"]
    parameter = ".".join(location) or None
    message = first_error["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if kind == "json_invalid":
        raise ApiError(400, f"the body is no JSON: {one_line(message.removeprefix('Invalid JSON: '), 200)}")
    if kind == "extra_forbidden":
        hint = spelling_hint(location[-1], body_type.model_fields) if len(location) == 1 else None
        message = f"unknown field{f'; {hint}' if hint else ''}"
    elif kind == "missing":
        message = "is missing"
    elif kind == "model_type":
        message = "must be a JSON object"
    message = one_line(message[:1].lower() + message[1:], 300)
    raise ApiError(400, f"{parameter}: {message}" if parameter else f"the body {message}", parameter)
