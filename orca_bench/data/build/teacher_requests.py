"""A data recipe in, all requests to its teacher out, in the order of the records and with ids that no two of them share.

An id is a hash of everything that can change the answer, so that a ledger knows an answer again after any interruption. Its
own module because the ledger, the teacher and the output share it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

ID_BYTES = 16


@dataclass(frozen=True)
class TeacherRequest:
    """One request: a chat of at most two messages, and the row that it is of.

    Attributes:
        request_id: 32 hexadecimal digits, by `hash_request`; unique in a recipe.
        source: The source's name in the recipe.
        row_number: The row's number in the source, from 1, rows that are left out included.
        row_id: The record's id: `SOURCE-ROW`.
        system_id: The number of the Orca paper's message; None for a text of the row's own.
        system: The system message, empty where there is none.
        instruction: The instruction.
        input: The input, empty where there is none.
        repeat: How many earlier requests of the recipe have the same messages.
    """

    request_id: str
    source: str
    row_number: int
    row_id: str
    system_id: int | None
    system: str
    instruction: str
    input: str
    repeat: int = 0

    @property
    def messages(self) -> list[dict[str, str]]:
        """The chat messages as they are sent."""
        return request_messages(self.system, self.instruction, self.input)

    @property
    def character_count(self) -> int:
        """Characters of all messages."""
        return sum(len(message["content"]) for message in self.messages)


def request_messages(system: str, instruction: str, input_text: str) -> list[dict[str, str]]:
    """The chat messages of an instruction: no system message where it is empty; the input after a blank line."""
    system_messages = [{"role": "system", "content": system}] if system else []
    user_text = f"{instruction}\n\n{input_text}" if input_text else instruction
    return [*system_messages, {"role": "user", "content": user_text}]


def hash_request(
    messages: Sequence[Mapping[str, str]], model: str, parameters: Mapping[str, Any], repeat: int = 0
) -> str:
    """The id of a request: BLAKE2b of its messages, model, parameters (whatever their order) and repeat."""
    canonical_text = json.dumps([list(map(dict, messages)), model, dict(parameters), repeat], sort_keys=True)
    return hashlib.blake2b(canonical_text.encode(), digest_size=ID_BYTES).hexdigest()
