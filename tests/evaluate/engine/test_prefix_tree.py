"""The prefix tree: every distinct prefix once, in batches within the budget, each token with just its ancestors."""

import random

import numpy as np
import pytest

from orca_bench.evaluate.engine import prefix_tree, tree_attention
from orca_bench.evaluate.request_encoding import ScoredSequence


def random_sequences(count, seed):
    """Sequences over four ids, so that they share prefixes of every length, and some are equal."""
    rng = random.Random(seed)
    sequences = []
    for _ in range(count):
        ids = [rng.randrange(4) for _ in range(rng.randint(2, 14))]
        sequences.append(ScoredSequence(ids, rng.randint(1, len(ids) - 1)))
    return sequences


def walk(sequences, budget):
    """What an engine would compute: (prefixes in order, tokens a batch, scored targets by sequence, complete sequences)."""
    computed, sizes, targets_of, complete = [], [], {}, []
    path: list[tuple] = []  # the prefix that each index stands for
    for batch in prefix_tree.tree_batches(sequences, budget):
        path = [path[index] for index in batch.cached_indices]
        mask, prefixes = tree_attention.tree_mask(batch, "cpu").numpy(), list(path)
        for i, (token, depth) in enumerate(zip(batch.token_ids, batch.token_depths, strict=True)):
            ancestors = np.flatnonzero(mask[i])[:-1]
            assert len(ancestors) == depth and np.flatnonzero(mask[i])[-1] == len(batch.cached_indices) + i
            prefixes.append((prefixes[ancestors[-1]] if depth else ()) + (token,))
            assert [prefixes[a] for a in ancestors] == [prefixes[-1][: n + 1] for n in range(depth)]
        for number, indices, token_ids, is_complete in batch.scored_targets:
            targets = targets_of.setdefault(number, [])
            targets += [(prefixes[i], t) for i, t in zip(indices, token_ids, strict=True)]
            complete += [number] * is_complete
        computed += prefixes[len(path) :]
        sizes.append(len(batch.token_ids))
        path = prefixes
    return computed, sizes, targets_of, complete


@pytest.mark.parametrize("budget", [1, 3, 10, 1000])
@pytest.mark.parametrize("seed", range(5))
def test_each_distinct_prefix_is_computed_once_and_each_token_scored_behind_its_own(budget, seed):
    sequences = random_sequences(60, seed)
    computed, sizes, scored, complete = walk(sequences, budget)
    prefixes = {tuple(s.token_ids[:n]) for s in sequences for n in range(1, len(s.token_ids))}
    assert len(computed) == len(prefixes) == prefix_tree.count_distinct_tokens(sequences) and set(computed) == prefixes
    assert max(sizes) <= budget and all(size == budget for size in sizes[:-1])
    for number, sequence in enumerate(sequences):
        assert scored[number] == [
            (tuple(sequence.token_ids[:i]), sequence.token_ids[i])
            for i in range(sequence.scored_start, len(sequence.token_ids))
        ]
    assert sorted(complete) == list(range(len(sequences)))


def test_only_the_path_that_the_next_batch_needs_is_cached():
    sequences = [ScoredSequence([1, 2, 3, 4, 9], 4), ScoredSequence([1, 2, 3, 5, 9], 4), ScoredSequence([7, 8, 9], 2)]
    assert [len(batch.cached_indices) for batch in prefix_tree.tree_batches(sequences, 4)] == [0, 3]


@pytest.mark.parametrize("tokens", [1, 30, 10_000])
def test_groups_hold_every_sequence_once_and_are_trees_of_their_own(tokens):
    sequences = random_sequences(80, 1)
    groups = prefix_tree.group_sequences(sequences, tokens)
    assert sorted(number for group in groups for number in group.sequence_indices) == list(range(len(sequences)))
    for group in groups:
        assert group.token_count == prefix_tree.count_distinct_tokens(
            [sequences[number] for number in group.sequence_indices]
        )
        assert group.token_count < tokens + max(len(s.token_ids) for s in sequences)
    assert (len(groups) == 1) == (tokens == 10_000)


def test_no_sequences_make_no_batches():
    assert list(prefix_tree.tree_batches([], 8)) == []
