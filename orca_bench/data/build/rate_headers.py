"""Headers of a reply in, seconds to wait and what is left of the server's limits, out.

Servers write durations in several ways: seconds, `6m0s`, `20ms`, a date. A date is compared with the server's own clock, so that
a wrong clock here changes no wait. Its own module because each form has a source and a test.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_UNITS_S = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_DURATION_PATTERN = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|[dhms]))+")
_DURATION_PART_PATTERN = re.compile(r"(\d+(?:\.\d+)?)(ms|[dhms])")


@dataclass(frozen=True)
class RemainingRequests:
    """How many more requests a server takes until its limit is full again in `reset_s` seconds."""

    request_count: float
    reset_s: float


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds until a refused request may be sent again; None where the server does not tell.

    `Retry-After` is seconds or a date (RFC 9110, 10.2.3); `retry-after-ms` is OpenAI's.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    header_text = headers.get("retry-after")
    seconds = _number(header_text)
    if seconds is not None or header_text is None:
        return seconds
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        retry_time = _utc_time(header_text)
        server_time = _utc_time(headers["date"]) if headers.get("date") else datetime.now(UTC)
        return max(0.0, (retry_time - server_time).total_seconds())
    return None


def remaining_requests(headers: Mapping[str, str], tokens_per_request: float) -> RemainingRequests | None:
    """What is left of the limits of requests and of tokens, whichever is less; None where the server tells of neither.

    The headers are OpenAI's `x-ratelimit-remaining-requests`, `x-ratelimit-reset-requests` and the same of `tokens`
    (https://platform.openai.com/docs/guides/rate-limits), which others have taken over.
    """
    limits = []
    for unit, amount_per_request in (("requests", 1.0), ("tokens", max(1.0, tokens_per_request))):
        remaining_amount = _number(headers.get(f"x-ratelimit-remaining-{unit}"))
        reset_s = duration_s(headers.get(f"x-ratelimit-reset-{unit}"))
        if remaining_amount is not None and reset_s is not None:
            limits.append(RemainingRequests(remaining_amount / amount_per_request, reset_s))
    return min(limits, key=lambda limit: limit.request_count, default=None)


def duration_s(header_text: str | None) -> float | None:
    """The seconds of `6m0s`, `20ms`, `1h2m` or a plain number; None where it is none."""
    if header_text is None or not _DURATION_PATTERN.fullmatch(header_text.strip()):
        return _number(header_text)
    return sum(float(number) * _UNITS_S[unit] for number, unit in _DURATION_PART_PATTERN.findall(header_text))


def _utc_time(header_text: str) -> datetime:
    parsed_time = parsedate_to_datetime(header_text)
    return parsed_time if parsed_time.tzinfo else parsed_time.replace(tzinfo=UTC)


def _number(header_text: str | None) -> float | None:
    """A number that is not negative; None of all else, infinity and NaN included."""
    with contextlib.suppress(ValueError):
        number = float(header_text or "")
        return number if 0 <= number < float("inf") else None
    return None
