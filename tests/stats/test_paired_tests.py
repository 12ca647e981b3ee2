"""Paired tests: scipy's values, and by simulation that intervals cover the true difference as often as they say."""

import random

import pytest
from scipy import stats

from orca_bench.stats.paired_tests import mcnemar_p_value, paired_difference

EVALUATIONS = 2000


@pytest.mark.parametrize(("score", "n"), [(0.0, 1), (0.0, 50), (1.0, 50), (0.5, 30)])
def test_an_interval_has_a_width_where_nothing_changed(score, n):
    difference = paired_difference([score] * n, [score] * n)
    assert difference.low < 0 < difference.high and difference.p == 1.0


def test_mcnemars_test_is_scipys_binomial_test():
    assert mcnemar_p_value(3, 12) == pytest.approx(stats.binomtest(3, 15).pvalue)
    assert mcnemar_p_value(0, 0) == 1.0


def test_a_continuous_difference_is_the_paired_t_test():
    rng = random.Random(1)
    first = [rng.random() for _ in range(40)]
    second = [min(1.0, max(0.0, a + rng.uniform(-0.1, 0.2))) for a in first]
    difference, expected = paired_difference(first, second), stats.ttest_rel(second, first)
    assert difference.p == pytest.approx(expected.pvalue) and difference.test == "paired t"
    interval = expected.confidence_interval()
    assert (difference.low, difference.high) == pytest.approx((interval.low, interval.high))


def test_a_mean_of_strata_and_a_count_of_questions_that_go_different_ways_show_nothing():
    strata = ["large"] * 100 + [f"small {n}" for n in range(9) for _ in range(5)]
    first = [0.0] * 100 + [1.0] * 45
    second = [1.0] * 30 + [0.0] * 70 + [1.0, 1.0, 1.0, 0.0, 1.0] * 9
    difference = paired_difference(first, second, stratum_labels=strata)
    assert (difference.better, difference.worse) == (30, 9) and mcnemar_p_value(30, 9) < 0.01
    assert difference.value < 0 and difference.p == 1
    same = paired_difference(first, [1.0] * 30 + [0.0] * 70 + [1.0] * 45, stratum_labels=strata)
    assert same.value > 0 and 0 < same.p < 1e-6 and same.low > 0
    assert same.p > mcnemar_p_value(30, 0)


def test_intervals_of_paired_differences_cover_the_truth():
    rng = random.Random(9)
    hits = {"right or wrong": 0, "by cluster": 0}
    for _ in range(EVALUATIONS):
        hard = [rng.random() for _ in range(80)]
        first = [float(rng.random() < h) for h in hard]
        second = [float(rng.random() < min(1, 0.1 + 0.9 * h)) for h in hard]  # better by 0.1 × (1 − h): 0.05
        difference = paired_difference(first, second)
        hits["right or wrong"] += difference.low <= 0.05 <= difference.high
        labels, before, after = [], [], []
        for cluster in range(40):
            lift = rng.uniform(-0.1, 0.2)
            for _ in range(rng.randint(1, 5)):
                before.append(rng.uniform(0.2, 0.7))
                after.append(min(1.0, max(0.0, before[-1] + lift + rng.uniform(-0.1, 0.1))))
                labels.append(cluster)
        difference = paired_difference(before, after, labels)
        hits["by cluster"] += difference.low <= 0.05 <= difference.high
    for count in hits.values():
        assert 0.93 <= count / EVALUATIONS <= 0.97


def test_differences_that_are_all_equal_have_the_error_of_their_interval():
    equal = paired_difference([0.5] * 120, [0.5] * 120)
    assert not equal.stderr and equal.error == pytest.approx((equal.high - equal.low) / 4) and equal.error > 0
    different = paired_difference([0.5, 0.25, 0.125], [0.75, 0.25, 0.5])
    assert different.error == different.stderr
