"""Totals of a population from a sample: the formula, its limits, and how often the interval has the true total."""

import random

import pytest

from orca_bench.stats.totals import estimate_total


def test_the_total_and_its_interval_of_a_small_sample():
    estimate = estimate_total([1.0, 2.0, 3.0], 30)
    assert estimate.total == pytest.approx(60.0)
    # 30 · 1/√3 · √(1 − 3/30) = 16.432, and Student's quantile with 2 degrees of freedom is 4.3027.
    assert estimate.interval_high == pytest.approx(60 + 4.3027 * 16.432, abs=0.01)
    assert estimate.interval_low == 6.0  # no less than the sample itself


def test_the_whole_population_has_no_uncertainty_and_one_value_says_nothing_of_it():
    assert estimate_total([1.0, 4.0], 2).interval_low == estimate_total([1.0, 4.0], 2).interval_high == 5.0
    one = estimate_total([2.0], 7)
    assert (one.total, one.interval_low, one.interval_high) == (14.0, None, None)


@pytest.mark.parametrize(("values", "population_size"), [([], 5), ([1.0, 2.0], 1)])
def test_a_sample_that_cannot_be_is_refused(values, population_size):
    with pytest.raises(ValueError, match="a sample of"):
        estimate_total(values, population_size)


def test_the_interval_has_the_true_total_of_skewed_prices_nine_times_in_ten():
    generator = random.Random(1)
    prices = [generator.lognormvariate(0, 0.8) for _ in range(5000)]
    total = sum(prices)
    intervals = [estimate_total(generator.sample(prices, 100), len(prices)) for _ in range(400)]
    share = sum(low.interval_low <= total <= low.interval_high for low in intervals) / len(intervals)
    assert 0.90 <= share <= 0.98
