"""Requests in, how much memory their answers may take until the clients have taken them; one bound for all requests of a server.

A place of the scheduler is free as soon as an answer is computed. What a slow client has not taken of it stays in memory, as
scores, as JSON or as bytes to be sent, and so nothing else bounds how many such answers there are. Its own module because all
endpoints share one bound.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from orca_bench.serve.answer_batch import AnswerRequest
from orca_bench.serve.http.api_error import ApiError
from orca_bench.serve.token_requests import TokenRequest

#: The bytes that all answers together may take.
MAX_ANSWER_BYTES = 256 * 2**20
#: What a token takes at most, with its text, and each of the likeliest tokens in its place. Measured with CPython 3.11 and short
#: texts: 620 bytes and 122 in a stream that nobody reads. As JSON that is sent, with asyncio's copy, they take less.
_TOKEN_BYTES = 1024
_LIKELIEST_BYTES = 192
#: Seconds until a client should try again: how fast others take their answers is not known.
_RETRY_AFTER_S = 5


class AnswerMemory:
    """The memory for the answers of all requests of a server: at most `max_bytes`, of which `reserved_bytes` are reserved.

    To be used in one event loop.
    """

    def __init__(self, max_bytes: int = MAX_ANSWER_BYTES):
        self.max_bytes, self.reserved_bytes = max_bytes, 0

    @contextlib.contextmanager
    def reservation(self) -> Iterator[Reservation]:
        """What one request reserves, nothing at first; after the block it is free again."""
        reservation = Reservation(self)
        try:
            yield reservation
        finally:
            reservation.shrink_to(0)


class Reservation:
    """The bytes that are reserved for the answer to one request; made by `AnswerMemory.reservation`."""

    def __init__(self, memory: AnswerMemory):
        self._memory, self._byte_count = memory, 0

    def reserve(self, byte_count: int) -> None:
        """Reserve so many bytes in place of those before; raises ApiError (429) where others have too many.

        A request that is alone gets what it needs.
        """
        others = self._memory.reserved_bytes - self._byte_count
        if others and others + byte_count > self._memory.max_bytes:
            raise ApiError(
                429,
                f"too many answers are in memory that their clients have not taken; try again in {_RETRY_AFTER_S} s",
                code="rate_limit_exceeded",
                headers={"Retry-After": str(_RETRY_AFTER_S)},
            )
        self._change_to(byte_count)

    def shrink_to(self, byte_count: int) -> None:
        """Keep at most so many bytes."""
        self._change_to(min(byte_count, self._byte_count))

    def _change_to(self, byte_count: int) -> None:
        self._memory.reserved_bytes += byte_count - self._byte_count
        self._byte_count = byte_count


def answer_token_count(request: TokenRequest, echoes_prompt: bool) -> int:
    """How many tokens the answer to a request may have, with those of the prompt where that is echoed."""
    return request.max_new_tokens + (len(request.prompt_ids) if echoes_prompt else 0)


def max_answer_bytes(requests: Sequence[AnswerRequest], echoes_prompts: bool) -> int:
    """How many bytes the answers to some requests take at most."""
    return sum(
        answer_token_count(request.tokens, echoes_prompts)
        * (_TOKEN_BYTES + request.tokens.top_count * _LIKELIEST_BYTES)
        for request in requests
    )
