"""Estimates: their textbook values, and by simulation that intervals cover the true mean as often as they say."""

import math
import random

import pytest
from scipy import stats

from orca_bench.stats.estimates import estimate_mean, wilson_interval


def test_a_mean_has_the_standard_error_of_its_scores():
    estimate = estimate_mean([1.0, 0.0, 1.0, 0.0])
    assert (estimate.value, estimate.question_count, estimate.cluster_count) == (0.5, 4, 4)
    assert estimate.stderr == pytest.approx((1 / 3 / 4) ** 0.5)
    one = estimate_mean([1.0])
    assert one.stderr is None and one.interval_low < 1 == one.interval_high


@pytest.mark.parametrize(("score", "n"), [(0.0, 1), (0.0, 50), (1.0, 50), (0.5, 30)])
def test_an_interval_has_a_width_where_all_scores_are_the_same(score, n):
    estimate = estimate_mean([score] * n)
    assert (
        estimate.interval_low <= score <= estimate.interval_high
        and estimate.interval_high - estimate.interval_low > 0.02
    )


def test_clusters_that_agree_count_once():
    """Ten passages of five questions each that all score alike are ten observations."""
    passages = [float(i % 2) for i in range(10)]
    values = [p for p in passages for _ in range(5)]
    labels = [i for i in range(10) for _ in range(5)]
    clustered, alone = estimate_mean(values, labels), estimate_mean(passages)
    assert clustered.stderr == pytest.approx(alone.stderr) and clustered.cluster_count == 10
    assert estimate_mean(values).stderr < 0.5 * clustered.stderr


def test_strata_are_weighed_alike_whatever_their_sizes():
    values, strata = [1.0] * 8 + [0.0] * 2 + [1.0, 0.0], ["a"] * 10 + ["b"] * 2
    estimate = estimate_mean(values, stratum_labels=strata)
    a, b = estimate_mean(values[:10]), estimate_mean(values[10:])
    assert estimate.value == pytest.approx((0.8 + 0.5) / 2)
    assert estimate.stderr == pytest.approx(math.hypot(a.stderr, b.stderr) / 2)


def test_wilsons_interval_is_scipys():
    low, high = wilson_interval(0.3, 50)
    expected = stats.binomtest(15, 50).proportion_ci(method="wilson")
    assert (low, high) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize("values", [[], [math.nan], [1.5], [-0.1], [math.inf]])
def test_a_number_that_is_no_score_is_refused(values):
    with pytest.raises(ValueError):
        estimate_mean(values)


# --- coverage of the intervals, by simulation: 2,000 evaluations each --------------------------------------------------

EVALUATIONS = 2000


def clustered(rng, clusters, size, spread, share):
    """Right-or-wrong scores whose clusters differ in how hard they are; the population's mean is `share`."""
    values, labels = [], []
    for cluster in range(clusters):
        p = share + spread * rng.choice((-1, 1))
        for _ in range(rng.randint(1, 2 * size - 1)):
            values.append(float(rng.random() < p))
            labels.append(cluster)
    return values, labels


@pytest.mark.parametrize("share", [0.15, 0.5])
def test_intervals_of_clustered_scores_cover_the_truth_as_often_as_they_say(share):
    rng = random.Random(7)
    hits = unclustered_hits = 0
    for _ in range(EVALUATIONS):
        values, labels = clustered(rng, 60, 5, 0.14, share)
        estimate, unclustered = estimate_mean(values, labels), estimate_mean(values)
        hits += estimate.interval_low <= share <= estimate.interval_high
        unclustered_hits += unclustered.interval_low <= share <= unclustered.interval_high
    assert 0.93 <= hits / EVALUATIONS <= 0.97
    assert unclustered_hits < hits  # to leave the clusters out is to be surer than one may


def test_intervals_of_strata_and_of_continuous_scores_cover_the_truth():
    rng = random.Random(8)
    strata = [s for s in range(8) for _ in range(15 + 5 * s)]
    shares = [0.1 + 0.1 * s for s in range(8)]
    hits = continuous = 0
    for _ in range(EVALUATIONS):
        estimate = estimate_mean([float(rng.random() < shares[s]) for s in strata], stratum_labels=strata)
        hits += estimate.interval_low <= sum(shares) / 8 <= estimate.interval_high
        estimate = estimate_mean([rng.betavariate(0.5, 1.5) for _ in range(60)])
        continuous += estimate.interval_low <= 0.25 <= estimate.interval_high
    assert 0.93 <= hits / EVALUATIONS <= 0.97
    assert 0.93 <= continuous / EVALUATIONS <= 0.97
