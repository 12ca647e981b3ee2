"""Answers that their clients have not taken in, whether a server may begin another one out.

A place of the scheduler is free as soon as an answer is computed. What a slow client has not taken of it stays in memory, as
scores, as JSON or as bytes to be sent, and so nothing else bounds how many such answers there are. An answer that is being
computed, or that its client takes as it comes, does not count. Its own module because all endpoints share one bound.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from orca_bench.serve.answer_batch import AnswerRequest
from orca_bench.serve.http.api_error import ApiError
from orca_bench.serve.token_requests import TokenRequest

#: So many bytes of untaken answers, and no further answer begins.
MAX_ANSWER_BYTES = 256 * 2**20
#: What a token takes at most, with its text, and each of the likeliest tokens in its place. Measured with CPython 3.11 and short
#: texts: 620 bytes and 122 in a stream that nobody reads. As JSON that is sent, with asyncio's copy, they take less.
_TOKEN_BYTES = 1024
_LIKELIEST_BYTES = 192
#: Seconds until a client should try again: how fast others take their answers is not known.
_RETRY_AFTER_S = 5


class AnswerMemory:
    """How many bytes of answers wait for their clients, in all requests of a server; beyond `max_bytes` no request begins.

    To be used in one event loop.
    """

    def __init__(self, max_bytes: int = MAX_ANSWER_BYTES):
        self.max_bytes, self.untaken_bytes = max_bytes, 0

    def check_room(self) -> None:
        """Raise ApiError (429) where clients have left too much."""
        if self.untaken_bytes >= self.max_bytes:
            raise ApiError(
                429,
                f"too many answers are in memory that their clients have not taken; try again in {_RETRY_AFTER_S} s",
                code="rate_limit_exceeded",
                headers={"Retry-After": str(_RETRY_AFTER_S)},
            )

    @contextlib.contextmanager
    def waiting(self, byte_count: int) -> Iterator[None]:
        """Count so many bytes inside the block, in which a client takes them."""
        self.untaken_bytes += byte_count
        try:
            yield
        finally:
            self.untaken_bytes -= byte_count


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
