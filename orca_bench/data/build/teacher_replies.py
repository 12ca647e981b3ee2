"""What a teacher's server sends in, what became of the attempt out.

A reply is an answer, of which refusals, the content filter, the token limit and empty texts are told apart; or it is no answer,
and then it says whether to send the request again, to give it up, or to stop the build, and whether the attempt may have been
paid. Its own module because every rule here has been met at some server, and none needs a network.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from orca_bench.data.build.answers import Answer, Outcome
from orca_bench.data.build.prices import Usage
from orca_bench.errors import UserError, one_line
from orca_bench.files import parse_json_object

#: What follows from an attempt without an answer: `busy` is asked again without end, `retry` some times; `reject` not in this
#: build, as the server takes no such request; `too long` neither, as it does not take this one; `filter` never; `stop` ends the
#: build.
Consequence = Literal["busy", "retry", "reject", "too long", "filter", "stop"]

#: Why a teacher stops, in its own words: the answer is whole, the token limit cut it off, a filter withheld it, or the server
#: broke off. All other words (`tool_calls`, none at all) say that it is no whole answer.
_WHOLE_FINISH_REASONS = ("stop", "eos", "eos_token", "end_turn", "stop_sequence", "STOP", "COMPLETE")
_LIMIT_FINISH_REASONS = ("length", "max_tokens", "MAX_TOKENS", "model_length", "max_output_tokens")
_FILTER_FINISH_REASONS = (
    *("content_filter", "safety", "recitation", "prohibited_content", "blocklist", "spii", "sensitive"),
    *("SAFETY", "RECITATION", "PROHIBITED_CONTENT", "BLOCKLIST", "SPII"),
)
_BROKEN_FINISH_REASONS = ("error", "abort", "aborted", "cancelled", "canceled", "insufficient_system_resource")

_MAX_TOKEN_COUNT = 2**28  # of a reply: more is no count, and its price would be more than SQLite's integers hold
_MAX_ERROR_LENGTH = 300
_BUSY_STATUSES = (429, 503, 529)
_REJECTED_STATUSES = (400, 405, 411, 414, 415, 422, 431)
#: A gateway that lost the answer behind it: the teacher may have given it, and be paid.
_LOST_ANSWER_STATUSES = (502, 504, 520, 522, 524)
#: Templates that put the opening mark into the prompt leave only the closing one in the answer.
_THINKING_PATTERN = re.compile(r"\s*<think>(.*?)(?:</think>\s*|\Z)|(.*?)</think>\s*", re.DOTALL)
#: Not "account" alone: OpenAI's refusals for the rate name a page of that name.
_ACCOUNT_PATTERN = re.compile(
    r"insufficient[_ ](?:quota|balance|credits|funds)|billing_(?:hard_limit|not_active)|account_deactivated",
    re.IGNORECASE,
)
_UNKNOWN_MODEL_PATTERN = re.compile(
    r"model[_ ]not[_ ]found|(?:invalid|unknown|no such|unsupported) model|"
    r"model\b.{0,120}\b(?:does not exist|not found|is not available|not supported)|not a valid model",
    re.IGNORECASE | re.DOTALL,
)
_FILTER_CODES = ("content_filter", "content_policy_violation", "moderation_blocked", "data_inspection_failed", "1301")
#: Wording is believed of status 400 alone, and of the text that was sent: accounts are flagged too.
_FILTER_PATTERN = re.compile(
    r"\b(?:prompt|input|request|content|message|text)s?\b.{0,80}\b(?:was|were|has been|is|are|triggered|rejected|violates?)\b"
    r".{0,80}(?:filtered|flagged|content[ _](?:management )?(?:filter|policy)|safety system|moderation)",
    re.IGNORECASE | re.DOTALL,
)
_TOO_LONG_PATTERN = re.compile(
    r"context[_ ](?:length|window|size)|(?:prompt|input|request|messages?|string)\b.{0,40}\b(?:too (?:long|large)|above)|"
    r"maximum (?:input|prompt|model) (?:length|tokens)|string_above_max_length",
    re.IGNORECASE | re.DOTALL,
)


@dataclass(frozen=True)
class Reply:
    """An answer with its usage."""

    answer: Answer
    usage: Usage


class AttemptFailed(Exception):
    """An attempt without an answer: what follows from it, and whether it may have been paid.

    `usage` is what the server counted nevertheless. `where` is the recipe's key to put right, of `stop`. `status_code` is that of
    a reply that came.
    """

    status_code: int | None = None

    def __init__(
        self,
        consequence: Consequence,
        reason: str,
        is_possibly_paid: bool = False,
        usage: Usage | None = None,
        where: str = "teacher",
        hint: str | None = None,
        is_unreached: bool = False,
    ):
        super().__init__(reason)
        self.consequence, self.reason, self.is_possibly_paid = consequence, reason, is_possibly_paid
        self.usage, self.where, self.hint, self.is_unreached = usage or Usage(), where, hint, is_unreached


def read_reply(body: bytes) -> Reply:
    """The answer in the body of a reply with status 200; raises AttemptFailed where there is none."""
    try:
        content = parse_json_object(body.decode("utf-8"), "reply")
    except UnicodeDecodeError:
        raise AttemptFailed("retry", "a reply that is not UTF-8", is_possibly_paid=True) from None
    except UserError as error:
        raise AttemptFailed("retry", f"a reply that is {error.problem}", is_possibly_paid=True) from None
    usage = _read_usage(content.get("usage"))
    choices = content.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(message, dict):
        error_text = _explanation(content) if "error" in content else "a reply without choices"
        raise AttemptFailed("retry", error_text, is_possibly_paid=True, usage=usage)
    finish_reason = choice.get("finish_reason") if isinstance(choice.get("finish_reason"), str) else None
    if finish_reason in _BROKEN_FINISH_REASONS:
        raise AttemptFailed("retry", f"the teacher broke off ({finish_reason})", is_possibly_paid=True, usage=usage)
    text, reasoning = _split_thinking(_message_text(message), message)
    refusal = message.get("refusal") if isinstance(message.get("refusal"), str) else None
    answer = Answer(
        outcome=_outcome(text, refusal, finish_reason),
        text=_storable(text or refusal or ""),
        reasoning=_storable(reasoning) if reasoning else None,
        finish_reason=_storable(finish_reason) if finish_reason else None,
        model=_storable(content["model"]) if isinstance(content.get("model"), str) else None,
    )
    return Reply(answer, usage)


def _outcome(text: str, refusal: str | None, finish_reason: str | None) -> Outcome:
    if finish_reason in _FILTER_FINISH_REASONS:
        return "filtered"
    if refusal:
        return "refused"
    if finish_reason in _LIMIT_FINISH_REASONS:
        return "truncated"
    if finish_reason not in _WHOLE_FINISH_REASONS:
        return "unfinished"
    return "answered" if text.strip() else "empty"


def _message_text(message: Mapping[str, Any]) -> str:
    """A message's content, which some servers give in parts."""
    content = message.get("content")
    if isinstance(content, list):
        texts = [part.get("text") for part in content if isinstance(part, dict)]
        return "".join(text for text in texts if isinstance(text, str))
    return content if isinstance(content, str) else ""


