"""Holm's correction: the textbook's values, and by simulation the family-wise error rate of all that a report tests."""

import random

import pytest

from orca_bench.stats.distributions import normal_p_value
from orca_bench.stats.estimates import mean_of_estimates
from orca_bench.stats.multiple_testing import correct_by_holm, levels_of_holm
from orca_bench.stats.paired_tests import paired_difference

EVALUATIONS = 2000


def test_holm_is_the_textbooks_step_down():
    assert correct_by_holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert correct_by_holm([]) == []
    assert correct_by_holm([0.5, 0.9]) == [1.0, 1.0]


def test_a_p_just_below_the_level_of_its_test_would_have_shown_a_difference_and_one_just_above_it_none():
    ps = [0.01, 0.04, 0.03, 0.005]
    levels = levels_of_holm(correct_by_holm(ps))
    assert levels == pytest.approx([0.05 / 3, 0.05 / 2, 0.05 / 2, 0.05 / 3])
    for index, level in enumerate(levels):
        below, above = ([*ps[:index], level * factor, *ps[index + 1 :]] for factor in (0.999, 1.001))
        assert correct_by_holm(below)[index] < 0.05 <= correct_by_holm(above)[index]
    assert levels_of_holm([0.4, 0.5], 0.2) == pytest.approx([0.1, 0.1]) and levels_of_holm([]) == []


def test_without_a_true_difference_at_most_one_report_of_twenty_shows_one():
    """Seven tasks, one of them in strata and one continuous and in clusters, and the two averages: all that has a verdict."""
    rng, false_alarms = random.Random(10), 0
    labels, strata = [i // 3 for i in range(60)], [i % 5 for i in range(60)]
    for _ in range(EVALUATIONS):
        differences = []
        for task in range(7):
            difficulties = [rng.random() for _ in range(60)]
            scores = [[float(rng.random() < h) for h in difficulties] for _ in range(2)]
            if task == 6:
                scores = [[rng.random() * h for h in difficulties] for _ in range(2)]
            differences.append(paired_difference(*scores, labels if task == 6 else None, strata if task == 5 else None))
        ps = [difference.p for difference in differences]
        ps += [normal_p_value(*mean_of_estimates(parts)) for parts in (differences, differences[:6])]
        false_alarms += min(correct_by_holm(ps)) < 0.05
    assert 0 < false_alarms / EVALUATIONS <= 0.05
