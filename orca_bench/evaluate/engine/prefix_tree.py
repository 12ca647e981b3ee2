"""Many sequences in, batches of a prefix tree out, in which each distinct prefix is one token that is computed once.

In lexicographic order, the longest prefix that a sequence shares with any earlier one is the one it shares with the sequence
just before it. So the tree is walked along the sorted sequences, and of all that was computed only the current path, from the
root to the last token, can be needed again. A batch holds at most `budget` new tokens; what the next batch needs of the path is
cached. No token is computed twice, with any budget. Its own module because it needs no model; the engine feeds the batches to
one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from orca_bench.evaluate.request_encoding import ScoredSequence

_SHORT_PREFIX = 64  # tokens that a portion would rather compute again than be any longer


@dataclass
class TokenSpan:
    """Tokens `start` to `end` of a batch, each following the one before it; `ancestors` are the indices before `start`."""

    start: int
    end: int
    ancestors: list[int]


class Targets(NamedTuple):
    """What is scored of one sequence in one batch.

    `number` is the sequence's. After each of `indices` the token of `token_ids` at the same place is scored. `complete` is
    whether the sequence has no further tokens.
    """

    number: int
    indices: list[int]
    token_ids: list[int]
    complete: bool


class EndedPath(NamedTuple):
    """A sequence that ends in a batch: its number, and the indices of its whole path from the root."""

    number: int
    indices: list[int]


@dataclass
class TreeBatch:
    """New tokens of the tree, which are computed in one pass.

    Indices 0…k−1 mean the k cached tokens of the path, indices from k on the batch's own tokens. `cached` are the indices, in
    the numbering of the batch before, of the cached tokens. `depths` are the positions of the own tokens in their sequences.
    `ended` is filled only where `batches` is asked for paths.
    """

    cached: list[int] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)
    depths: list[int] = field(default_factory=list)
    runs: list[TokenSpan] = field(default_factory=list)
    targets: list[Targets] = field(default_factory=list)
    ended: list[EndedPath] = field(default_factory=list)

    def subtree_ends(self) -> npt.NDArray[np.int64]:
        """[cached + tokens]: the index behind the last descendant of each index, so that q attends to k where k ≤ q < ends[k].

        A batch is walked depth first, so the descendants of an index follow it without a gap.
        """
        count = len(self.cached) + len(self.token_ids)
        ends: npt.NDArray[np.int64] = np.full(count, count, dtype=np.int64)
        path = list(range(len(self.cached)))
        for run in self.runs:
            first = len(self.cached) + run.start
            ends[path[len(run.ancestors) :]] = first  # what is no ancestor of the run has no further descendants
            path[len(run.ancestors) :] = range(first, len(self.cached) + run.end)
        return ends


def batches(sequences: Sequence[ScoredSequence], budget: int, most_ended: int | None = None) -> Iterator[TreeBatch]:
    """The batches of the prefix tree of all sequences, at most `budget` new tokens each, in the order they must be computed.

    A sequence's last token is scored and never fed, so it is no token of the tree. With `most_ended`, at most so many sequences
    end in a batch, and batches have the paths of those that do.
    """
    batch = TreeBatch()
    path: list[int] = []  # the index of each token from the root
    previous: list[int] = []
    for number in sorted(range(len(sequences)), key=lambda i: sequences[i].ids):
        sequence = sequences[number]
        fed = sequence.ids[:-1]
        shared = _shared_prefix_length(previous, fed)
        del path[shared:]
        scored = sequence.start - 1  # the next depth whose next token is to be scored
        if len(batch.ended) == most_ended:
            # Of a sequence that comes again a token is computed again: no batch is empty.
            shared = min(shared, len(fed) - 1)
            del path[shared:]
            yield batch
            batch, path = TreeBatch(cached=path), list(range(len(path)))
        for token_id in fed[shared:]:
            if len(batch.token_ids) == budget:
                scored = _add_targets(batch, number, sequence, path, scored)
                yield batch
                batch, path = TreeBatch(cached=path), list(range(len(path)))
            _add_token(batch, path, token_id)
        _add_targets(batch, number, sequence, path, scored)
        if most_ended:
            batch.ended.append(EndedPath(number, path.copy()))
        previous = fed
    if batch.targets:
        yield batch


def with_next_cached(batches: Iterator[TreeBatch]) -> Iterator[tuple[TreeBatch, list[int]]]:
    """Each batch with the indices that the batch after it has cached."""
    batch = next(batches, None)
    while batch is not None:
        following = next(batches, None)
        yield batch, following.cached if following else []
        batch = following


@dataclass
class SequenceGroup:
    """The numbers of some sequences in lexicographic order, and how many tokens their tree has.

    `shared` has of each how many of its first tokens are those of the one before it.
    """

    numbers: list[int] = field(default_factory=list)
    shared: list[int] = field(default_factory=list)
    tokens: int = 0


def groups(sequences: Sequence[ScoredSequence], tokens: int, extra_tokens: int = 0) -> list[SequenceGroup]:
    """All sequences, in groups of about `tokens` tokens; each group is a tree of its own.

    A group computes again what it shares with the one before, so a group ends, once it is three quarters full, where the next
    sequence shares little. `extra_tokens` is what a sequence counts besides its tokens.
    """
    result = [SequenceGroup()]
    previous: list[int] = []
    for number in sorted(range(len(sequences)), key=lambda i: sequences[i].ids):
        fed = sequences[number].ids[:-1]
        shared = _shared_prefix_length(previous, fed)
        group = result[-1]
        full = group.tokens >= tokens or (group.tokens >= 0.75 * tokens and shared < _SHORT_PREFIX)
        if group.numbers and full:
            group = SequenceGroup()
            result.append(group)
            shared = 0
        group.numbers.append(number)
        group.shared.append(shared)
        group.tokens += len(fed) - shared + extra_tokens
        previous = fed
    return result if sequences else []


def distinct_tokens(sequences: Sequence[ScoredSequence]) -> int:
    """How many tokens the prefix tree has: the least that any engine must compute."""
    return sum(new_tokens(sorted(sequences, key=lambda sequence: sequence.ids)))


def new_tokens(ordered: Sequence[ScoredSequence]) -> Iterator[int]:
    """How many tokens each of some sequences in lexicographic order adds to the prefix tree of those before it."""
    previous: list[int] = []
    for sequence in ordered:
        yield len(sequence.ids) - 1 - _shared_prefix_length(previous, sequence.ids[:-1])
        previous = sequence.ids[:-1]


def _add_token(batch: TreeBatch, path: list[int], token_id: int) -> None:
    """Append a token to the end of a path."""
    index, token_index = len(batch.cached) + len(batch.token_ids), len(batch.token_ids)
    if batch.runs and path and path[-1] == index - 1:
        batch.runs[-1].end = token_index + 1
    else:
        batch.runs.append(TokenSpan(token_index, token_index + 1, path.copy()))
    batch.token_ids.append(token_id)
    batch.depths.append(len(path))
    path.append(index)


def _add_targets(batch: TreeBatch, number: int, sequence: ScoredSequence, path: list[int], scored: int) -> int:
    """Note what of a sequence can be scored from its path as far as it goes; returns the depth where the rest begins."""
    indices = path[scored:]
    complete = len(path) == len(sequence.ids) - 1
    if indices or complete:
        batch.targets.append(Targets(number, indices, sequence.ids[scored + 1 : len(path) + 1], complete))
    return max(scored, len(path))


def _shared_prefix_length(one: list[int], other: list[int]) -> int:
    """How many first ids two lists share."""
    count = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        count += 1
    return count
