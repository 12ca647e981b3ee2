"""What requests cost: the most tokens that one can have, and the price of tokens as an integer.

Prices are in millionths of a millionth of a dollar, so that sums are exact. Its own module because a reservation, the ledger and
an estimate must count alike.
"""

from __future__ import annotations

from dataclasses import dataclass

from orca_bench.data.build.data_recipe import TOKEN_LIMIT_KEYS, Teacher
from orca_bench.data.build.teacher_requests import TeacherRequest

PICODOLLARS = 10**12  # in a dollar
#: Tokens that a server may add to a prompt: a chat template's own words and system message, and its marks around each message.
_TEMPLATE_TOKENS, _MESSAGE_TOKENS = 128, 16


@dataclass(frozen=True)
class Usage:
    """The teacher's count of tokens; None where it does not tell."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None

    @property
    def is_known(self) -> bool:
        """Whether both counts are there, so that the price is known."""
        return self.prompt_tokens is not None and self.completion_tokens is not None


def worst_case_tokens(request: TeacherRequest, settings: Teacher) -> Usage:
    """The most tokens that a request and its answer can have.

    A token of a byte-level or byte-fallback tokenizer has at least one byte of UTF-8, so that a text has at most as many tokens
    as bytes; the answer has at most as many as the recipe allows.
    """
    byte_count = sum(len(message["content"].encode("utf-8", "replace")) for message in request.messages)
    prompt_tokens = byte_count + _MESSAGE_TOKENS * len(request.messages) + _TEMPLATE_TOKENS
    limits = [int(settings.parameters[key]) for key in TOKEN_LIMIT_KEYS if settings.parameters.get(key) is not None]
    return Usage(prompt_tokens, max(limits))


def price_picodollars(usage: Usage, settings: Teacher) -> int:
    """The price of tokens, both of which are known; $1 per million tokens is 10⁶ millionths of a millionth a token.

    Where the recipe asks in batches, it is the price in a batch.
    """
    assert usage.prompt_tokens is not None and usage.completion_tokens is not None
    price_factor = 1.0 if settings.batch is None else settings.batch.price_factor
    return usage.prompt_tokens * round(settings.price.input * price_factor * 10**6) + usage.completion_tokens * round(
        settings.price.output * price_factor * 10**6
    )
