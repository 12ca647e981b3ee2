"""Items and a hash of each in, a sample of them out: the items with the smallest hashes.

The sample does not depend on the order of the items, and a larger sample contains a smaller one. What an item's hash is made of
is the caller's choice. Its own module because rows, requests and instructions are sampled alike, in packages that do not import
one another.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

Item = TypeVar("Item")


class HashSample(Generic[Item]):
    """A sample of at most `size` of the items that are added; no more than these are held in memory."""

    def __init__(self, size: int):
        self._size = size
        #: Hash, position and item. A heap has its smallest entry on top: of negated numbers that is the one to be replaced.
        self._entries: list[tuple[int, int, Item]] = []
        self._added_count = 0

    def add(self, item_hash: int, item: Item) -> None:
        """Take the item into the sample where its hash is among the smallest; of equal hashes the first item is taken."""
        entry = (-item_hash, -self._added_count, item)
        self._added_count += 1
        if len(self._entries) < self._size:
            heapq.heappush(self._entries, entry)
        else:
            heapq.heappushpop(self._entries, entry)

    def items(self) -> list[Item]:
        """The items of the sample, in the order in which they were added."""
        return [item for _, _, item in sorted(self._entries, key=lambda entry: -entry[1])]


def sample_by_hash(items: Iterable[Item], size: int, hash_of: Callable[[Item], int]) -> list[Item]:
    """The `size` items with the smallest hashes (all, where they are fewer), in their order; of equal hashes the first."""
    sample = HashSample[Item](size)
    for item in items:
        sample.add(hash_of(item), item)
    return sample.items()
