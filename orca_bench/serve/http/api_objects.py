"""What the answers of OpenAI's API have in common: their two forms, the first fields of each object, the numbers of tokens."""

from __future__ import annotations

import abc
import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from orca_bench.serve.answer_batch import AnswerEnd


class GeneratedAnswer(abc.ABC):
    """What a model is to generate for one request; nothing is computed before the answer is fetched, whole or as a stream.

    `is_stream` is which of them the client wants, `max_bytes` how much memory the answer takes at most.
    """

    def __init__(self, is_stream: bool, max_bytes: int):
        self.is_stream, self.max_bytes = is_stream, max_bytes

    @abc.abstractmethod
    async def whole(self) -> dict[str, Any]:
        """The whole answer."""

    @abc.abstractmethod
    def events(self) -> AsyncGenerator[dict[str, Any], None]:
        """The answer as a stream."""


class AnswerHeader:
    """The fields that all objects of one answer share: an id, which begins with `prefix`, the time and the model's name."""

    def __init__(self, prefix: str, kind: str, model_name: str):
        self._id, self._created = f"{prefix}-{uuid.uuid4().hex}", int(time.time())
        self._kind, self._model_name = kind, model_name

    def fields(self) -> dict[str, Any]:
        """The fields, for a new object."""
        return {"id": self._id, "object": self._kind, "created": self._created, "model": self._model_name}


def usage(ends: Sequence[AnswerEnd], answers_per_prompt: int) -> dict[str, Any]:
    """The numbers of tokens of answers, one prompt's after another; a prompt counts once."""
    prompt_tokens = sum(end.prompt_tokens for end in ends[::answers_per_prompt])
    new_tokens = sum(end.new_tokens for end in ends)
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": new_tokens,
        "total_tokens": prompt_tokens + new_tokens,
        "prompt_tokens_details": {"cached_tokens": sum(end.cached_tokens for end in ends[::answers_per_prompt])},
    }


def json_log_probability(log_probability: float) -> float:
    """A log-probability as JSON has it: OpenAI writes -9999 for a token that cannot come, and JSON knows no infinity."""
    return max(log_probability, -9999.0)
