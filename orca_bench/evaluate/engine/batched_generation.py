"""Prompts in, greedy continuations out: sequences of unequal length share a batch, and none waits for another.

The prompts are computed through the prefix tree, so what several share is computed once; a prompt's keys and values are then
copied into a slot, where the sequence grows token by token. A sequence that is finished leaves its slot at once, and the
next prompt is computed and takes it. Nothing is padded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import torch

from orca_bench.evaluate.engine import prefix_tree
from orca_bench.evaluate.engine.prefix_tree import TreeBatch
from orca_bench.evaluate.engine.tree_attention import Path, Slots, Step
from orca_bench.evaluate.request_encoding import Ids

#: Whether the continuation (ids so far) of the prompt of this number is complete; asked after each token.
Finished = Callable[[int, list[int]], bool]


class NotANumber(Exception):
    """The model gave NaN or infinity while it continued the prompt of this number."""

    def __init__(self, number: int, value: float):
        self.number, self.value = number, value


class Generation:
    """The greedy continuation of some prompts by an engine, with at most `kept` tokens in its slots.

    `said` has the ids of each prompt's continuation that is complete so far.
    """

    def __init__(self, engine, prompts: Sequence[Sequence[int]], finished: Finished, room: int, kept: int):
        self._engine, self._prompts, self._finished = engine, prompts, finished
        capacity = max(map(len, prompts)) + room
        count = max(1, min(kept // capacity, len(prompts)))
        self._slots = Slots(count, capacity, each=engine.attention == "runs")
        self._open: list[tuple[int, list[int]]] = []  # (number, ids so far) of the sequence in each slot
        self.said: dict[int, list[int]] = {}

    def run(self) -> Iterator[int]:
        """Continue all prompts to their ends; yields how many have just ended."""
        for row, keep, path in self._rows():
            while self._slots.count - len(self._open) < len(row.ended):
                yield from self._step()
            yield from self._begin(row, keep, path)
        while self._open:
            yield from self._step()

    def _rows(self) -> Iterator[tuple[TreeBatch, list[int], Path]]:
        """The rows of the prompts' tree, each with what the row after it keeps, and the path that it goes on from."""
        # A sequence's last token is not fed: behind each prompt stands one that only has its place.
        asked = [Ids([*prompt, 0], len(prompt)) for prompt in self._prompts]
        self._path = Path()
        # A row waits until all that end in it have slots, so few may; but of short prompts several fill a row.
        ending = max(1, self._slots.count // 8)
        for row, keep in prefix_tree.with_next(prefix_tree.batches(asked, self._engine.batch_tokens, ending)):
            yield row, keep, self._path

    def _begin(self, row: TreeBatch, keep: list[int], path: Path) -> Iterator[int]:
        """Compute a row of prompts; those that end in it get slots and their first token."""
        first = len(self._open)
        taken = [(first + i, places) for i, (_, places) in enumerate(row.ended)]
        hidden, self._path = self._engine.compute_batch(row, path, keep, self._slots, taken)
        if not row.ended:
            return
        self._open += [(number, []) for number, _ in row.ended]
        last = torch.tensor([places[-1] for _, places in row.ended], device=hidden.device)
        yield from self._say(first, hidden.index_select(0, last))

    def _step(self) -> Iterator[int]:
        """Give every open sequence one more token."""
        engine = self._engine
        step = Step(self._slots, len(self._open), engine.device, engine.layout.windows)
        ids = torch.tensor([[said[-1]] for _, said in self._open], device=engine.device)
        positions = torch.tensor([[place] for place in step.places], device=engine.device)
        yield from self._say(0, engine.forward(ids, positions, step)[:, -1])

    def _say(self, first: int, hidden: torch.Tensor) -> Iterator[int]:
        """Append the likeliest token to the sequences of the slots from `first` on; the finished leave."""
        value, token = self._engine.logits(hidden).max(dim=-1)
        for (number, said), best, value_ in zip(self._open[first:], token.tolist(), value.tolist(), strict=True):
            if not math.isfinite(value_):
                raise NotANumber(number, value_)
            said.append(best)
        over = [slot for slot in range(first, len(self._open)) if self._finished(*self._open[slot])]
        for slot in reversed(over):  # from the back, so that what moves into a slot is not itself over
            number, said = self._open[slot]
            self.said[number] = said
            last = self._open.pop()
            if slot < len(self._open):
                self._open[slot] = last
                self._slots.move(len(self._open), slot)
        if over:
            yield len(over)
