"""`2/8` in, the second of eight parts of the records out: every eighth row, from the second on.

Its own module because the check, its command and the merge of reports all speak of shards.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from orca_bench.errors import UserError, Where


@dataclass(frozen=True, order=True)
class Shard:
    """The part `index` (from 1) of `count`; `str()` gives `INDEX/COUNT`."""

    count: int
    index: int

    def has(self, record_number: int) -> bool:
        """Whether the record of a running number, counted from 0 through all files, is in this shard."""
        return record_number % self.count == self.index - 1

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


def parse_shard(text: str, where: Where = "--shard") -> Shard:
    """The shard that a text names; raises UserError, at `where`, for another text."""
    match = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text.strip())
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise UserError(f"'{text}' names no shard", where=where, hint="e.g. 1/4 … 4/4")
    return Shard(int(match[2]), int(match[1]))
