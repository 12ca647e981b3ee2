"""Estimates and tests: their textbook values, and what they promise, by simulation."""

import math
import random

import pytest
from scipy import stats

from orca_bench.stats import estimates


def test_a_mean_has_the_standard_error_of_its_scores():
    found = estimates.mean([1.0, 0.0, 1.0, 0.0])
    assert (found.value, found.n, found.clusters) == (0.5, 4, 4)
    assert found.stderr == pytest.approx((1 / 3 / 4) ** 0.5)
    one = estimates.mean([1.0])
    assert one.stderr is None and one.low < 1 == one.high


@pytest.mark.parametrize(("score", "n"), [(0.0, 1), (0.0, 50), (1.0, 50), (0.5, 30)])
def test_no_interval_is_empty(score, n):
    found = estimates.mean([score] * n)
    assert found.low <= score <= found.high and found.high - found.low > 0.02
    paired = estimates.difference([score] * n, [score] * n)
    assert paired.low < 0 < paired.high and paired.p == 1.0


def test_clusters_that_agree_count_once():
    """Ten passages of five questions each that all score alike are ten observations."""
    passages = [float(i % 2) for i in range(10)]
    values = [p for p in passages for _ in range(5)]
    labels = [i for i in range(10) for _ in range(5)]
    clustered, alone = estimates.mean(values, labels), estimates.mean(passages)
    assert clustered.stderr == pytest.approx(alone.stderr) and clustered.clusters == 10
    assert estimates.mean(values).stderr < 0.5 * clustered.stderr


def test_strata_are_weighed_alike_whatever_their_sizes():
    values, strata = [1.0] * 8 + [0.0] * 2 + [1.0, 0.0], ["a"] * 10 + ["b"] * 2
    found = estimates.mean(values, strata=strata)
    a, b = estimates.mean(values[:10]), estimates.mean(values[10:])
    assert found.value == pytest.approx((0.8 + 0.5) / 2)
    assert found.stderr == pytest.approx(math.hypot(a.stderr, b.stderr) / 2)


def test_wilson_and_mcnemar_are_scipys():
    low, high = estimates.wilson(0.3, 50)
    expected = stats.binomtest(15, 50).proportion_ci(method="wilson")
    assert (low, high) == pytest.approx((expected.low, expected.high))
    assert estimates.mcnemar(3, 12) == pytest.approx(stats.binomtest(3, 15).pvalue)
    assert estimates.mcnemar(0, 0) == 1.0


def test_a_continuous_difference_is_the_paired_t_test():
    rng = random.Random(1)
    first = [rng.random() for _ in range(40)]
    second = [min(1.0, max(0.0, a + rng.uniform(-0.1, 0.2))) for a in first]
    found, expected = estimates.difference(first, second), stats.ttest_rel(second, first)
    assert found.p == pytest.approx(expected.pvalue) and found.test == "paired t"
    interval = expected.confidence_interval()
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))


def test_a_mean_of_strata_and_a_count_of_questions_that_go_different_ways_show_nothing():
    strata = ["large"] * 100 + [f"small {n}" for n in range(9) for _ in range(5)]
    first = [0.0] * 100 + [1.0] * 45
    second = [1.0] * 30 + [0.0] * 70 + [1.0, 1.0, 1.0, 0.0, 1.0] * 9
    found = estimates.difference(first, second, strata=strata)
    assert (found.better, found.worse) == (30, 9) and estimates.mcnemar(30, 9) < 0.01
    assert found.value < 0 and found.p == 1
    same = estimates.difference(first, [1.0] * 30 + [0.0] * 70 + [1.0] * 45, strata=strata)
    assert same.value > 0 and 0 < same.p < 1e-6 and same.low > 0
    assert same.p > estimates.mcnemar(30, 0)


def test_holm_is_the_textbooks_step_down():
    assert estimates.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert estimates.holm([]) == []
    assert estimates.holm([0.5, 0.9]) == [1.0, 1.0]


@pytest.mark.parametrize("bad", [[], [math.nan], [1.5], [-0.1], [math.inf]])
def test_what_is_no_score_is_refused(bad):
    with pytest.raises(ValueError):
        estimates.mean(bad)


def test_a_new_run_is_held_against_the_spread_of_the_known_ones():
    known = [0.50, 0.54, 0.46, 0.52, 0.48]
    p = [estimates.seed_tests([known], [value], [0.01])[0].p for value in (0.47, 0.20, 0.3)]
    assert p[0] > 0.3 and p[1] < 0.01
    t = (0.3 - 0.5) / (stats.tstd(known) * math.sqrt(1.2))
    assert p[2] == pytest.approx(2 * stats.t.sf(abs(t), 4))
    with pytest.raises(ValueError):
        estimates.seed_tests([[0.5]], [0.5], [0.01])


def lost(known, values, step=1 / 120):
    """The tasks whose loss the seeds do not explain, as the gate reads the two tests."""
    tests = estimates.seed_tests(known, values, [step] * len(known))
    ps = estimates.holm([test.p for test in tests])
    fell = [value < sum(runs) / len(runs) for value, runs in zip(values, known, strict=True)]
    return [
        place
        for place, (p, test) in enumerate(zip(ps, tests, strict=True))
        if fell[place] and max(p, test.own_p) < 0.05
    ]


