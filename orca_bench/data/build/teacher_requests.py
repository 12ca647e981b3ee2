"""A data recipe in, all requests to its teacher out, in the order of the records and with ids that no two of them share.

An id is a hash of everything that can change the answer, so that a ledger knows an answer again after any interruption. Its
own module because the ledger, the teacher and the output share it.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from orca_bench.counts import reporting
from orca_bench.data.build.data_recipe import DataRecipe, Source
from orca_bench.data.build.source_rows import SourceRows
from orca_bench.data.instructions import Instruction
from orca_bench.data.row_choices import choose_system_id, policy_system_ids
from orca_bench.system_messages import system_id_of, system_message

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
    """

    request_id: str
    source: str
    row_number: int
    row_id: str
    system_id: int | None
    system: str
    instruction: str
    input: str

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
    """The id of a request: BLAKE2b of its messages, model, parameters (whatever their order) and `repeat`.

    `repeat` is the number of earlier requests with the same messages.
    """
    canonical_text = json.dumps([list(map(dict, messages)), model, dict(parameters), repeat], sort_keys=True)
    return hashlib.blake2b(canonical_text.encode(), digest_size=ID_BYTES).hexdigest()


@dataclass
class RequestCounts:
    """What one iteration over all requests counted: requests and characters by source, system messages, and all ids' hash."""

    requests_by_source: Counter[str] = field(default_factory=Counter)
    characters_by_source: Counter[str] = field(default_factory=Counter)
    requests_by_system_id: Counter[int | None] = field(default_factory=Counter)
    ids_sha256: str = ""

    @property
    def request_count(self) -> int:
        """Requests of all sources."""
        return self.requests_by_source.total()


class RecipeRequests:
    """All requests of a recipe in the order of the records, read anew in each iteration; a few are held at a time.

    `pinned_commits` are the commits of hub sets by source that an earlier build read. Raises UserError, with file and line, for
    sources that cannot be read.

    Attributes:
        sources: The sources, each with a survey of what its last iteration left out.
        counts: What the last whole iteration counted; None before it.
    """

    def __init__(self, recipe: DataRecipe, pinned_commits: Mapping[str, str] | None = None):
        self._recipe = recipe
        self.sources = [
            SourceRows(name, source, recipe.seed, (pinned_commits or {}).get(name))
            for name, source in recipe.sources.items()
        ]
        self.counts: RequestCounts | None = None

    def __iter__(self) -> Iterator[TeacherRequest]:
        counts, ids_hash = RequestCounts(), hashlib.sha256()
        used_ids: set[bytes] = set()
        next_repeat_by_id: dict[bytes, int] = {}
        for source_rows in self.sources:
            source = self._recipe.sources[source_rows.name]
            for instruction in source_rows:
                request = self._to_request(instruction, source, used_ids, next_repeat_by_id)
                counts.requests_by_source[request.source] += 1
                counts.characters_by_source[request.source] += request.character_count
                counts.requests_by_system_id[request.system_id] += 1
                ids_hash.update(bytes.fromhex(request.request_id))
                yield request
        counts.ids_sha256 = ids_hash.hexdigest()
        self.counts = counts

    def count(self, report_request_count: Callable[[int], None] = lambda request_count: None) -> RequestCounts:
        """Read all requests, sending none; `report_request_count` hears of every thousandth."""
        for _ in reporting(self, report_request_count):
            pass
        assert self.counts is not None
        return self.counts

    def _to_request(
        self, instruction: Instruction, source: Source, used_ids: set[bytes], next_repeat_by_id: dict[bytes, int]
    ) -> TeacherRequest:
        system_id, system = self._system(instruction, source)
        teacher = self._recipe.teacher
        messages = request_messages(system, instruction.instruction_text, instruction.input_text)
        first_id = bytes.fromhex(hash_request(messages, teacher.model, teacher.parameters))
        request_id = first_id
        if first_id in used_ids:
            repeat = next_repeat_by_id.get(first_id, 1)
            next_repeat_by_id[first_id] = repeat + 1
            request_id = bytes.fromhex(hash_request(messages, teacher.model, teacher.parameters, repeat))
        used_ids.add(request_id)
        return TeacherRequest(
            request_id=request_id.hex(),
            source=instruction.source_name,
            row_number=instruction.row_number,
            row_id=f"{instruction.source_name}-{instruction.row_number}",
            system_id=system_id,
            system=system,
            instruction=instruction.instruction_text,
            input=instruction.input_text,
        )

    def _system(self, instruction: Instruction, source: Source) -> tuple[int | None, str]:
        """The row's own system message, or where it is empty or absent one by the source's policy: its id and its text."""
        if instruction.system_text is not None and instruction.system_text.strip():
            return system_id_of(instruction.system_text), instruction.system_text
        system_ids = source.system_ids or policy_system_ids(source.system_policy or "uniform", instruction)
        system_id = choose_system_id(instruction, system_ids, self._recipe.seed)
        return system_id, system_message(system_id)
