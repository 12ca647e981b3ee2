"""What the server refuses, as OpenAI's API says it: a status of HTTP and an object with `error`. Every module here raises it."""

from __future__ import annotations

from typing import Any

from orca_bench.serve.token_requests import QueueFull


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


def too_many_requests(error: QueueFull) -> ApiError:
    """429, with the seconds until there is likely to be room."""
    headers = {"Retry-After": str(error.retry_after_s)}
    return ApiError(429, str(error), code="rate_limit_exceeded", headers=headers)


def stopping() -> ApiError:
    """503: the server takes no new requests."""
    return ApiError(503, "the server is stopping and takes no new requests", headers={"Retry-After": "10"})
