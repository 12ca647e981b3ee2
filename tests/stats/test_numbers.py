"""Numbers without bounds: Student's t, its paired difference, and the bootstrap."""

import math
import random

import pytest

from orca_bench.stats.numbers import bootstrap_estimate, estimate_numbers, number_difference


def test_a_mean_of_numbers_has_students_interval_and_none_where_all_are_the_same():
    estimate = estimate_numbers([10.0, 12.0, 17.0])
    assert estimate.value == 13 and estimate.stderr == pytest.approx(2.0817, abs=1e-4)
    assert estimate.interval == pytest.approx((13 - 4.3027 * 2.0817, 13 + 4.3027 * 2.0817), abs=1e-3)
    assert estimate_numbers([5.0, 5.0]).interval is None and estimate_numbers([5.0]).stderr is None


def test_parts_count_alike_where_they_are_strata():
    assert estimate_numbers([1.0, 3.0, 20.0, 20.0, 20.0, 20.0], ["a", "a", "b", "b", "b", "b"]).value == 11


def test_a_difference_is_paired():
    rng = random.Random(0)
    first = [rng.gauss(100, 50) for _ in range(40)]
    second = [value + 1 + rng.gauss(0, 0.5) for value in first]
    difference = number_difference(first, second)
    assert difference.p < 1e-6 and difference.low < 1 < difference.high and difference.better > 30
    assert number_difference(first, first).p == 1
    same = number_difference([1.0] * 10, [3.0] * 10)
    assert same.value == same.low == same.high == 2 and same.p == 2 * 0.5**10


def test_the_bootstrap_of_a_mean_has_the_standard_error_of_the_mean_and_is_the_same_each_time():
    rng = random.Random(0)
    values = [rng.random() for _ in range(100)]
    estimate = bootstrap_estimate(lambda items: sum(items) / len(items), values)
    assert estimate.stderr == pytest.approx(estimate_numbers(values).stderr, rel=0.08)
    assert estimate == bootstrap_estimate(lambda items: sum(items) / len(items), values)
    low, high = estimate.interval
    assert low < estimate.value < high


def test_draws_without_a_value_give_no_error():
    assert bootstrap_estimate(lambda items: math.nan, [1, 2, 3]).stderr is None
    assert bootstrap_estimate(len, [1]).stderr is None
