"""What the server refuses, as OpenAI's API says it: a status of HTTP and an object with `error`. Every module here raises it."""

from __future__ import annotations

from typing import Any


class ApiError(Exception):
    """A refusal. `parameter` names the field of the request that is wrong, `code` is OpenAI's word for the reason."""

    def __init__(
        self,
        status: int,
        message: str,
        parameter: str | None = None,
        code: str | None = None,
        headers: dict[str, str] | None = None,
    ):
        super().__init__(message)
        self.status, self.parameter, self.code, self.headers = status, parameter, code, headers or {}

    def to_json(self) -> dict[str, Any]:
        """The body of the answer."""
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        kind = "rate_limit_error" if self.status == 429 else kind
        return {"error": {"message": str(self), "type": kind, "param": self.parameter, "code": self.code}}


def too_many_requests(retry_after_s: float) -> ApiError:
    """429: there is likely to be room in so many seconds."""
    seconds = max(1, round(retry_after_s))
    message = f"too many requests are waiting; try again in {seconds} s"
    return ApiError(429, message, code="rate_limit_exceeded", headers={"Retry-After": str(seconds)})


def stopping() -> ApiError:
    """503: the server takes no new requests."""
    return ApiError(503, "the server is stopping and takes no new requests", headers={"Retry-After": "10"})
