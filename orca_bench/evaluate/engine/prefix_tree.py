"""Many sequences in, batches of a prefix tree out, in which each distinct prefix is one token that is computed once.

In lexicographic order, the longest prefix that a sequence shares with any earlier one is the one it shares with the sequence
just before it. So the tree is walked along the sorted sequences, and of all that was computed only the current path, from the
root to the last token, can be needed again. A batch holds at most `max_batch_tokens` new tokens; what the next batch needs of
the path is cached. No token is computed twice, with any budget. Its own module because it needs no model; the engine feeds the
batches to one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from orca_bench.evaluate.request_encoding import ScoredSequence

_SHORT_PREFIX_TOKENS = 64  # tokens that a portion would rather compute again than be any longer


@dataclass
class TokenSpan:
    """Tokens `start` to `end` of a batch, each following the one before it; `ancestor_indices` are the indices before `start`."""

    start: int
    end: int
    ancestor_indices: list[int]


class ScoredTargets(NamedTuple):
    """What is scored of one sequence in one batch.

    `sequence_index` is the sequence's. After each of `preceding_indices` the token of `target_ids` at the same place is scored.
    `is_complete` is whether the sequence has no further tokens.
    """

    sequence_index: int
    preceding_indices: list[int]
    target_ids: list[int]
    is_complete: bool


class EndedPath(NamedTuple):
    """A sequence that ends in a batch: its number, and the indices of its whole path from the root."""

    sequence_index: int
    path_indices: list[int]


@dataclass
class TreeBatch:
    """New tokens of the tree, which are computed in one pass.

    Indices 0…k−1 mean the k cached tokens of the path, indices from k on the batch's own tokens. `cached_indices` are the
    indices, in the numbering of the batch before, of the cached tokens. `token_depths` are the positions of the own tokens in
    their sequences. `ended_paths` is filled only where `tree_batches` is asked for paths.
    """

    cached_indices: list[int] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)
    token_depths: list[int] = field(default_factory=list)
    token_spans: list[TokenSpan] = field(default_factory=list)
    scored_targets: list[ScoredTargets] = field(default_factory=list)
    ended_paths: list[EndedPath] = field(default_factory=list)

    def subtree_ends(self) -> npt.NDArray[np.int64]:
        """[cached + tokens]: the index after the last descendant of each index, so that q attends to k where k ≤ q < ends[k].

        A batch is walked depth first, so the descendants of an index follow it without a gap.
        """
        index_count = len(self.cached_indices) + len(self.token_ids)
        descendant_ends: npt.NDArray[np.int64] = np.full(index_count, index_count, dtype=np.int64)
        path_indices = list(range(len(self.cached_indices)))
        for span in self.token_spans:
            span_first_index = len(self.cached_indices) + span.start
            descendant_ends[path_indices[len(span.ancestor_indices) :]] = (
                span_first_index  # what is no ancestor of the span has no further descendants
            )
            path_indices[len(span.ancestor_indices) :] = range(span_first_index, len(self.cached_indices) + span.end)
        return descendant_ends


def tree_batches(
    sequences: Sequence[ScoredSequence], max_batch_tokens: int, max_ended_paths: int | None = None
) -> Iterator[TreeBatch]:
    """The batches of the prefix tree of all sequences, at most `max_batch_tokens` new tokens each, in the order of computation.

    A sequence's last token is scored and never fed, so it is no token of the tree. With `max_ended_paths`, at most so many
    sequences end in a batch, and batches have the paths of those that do.
    """
    batch = TreeBatch()
    path_indices: list[int] = []  # the index of each token from the root
    previous_fed_ids: list[int] = []
    for sequence_index in sorted(range(len(sequences)), key=lambda i: sequences[i].token_ids):
        sequence = sequences[sequence_index]
        fed_token_ids = sequence.token_ids[:-1]
        shared_length = shared_prefix_length(previous_fed_ids, fed_token_ids)
        del path_indices[shared_length:]
        next_scored_depth = sequence.scored_start - 1  # the next depth whose next token is to be scored
        if len(batch.ended_paths) == max_ended_paths:
            # Of a sequence that comes again a token is computed again: no batch is empty.
            shared_length = min(shared_length, len(fed_token_ids) - 1)
            del path_indices[shared_length:]
            yield batch
            batch, path_indices = TreeBatch(cached_indices=path_indices), list(range(len(path_indices)))
        for token_id in fed_token_ids[shared_length:]:
            if len(batch.token_ids) == max_batch_tokens:
                next_scored_depth = _add_scored_targets(
                    batch, sequence_index, sequence, path_indices, next_scored_depth
                )
                yield batch
                batch, path_indices = TreeBatch(cached_indices=path_indices), list(range(len(path_indices)))
            _append_token(batch, path_indices, token_id)
        _add_scored_targets(batch, sequence_index, sequence, path_indices, next_scored_depth)
        if max_ended_paths:
            batch.ended_paths.append(EndedPath(sequence_index, path_indices.copy()))
        previous_fed_ids = fed_token_ids
    if batch.scored_targets:
        yield batch


def with_next_cached_indices(batches: Iterator[TreeBatch]) -> Iterator[tuple[TreeBatch, list[int]]]:
    """Each batch with the indices that the batch after it has cached."""
    batch = next(batches, None)
    while batch is not None:
        next_batch = next(batches, None)
        yield batch, next_batch.cached_indices if next_batch else []
        batch = next_batch


@dataclass
class SequenceGroup:
    """The numbers of some sequences in lexicographic order, and how many tokens their tree has.

    `shared_prefix_lengths` has of each how many of its first tokens are those of the one before it.
    """

    sequence_indices: list[int] = field(default_factory=list)
    shared_prefix_lengths: list[int] = field(default_factory=list)
    token_count: int = 0


def group_sequences(
    sequences: Sequence[ScoredSequence], target_group_tokens: int, extra_tokens_per_sequence: int = 0
) -> list[SequenceGroup]:
    """All sequences, in groups of about `target_group_tokens` tokens; each group is a tree of its own.

    A group computes again what it shares with the one before, so a group ends, once it is three quarters full, where the next
    sequence shares little. `extra_tokens_per_sequence` is what a sequence counts besides its tokens.
    """
    sequence_groups = [SequenceGroup()]
    previous_fed_ids: list[int] = []
    for sequence_index in sorted(range(len(sequences)), key=lambda i: sequences[i].token_ids):
        fed_token_ids = sequences[sequence_index].token_ids[:-1]
        shared_length = shared_prefix_length(previous_fed_ids, fed_token_ids)
        sequence_group = sequence_groups[-1]
        is_full = sequence_group.token_count >= target_group_tokens or (
            sequence_group.token_count >= 0.75 * target_group_tokens and shared_length < _SHORT_PREFIX_TOKENS
        )
        if sequence_group.sequence_indices and is_full:
            sequence_group = SequenceGroup()
            sequence_groups.append(sequence_group)
            shared_length = 0
        sequence_group.sequence_indices.append(sequence_index)
        sequence_group.shared_prefix_lengths.append(shared_length)
        sequence_group.token_count += len(fed_token_ids) - shared_length + extra_tokens_per_sequence
        previous_fed_ids = fed_token_ids
    return sequence_groups if sequences else []


def count_distinct_tokens(sequences: Sequence[ScoredSequence]) -> int:
    """How many tokens the prefix tree has: the least that any engine must compute."""
    return sum(new_token_counts(sequences))


def new_token_counts(sequences: Sequence[ScoredSequence]) -> list[int]:
    """How many tokens each sequence adds to the prefix tree of those before it in lexicographic order."""
    counts = [0] * len(sequences)
    previous_fed_ids: list[int] = []
    for index in sorted(range(len(sequences)), key=lambda i: sequences[i].token_ids):
        fed_token_ids = sequences[index].token_ids[:-1]
        counts[index] = len(fed_token_ids) - shared_prefix_length(previous_fed_ids, fed_token_ids)
        previous_fed_ids = fed_token_ids
    return counts


def _append_token(batch: TreeBatch, path_indices: list[int], token_id: int) -> None:
    """Append a token to the end of a path."""
    path_index, batch_token_index = len(batch.cached_indices) + len(batch.token_ids), len(batch.token_ids)
    if batch.token_spans and path_indices and path_indices[-1] == path_index - 1:
        batch.token_spans[-1].end = batch_token_index + 1
    else:
        batch.token_spans.append(TokenSpan(batch_token_index, batch_token_index + 1, path_indices.copy()))
    batch.token_ids.append(token_id)
    batch.token_depths.append(len(path_indices))
    path_indices.append(path_index)


def _add_scored_targets(
    batch: TreeBatch, sequence_index: int, sequence: ScoredSequence, path_indices: list[int], next_scored_depth: int
) -> int:
    """Note what of a sequence can be scored from its path as far as it goes; returns the depth where the rest begins."""
    preceding_indices = path_indices[next_scored_depth:]
    is_complete = len(path_indices) == len(sequence.token_ids) - 1
    if preceding_indices or is_complete:
        batch.scored_targets.append(
            ScoredTargets(
                sequence_index,
                preceding_indices,
                sequence.token_ids[next_scored_depth + 1 : len(path_indices) + 1],
                is_complete,
            )
        )
    return max(next_scored_depth, len(path_indices))


def shared_prefix_length(first_token_ids: Sequence[int], second_token_ids: Sequence[int]) -> int:
    """How many ids two sequences have in common at their beginning."""
    shared_length = 0
    for first_token_id, second_token_id in zip(first_token_ids, second_token_ids, strict=False):
        if first_token_id != second_token_id:
            break
        shared_length += 1
    return shared_length
