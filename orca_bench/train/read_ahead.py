"""Items of an iterator in, the same items out, computed in a thread while the caller works on earlier ones.

A training step does not wait for its tokens to be read from the disk. Its own module because it knows nothing of training. The
thread holds Python's lock while it computes: it hides waiting (disk, network) and NumPy's work, not long work in Python itself.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True)
class _End:
    """The last thing in the queue: the items are over, or reading one has raised."""

    error: BaseException | None


class ReadAhead(Generic[Item]):
    """Iterate over `items` in a thread, at most `capacity` (2 or more) of them ahead of the caller; use it in a `with` block.

    What the items raise, the caller gets, in its place after the items before it. Leaving the block stops the thread after the
    item that it is at, and waits for it. An iterator: it can be used once.
    """

    def __init__(self, items: Iterable[Item], capacity: int = 2):
        self._items = items
        # The thread takes an item before it waits for room, so that there is one more than the queue holds.
        self._queue: queue.Queue[Item | _End] = queue.Queue(max(1, capacity - 1))
        self._is_closed = threading.Event()
        self._end: _End | None = None
        self._thread = threading.Thread(target=self._read, name="read ahead", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[Item]:
        return self

    def __next__(self) -> Item:
        if self._end is None:
            if self._is_closed.is_set():
                raise ValueError("the items are read after their block has ended")
            item = self._queue.get()
            if not isinstance(item, _End):
                return item
            self._end = item
        if self._end.error is not None:
            raise self._end.error
        raise StopIteration

    def close(self) -> None:
        """Stop the thread after the item that it is at; items that are not taken are dropped. May be repeated."""
        self._is_closed.set()
        while self._thread.is_alive():
            try:
                self._queue.get_nowait()  # makes room for the item with which the thread waits
            except queue.Empty:
                self._thread.join(0.01)

    def __enter__(self) -> ReadAhead[Item]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _read(self) -> None:
        try:
            for item in self._items:
                self._queue.put(item)
                if self._is_closed.is_set():
                    return
            error = None
        except BaseException as raised:  # of whatever kind it is, it belongs to the caller
            error = raised
        self._queue.put(_End(error))
