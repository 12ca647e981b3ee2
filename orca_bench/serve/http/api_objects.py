"""What the answers of OpenAI's API have in common: the first fields of each object, and the numbers of tokens."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from typing import Any

from orca_bench.serve.answer_batch import AnswerEnd


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
