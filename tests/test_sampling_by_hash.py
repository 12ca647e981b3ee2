"""Samples by the smallest hashes: which items, in which order."""

import random

from orca_bench.sampling_by_hash import HashSample, sample_by_hash


def test_a_sample_has_the_smallest_hashes_in_the_order_of_the_items():
    assert sample_by_hash("dbeca", 3, ord) == ["b", "c", "a"]
    assert sample_by_hash("dbeca", 9, ord) == list("dbeca") and sample_by_hash("", 3, ord) == []


def test_of_equal_hashes_the_first_items_are_taken():
    items = [(random.Random(number).randrange(4), number) for number in range(50)]
    expected = sorted(sorted(items, key=lambda item: item[0])[:20], key=lambda item: item[1])
    assert sample_by_hash(items, 20, lambda item: item[0]) == expected


def test_items_that_cannot_be_compared_are_sampled():
    assert sample_by_hash([{"a": 1}, {"b": 2}, {}], 2, len) == [{"a": 1}, {}]


def test_no_more_items_than_the_sample_are_held():
    sample = HashSample[int](5)
    for number in range(1000):
        sample.add(hash(str(number)), number)
    assert len(sample._entries) == 5 == len(sample.items())
