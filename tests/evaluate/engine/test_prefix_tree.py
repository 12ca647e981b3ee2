"""The prefix tree: every distinct prefix once, in rows within the budget, each token with just its ancestors."""

import random

import numpy as np
import pytest

from orca_bench.evaluate.engine import prefix_tree, tree_attention
from orca_bench.evaluate.request_encoding import Ids


def random_sequences(count, seed):
    """Sequences over four ids, so that they share prefixes of every length, and some are equal."""
    rng = random.Random(seed)
    made = []
    for _ in range(count):
        ids = [rng.randrange(4) for _ in range(rng.randint(2, 14))]
        made.append(Ids(ids, rng.randint(1, len(ids) - 1)))
    return made


def walked(sequences, budget):
    """What an engine would see: (prefixes computed in order, tokens a row, scored targets by sequence, completions)."""
    computed, sizes, scored, complete = [], [], {}, []
    kept: list[tuple] = []  # the prefix that each place stands for
    for row in prefix_tree.batches(sequences, budget):
        kept = [kept[place] for place in row.kept]
        mask, here = tree_attention.mask(row, "cpu").numpy(), list(kept)
        for i, (token, depth) in enumerate(zip(row.tokens, row.depths, strict=True)):
            ancestors = np.flatnonzero(mask[i])[:-1]
            assert len(ancestors) == depth and np.flatnonzero(mask[i])[-1] == len(row.kept) + i
            here.append((here[ancestors[-1]] if depth else ()) + (token,))
            assert [here[a] for a in ancestors] == [here[-1][: n + 1] for n in range(depth)]
        for number, places, targets, done in row.scored:
            scored.setdefault(number, []).extend((here[p], t) for p, t in zip(places, targets, strict=True))
            complete += [number] * done
        computed += here[len(kept) :]
        sizes.append(len(row.tokens))
        kept = here
    return computed, sizes, scored, complete


@pytest.mark.parametrize("budget", [1, 3, 10, 1000])
@pytest.mark.parametrize("seed", range(5))
def test_each_distinct_prefix_is_computed_once_and_each_token_scored_behind_its_own(budget, seed):
    sequences = random_sequences(60, seed)
    computed, sizes, scored, complete = walked(sequences, budget)
    prefixes = {tuple(s.ids[:n]) for s in sequences for n in range(1, len(s.ids))}
    assert len(computed) == len(prefixes) == prefix_tree.distinct(sequences) and set(computed) == prefixes
    assert max(sizes) <= budget and all(size == budget for size in sizes[:-1])
    for number, sequence in enumerate(sequences):
        assert scored[number] == [
            (tuple(sequence.ids[:i]), sequence.ids[i]) for i in range(sequence.start, len(sequence.ids))
        ]
    assert sorted(complete) == list(range(len(sequences)))


def test_a_row_keeps_only_the_path_that_the_next_one_needs():
    sequences = [Ids([1, 2, 3, 4, 9], 4), Ids([1, 2, 3, 5, 9], 4), Ids([7, 8, 9], 2)]
    kept = [len(row.kept) for row in prefix_tree.batches(sequences, 4)]
    assert kept == [0, 3]


@pytest.mark.parametrize("tokens", [1, 30, 10_000])
def test_portions_hold_every_sequence_once_and_are_trees_of_their_own(tokens):
    sequences = random_sequences(80, 1)
    made = prefix_tree.portions(sequences, tokens)
    assert sorted(number for portion in made for number in portion.numbers) == list(range(len(sequences)))
    for portion in made:
        assert portion.tokens == prefix_tree.distinct([sequences[number] for number in portion.numbers])
        assert portion.tokens < tokens + max(len(s.ids) for s in sequences)
    assert (len(made) == 1) == (tokens == 10_000)


def test_no_sequences_make_no_rows():
    assert list(prefix_tree.batches([], 8)) == []
