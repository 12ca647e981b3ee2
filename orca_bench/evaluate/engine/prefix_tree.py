"""Many sequences in, rows of a prefix tree out, in which each distinct prefix is one token that is computed once.

In lexicographic order the longest prefix that a sequence shares with any earlier one it shares with the one before. So the
tree is walked along the sorted sequences, and of all that was computed only the current path, from the root to the last
token, can be needed again. A row holds at most `budget` new tokens; what the next row needs of the path is kept. Nothing is
computed twice, whatever the budget. Knows no model; the engine feeds the rows to one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from orca_bench.evaluate.request_encoding import Ids

_LITTLE = 64  # tokens that a portion would rather compute again than be any longer


@dataclass
class Run:
    """Tokens `start` to `end` of a row, each following the one before it; `before` are the places of its ancestors."""

    start: int
    end: int
    before: list[int]


@dataclass
class TreeBatch:
    """New tokens of the tree. Places 0…k−1 are the k kept tokens of the path, places from k on the row's own.

    `kept` are the places, in the numbering of the row before, that are kept. `scored` has (number of the sequence, places
    whose next token is scored, the tokens scored, whether the sequence is complete with them). `ended` has (number of the
    sequence, the places of its whole path) of each that ends here, where `batches` was asked for paths.
    """

    kept: list[int] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    depths: list[int] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    scored: list[tuple[int, list[int], list[int], bool]] = field(default_factory=list)
    ended: list[tuple[int, list[int]]] = field(default_factory=list)

    def ends(self) -> np.ndarray:
        """int64 [kept + tokens]: the place behind the last descendant of each place, so that q sees k where k ≤ q < ends[k].

        A row is walked depth first, so the descendants of a place follow it without a gap.
        """
        count = len(self.kept) + len(self.tokens)
        ends = np.full(count, count, dtype=np.int64)
        path = list(range(len(self.kept)))
        for run in self.runs:
            first = len(self.kept) + run.start
            ends[path[len(run.before) :]] = first  # of the path, what is not kept on is over here
            path[len(run.before) :] = range(first, len(self.kept) + run.end)
        return ends


def batches(sequences: Sequence[Ids], budget: int, ending: int | None = None) -> Iterator[TreeBatch]:
    """The rows of the prefix tree of all sequences, at most `budget` new tokens each, in the order they must be computed.

    A sequence's last token is scored and never fed, so it is no token of the tree. With `ending`, at most so many sequences
    end in a row, and rows tell the paths of those that do.
    """
    row, path, before = TreeBatch(), [], []  # path: the place of each token from the root
    for number in sorted(range(len(sequences)), key=lambda i: sequences[i].ids):
        sequence = sequences[number]
        fed = sequence.ids[:-1]
        shared = _shared(before, fed)
        del path[shared:]
        told = sequence.start - 1  # the next place whose next token is to be scored
        if len(row.ended) == ending:
            shared = min(
                shared, len(fed) - 1
            )  # of a sequence that comes again a token is computed again: no row is empty
            del path[shared:]
            yield row
            row, path = TreeBatch(kept=path), list(range(len(path)))
        for token in fed[shared:]:
            if len(row.tokens) == budget:
                told = _score(row, number, sequence, path, told)
                yield row
                row, path = TreeBatch(kept=path), list(range(len(path)))
            _grow(row, path, token)
        _score(row, number, sequence, path, told)
        if ending:
            row.ended.append((number, path.copy()))
        before = fed
    if row.scored:
        yield row


def with_next(batches: Iterator[TreeBatch]) -> Iterator[tuple[TreeBatch, list[int]]]:
    """Each row with the places that the row after it keeps."""
    row = next(batches, None)
    while row is not None:
        after = next(batches, None)
        yield row, after.kept if after else []
        row = after


@dataclass
class Portion:
    """The numbers of some sequences in lexicographic order, and how many tokens their tree has.

    `shared` has of each how many of its first tokens are those of the one before it.
    """

    numbers: list[int] = field(default_factory=list)
    shared: list[int] = field(default_factory=list)
    tokens: int = 0


def portions(sequences: Sequence[Ids], tokens: int, each: int = 0) -> list[Portion]:
    """All sequences, parted into portions of about `tokens` tokens; each is a tree of its own.

    Each portion computes again what it shares with the one before, so a portion ends, once it is three quarters full, where
    the next sequence shares little. `each` is what a sequence counts besides its tokens.
    """
    made, before = [Portion()], []
    for number in sorted(range(len(sequences)), key=lambda i: sequences[i].ids):
        fed = sequences[number].ids[:-1]
        shared = _shared(before, fed)
        full = made[-1].tokens >= tokens or (made[-1].tokens >= 0.75 * tokens and shared < _LITTLE)
        if made[-1].numbers and full:
            made.append(Portion())
            shared = 0
        made[-1].numbers.append(number)
        made[-1].shared.append(shared)
        made[-1].tokens += len(fed) - shared + each
        before = fed
    return made if sequences else []


def distinct(sequences: Sequence[Ids]) -> int:
    """How many tokens the prefix tree has: the least that any engine must compute."""
    return sum(new_tokens(sorted(sequences, key=lambda sequence: sequence.ids)))


def new_tokens(ordered: Sequence[Ids]) -> Iterator[int]:
    """How many tokens each of some sequences in lexicographic order adds to the prefix tree of those before it."""
    before = []
    for sequence in ordered:
        yield len(sequence.ids) - 1 - _shared(before, sequence.ids[:-1])
        before = sequence.ids[:-1]


def _grow(row: TreeBatch, path: list[int], token: int) -> None:
    place, here = len(row.kept) + len(row.tokens), len(row.tokens)
    if row.runs and path and path[-1] == place - 1:
        row.runs[-1].end = here + 1
    else:
        row.runs.append(Run(here, here + 1, path.copy()))
    row.tokens.append(token)
    row.depths.append(len(path))
    path.append(place)


def _score(row: TreeBatch, number: int, sequence: Ids, path: list[int], told: int) -> int:
    """Note what of a sequence can be scored from the path as far as it goes; returns where the rest begins."""
    places = path[told:]
    complete = len(path) == len(sequence.ids) - 1
    if places or complete:
        row.scored.append((number, places, sequence.ids[told + 1 : len(path) + 1], complete))
    return max(told, len(path))


def _shared(one: list[int], other: list[int]) -> int:
    count = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        count += 1
    return count