def _split_thinking(text: str, message: Mapping[str, Any]) -> tuple[str, str | None]:
    """A text without the thinking before it, and the thinking: of a field of its own, or in <think>…</think>."""
    for key in ("reasoning_content", "reasoning"):
        if isinstance(message.get(key), str) and message[key]:
            return text, message[key]
    match = _THINKING_PATTERN.match(text)
    if match is None:
        return text, None
    return text[match.end() :], (match.group(1) or match.group(2) or "").strip()


def _read_usage(usage: Any) -> Usage:
    if not isinstance(usage, dict):
        return Usage()
    return Usage(_token_count(usage.get("prompt_tokens")), _token_count(usage.get("completion_tokens")))


def _token_count(json_value: Any) -> int | None:
    is_count = isinstance(json_value, int) and not isinstance(json_value, bool) and 0 <= json_value < _MAX_TOKEN_COUNT
    return json_value if is_count else None


def _storable(text: str) -> str:
    """A text that UTF-8 can hold: JSON may have halves of surrogate pairs."""
    return text.encode("utf-8", "replace").decode("utf-8")


def explain_status(status_code: int, body: bytes, api_key_variable: str, model: str) -> AttemptFailed:
    """What follows from a reply whose status is an error; the body has no secrets any more."""
    try:
        content: Any = json.loads(body)
    except (ValueError, RecursionError):
        content = body.decode("utf-8", "replace")
    explanation = _explanation(content)
    error = content.get("error") if isinstance(content, dict) else None
    codes = [str(error.get(key)) for key in ("code", "type")] if isinstance(error, dict) else []
    search_text = " ".join([*codes, explanation])
    reason = f"the server answered {status_code}: {explanation}"
    if status_code == 401:
        return AttemptFailed("stop", reason, hint=f"the key is read from the environment: {api_key_variable}")
    if _is_filtered(status_code, codes, explanation, error):
        return AttemptFailed("filter", reason)
    if status_code in (400, 404, 422) and _UNKNOWN_MODEL_PATTERN.search(search_text):
        return AttemptFailed("stop", reason, where="teacher.model", hint=f"the endpoint has no model '{model}'")
    if status_code == 404:
        return AttemptFailed("stop", reason, where="teacher.base_url", hint="addresses end in /v1 as a rule")
    if status_code in (402, 403) or (status_code in (400, 429) and _ACCOUNT_PATTERN.search(search_text)):
        return AttemptFailed("stop", reason, hint="the account may not use this model, or has no credit left")
    if status_code in _BUSY_STATUSES:
        return AttemptFailed("busy", reason)
    if status_code == 413 or (status_code in (400, 422) and _TOO_LONG_PATTERN.search(search_text)):
        return AttemptFailed("too long", reason)
    if status_code in _REJECTED_STATUSES:
        return AttemptFailed("reject", reason, where="teacher.parameters")
    return AttemptFailed("retry", reason, is_possibly_paid=status_code in _LOST_ANSWER_STATUSES)


def _is_filtered(status_code: int, codes: list[str], explanation: str, error: Any) -> bool:
    """Whether an error is about the texts that were sent. OpenRouter's moderation answers 403 with the flagged input."""
    if status_code not in (400, 403, 422):
        return False
    metadata = error.get("metadata") if isinstance(error, dict) else None
    if any(code in _FILTER_CODES for code in codes) or (isinstance(metadata, dict) and "flagged_input" in metadata):
        return True
    is_about_account = "account" in explanation.lower()
    return status_code == 400 and not is_about_account and _FILTER_PATTERN.search(explanation) is not None


def _explanation(content: Any) -> str:
    """What a server says of an error, as one line."""
    explanation = content
    if isinstance(content, dict):
        explanation = content.get("error", content.get("detail", content.get("message", content)))
        explanation = explanation.get("message", explanation) if isinstance(explanation, dict) else explanation
    if not isinstance(explanation, str):
        explanation = json.dumps(explanation, ensure_ascii=False)
    return one_line(_storable(explanation), _MAX_ERROR_LENGTH) or "no explanation"