@pytest.mark.parametrize("apart", [0.0, 0.01, 0.05, 0.09])
@pytest.mark.parametrize("count", [2, 3])
def test_few_seeds_show_a_fall_from_99_to_0(count, apart):
    others = [[0.5 + (0.02 if seed else 0.0) for seed in range(count)]] * 6
    hellaswag = [0.99 - (apart if seed else 0.0) for seed in range(count)]
    assert lost([hellaswag, *others], [0.0] + [0.51] * 6) == [0]
    # Though another task wanders by 30 points between the seeds.
    others = [[0.4 + (0.3 if seed else 0.0) for seed in range(count)], *others[1:]]
    assert apart > 0.05 or lost([hellaswag, *others], [0.0] + [0.51] * 6) == [0]


@pytest.mark.parametrize("count", [2, 3, 4, 5])
@pytest.mark.parametrize(
    "spreads", [[2] * 7, [20] + [0.5] * 6, [20, 20] + [0.5] * 5, [0.5, 1, 2, 4, 8, 16, 20], [3], [3, 0.1]]
)
def test_seeds_that_differ_by_chance_alone_are_seldom_taken_for_a_loss(count, spreads):
    rng = random.Random(count)
    alarms, runs = 0, 1500
    for _ in range(runs):
        known = [[rng.gauss(0, spread) for _ in range(count)] for spread in spreads]
        alarms += bool(lost(known, [rng.gauss(0, spread) for spread in spreads], step=1e-6))
    assert alarms / runs < 0.05 + 3 * math.sqrt(0.05 * 0.95 / runs)


# --- what is promised, by simulation: 2,000 evaluations each ----------------------------------------------------------

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
    hits = narrow = 0
    for _ in range(EVALUATIONS):
        values, labels = clustered(rng, 60, 5, 0.14, share)
        found, blind = estimates.mean(values, labels), estimates.mean(values)
        hits += found.low <= share <= found.high
        narrow += blind.low <= share <= blind.high
    assert 0.93 <= hits / EVALUATIONS <= 0.97
    assert narrow < hits  # to leave the clusters out is to be surer than one may


def test_intervals_of_strata_and_of_continuous_scores_cover_the_truth():
    rng = random.Random(8)
    strata = [s for s in range(8) for _ in range(15 + 5 * s)]
    shares = [0.1 + 0.1 * s for s in range(8)]
    hits = continuous = 0
    for _ in range(EVALUATIONS):
        found = estimates.mean([float(rng.random() < shares[s]) for s in strata], strata=strata)
        hits += found.low <= sum(shares) / 8 <= found.high
        found = estimates.mean([rng.betavariate(0.5, 1.5) for _ in range(60)])
        continuous += found.low <= 0.25 <= found.high
    assert 0.93 <= hits / EVALUATIONS <= 0.97
    assert 0.93 <= continuous / EVALUATIONS <= 0.97


def test_intervals_of_paired_differences_cover_the_truth():
    rng = random.Random(9)
    hits = {"right or wrong": 0, "by cluster": 0}
    for _ in range(EVALUATIONS):
        hard = [rng.random() for _ in range(80)]
        first = [float(rng.random() < h) for h in hard]
        second = [float(rng.random() < min(1, 0.1 + 0.9 * h)) for h in hard]  # better by 0.1 × (1 − h): 0.05
        found = estimates.difference(first, second)
        hits["right or wrong"] += found.low <= 0.05 <= found.high
        labels, before, after = [], [], []
        for cluster in range(40):
            lift = rng.uniform(-0.1, 0.2)
            for _ in range(rng.randint(1, 5)):
                before.append(rng.uniform(0.2, 0.7))
                after.append(min(1.0, max(0.0, before[-1] + lift + rng.uniform(-0.1, 0.1))))
                labels.append(cluster)
        found = estimates.difference(before, after, labels)
        hits["by cluster"] += found.low <= 0.05 <= found.high
    for count in hits.values():
        assert 0.93 <= count / EVALUATIONS <= 0.97


def test_without_a_difference_the_corrected_tests_cry_wolf_in_at_most_one_of_twenty():
    """Seven tasks, one of them in strata and one continuous and in clusters, and the two averages: all that has a verdict."""
    rng, wolves = random.Random(10), 0
    labels, strata = [i // 3 for i in range(60)], [i % 5 for i in range(60)]
    for _ in range(EVALUATIONS):
        found = []
        for task in range(7):
            hard = [rng.random() for _ in range(60)]
            scores = [[float(rng.random() < h) for h in hard] for _ in range(2)]
            if task == 6:
                scores = [[rng.random() * h for h in hard] for _ in range(2)]
            found.append(estimates.difference(*scores, labels if task == 6 else None, strata if task == 5 else None))
        ps = [difference.p for difference in found]
        ps += [estimates.normal_p(*estimates.mean_of(parts)) for parts in (found, found[:6])]
        wolves += min(estimates.holm(ps)) < 0.05
    assert 0 < wolves / EVALUATIONS <= 0.05
