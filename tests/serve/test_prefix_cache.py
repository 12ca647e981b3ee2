"""Which sequences stay in the prefix cache: those that were used last, and of one that is continued only the longer one."""

import pytest

from orca_bench.serve.prefix_cache import CachedSequence, PrefixCache, longest_prefix
from orca_bench.serve.sampling import Sampling
from orca_bench.serve.sequence_cache import SequenceCache
from orca_bench.serve.token_requests import TokenRequest


def cached_sequence(token_ids):
    """A sequence of which all tokens but the last are computed, without tensors."""
    cache = SequenceCache(len(token_ids))
    cache.token_count = len(token_ids) - 1
    return CachedSequence(list(token_ids), cache, [], 0)


@pytest.fixture
def prefix_cache():
    cache = PrefixCache()
    for first_id in (1000, 2000, 3000):
        cache.add(cached_sequence(range(first_id, first_id + 101)))
    return cache


def first_ids(prefix_cache):
    return [sequence.token_ids[0] for sequence in prefix_cache.sequences]


def test_a_sequence_takes_the_memory_of_its_computed_tokens(prefix_cache):
    assert prefix_cache.token_count == 300


def test_the_sequence_that_was_used_least_recently_goes_first(prefix_cache):
    prefix_cache.use(prefix_cache.sequences[0], 50)
    prefix_cache.shrink_to(200)
    assert first_ids(prefix_cache) == [3000, 1000]
    prefix_cache.shrink_to(199)
    assert first_ids(prefix_cache) == [1000]
    prefix_cache.shrink_to(-1)
    assert first_ids(prefix_cache) == []


def test_a_sequence_that_is_continued_from_near_its_end_is_not_there_twice(prefix_cache):
    prefix_cache.use(prefix_cache.sequences[0], 90)
    assert first_ids(prefix_cache) == [2000, 3000]


def test_a_very_short_sequence_is_not_worth_its_place(prefix_cache):
    prefix_cache.add(cached_sequence(range(10)))
    assert first_ids(prefix_cache) == [1000, 2000, 3000]


@pytest.mark.parametrize(
    "prompt_ids, count",
    [
        ([*range(1000, 1060), 5], 60),
        (list(range(1000, 1060)), 59),  # the last token of a prompt is always computed
        (list(range(1000, 1200)), 100),  # the last token of the sequence is not computed
        (list(range(1000, 1010)), 0),  # few
        (list(range(1001, 1100)), 0),
    ],
)
def test_the_longest_prefix_is_of_computed_tokens(prefix_cache, prompt_ids, count):
    request = TokenRequest(prompt_ids, 1, Sampling())
    expected_source = prefix_cache.sequences[0] if count else None
    assert longest_prefix(prefix_cache.sequences, request) == (count, expected_source)
