"""The smallest loss that a comparison would have shown: losses of that size are shown four times in five, half of it seldom."""

import math
import random

import pytest

from orca_bench.stats.detectable_losses import DetectableLoss, detectable_loss, seed_detectable_loss
from orca_bench.stats.paired_tests import UNPAIRED_NORMAL_TEST, normal_difference, paired_difference
from orca_bench.stats.seed_tests import seed_tests

LEVEL = 0.05 / 7  # Holm's first step over seven tasks
RUNS = 250


def shares_found(simulate_pair, level=LEVEL, runs=RUNS):
    """How often a loss of the smallest size, and half of it, is found: (share, share).

    `simulate_pair(rng, loss)` draws the scores of two runs, whose second has lost `loss`. The smallest loss is that of a
    comparison without a loss, as a gate that passes states it.
    """
    rng = random.Random(5)
    found_counts = [0, 0]
    for _ in range(runs):
        smallest_loss = detectable_loss(paired_difference(*simulate_pair(rng, 0.0)), level).smallest
        for index, loss in enumerate((smallest_loss, smallest_loss / 2)):
            difference = paired_difference(*simulate_pair(rng, loss))
            found_counts[index] += difference.p < level and difference.value < 0
    return [count / runs for count in found_counts]


def binary_pair(question_count, noise):
    """Half the questions are right; `noise` of all turn each way, and a share of all, the loss, falls besides."""

    def simulate(rng, loss):
        pairs = []
        for _ in range(question_count):
            draw = rng.random()
            if draw < noise:
                pairs.append((0, 1))
            elif draw < 2 * noise + loss:
                pairs.append((1, 0))
            else:
                pairs.append((1, 1) if rng.random() < 0.5 else (0, 0))
        return zip(*pairs, strict=True)

    return simulate


def graded_pair(question_count, spread):
    """Scores between 0 and 1 that differ by `spread`; a loss makes a share of the questions fall to nothing."""

    def simulate(rng, loss):
        first = [rng.uniform(0.3, 0.7) for _ in range(question_count)]
        second = [min(1.0, max(0.0, score + rng.gauss(0, spread))) for score in first]
        # A question falls by 0.5 in the mean.
        return first, [0.0 if rng.random() < 2 * loss else score for score in second]

    return simulate


def close_to_power(share):
    return 0.75 < share <= 0.97


@pytest.mark.parametrize(("question_count", "noise"), [(120, 0.02), (120, 0.1), (400, 0.05), (60, 0.1)])
def test_the_smallest_loss_of_right_and_wrong_scores_is_found_four_times_in_five(question_count, noise):
    at_smallest, at_half = shares_found(binary_pair(question_count, noise))
    assert close_to_power(at_smallest) and at_half < 0.5


@pytest.mark.parametrize(("question_count", "spread"), [(120, 0.1), (400, 0.2), (120, 0.0)])
def test_the_smallest_loss_of_graded_scores_is_found_at_least_four_times_in_five(question_count, spread):
    at_smallest, _ = shares_found(graded_pair(question_count, spread))
    assert at_smallest > 0.75


@pytest.mark.parametrize(("question_count", "score"), [(120, 0.99), (120, 0.5), (400, 0.9)])
def test_the_smallest_loss_of_scores_without_pairs_is_found_four_times_in_five(question_count, score):
    rng, found_count, runs = random.Random(3), 0, 1000

    def measured_share(true_score):
        share = sum(rng.random() < true_score for _ in range(question_count)) / question_count
        return share, max(math.sqrt(share * (1 - share) / question_count), 0.5 / question_count)

    def difference(loss):
        (first, first_stderr), (second, second_stderr) = measured_share(score), measured_share(score - loss)
        stderr = math.hypot(first_stderr, second_stderr)
        return first, normal_difference(second - first, stderr, UNPAIRED_NORMAL_TEST, question_count, question_count)

    for _ in range(runs):
        first, without_loss = difference(0.0)
        _, with_loss = difference(detectable_loss(without_loss, LEVEL, first).smallest)
        found_count += with_loss.p < LEVEL and with_loss.value < 0
    assert 0.7 < found_count / runs < 0.9


def test_answers_that_are_the_same_show_a_loss_of_some_questions_not_of_one():
    difference = paired_difference([1.0] * 120, [1.0] * 120)
    loss = detectable_loss(difference, LEVEL)
    assert 9 / 120 < loss.smallest < 0.16  # McNemar's test needs nine questions that fell and none that rose
    assert detectable_loss(paired_difference([0.5] * 120, [0.5] * 120), LEVEL).smallest < 0.16


def test_a_handful_of_questions_shows_no_loss_at_all():
    assert detectable_loss(paired_difference([1.0] * 4, [1.0] * 4), LEVEL).smallest == math.inf
    assert detectable_loss(paired_difference([0.5], [0.5]), LEVEL).smallest == math.inf


@pytest.mark.parametrize(("run_count", "spreads"), [(5, [2, 5, 1]), (3, [2, 2, 2, 2]), (2, [2, 2, 2, 2]), (5, [3])])
def test_the_smallest_loss_over_seeds_is_found_four_times_in_five(run_count, spreads):
    rng = random.Random(run_count)
    level, found_count, found_count_of_halves, runs = 0.05 / len(spreads), 0, 0, 2000
    for _ in range(runs):
        baselines = [[rng.gauss(0, spread) for _ in range(run_count)] for spread in spreads]
        steps = [1e-6] * len(spreads)
        without_loss = seed_tests(baselines, [rng.gauss(0, spread) for spread in spreads], steps)[0]
        loss = seed_detectable_loss(without_loss, level, 0.05).smallest
        for share in (1.0, 0.5):
            values = [rng.gauss(-share * loss if task == 0 else 0, spread) for task, spread in enumerate(spreads)]
            test = seed_tests(baselines, values, steps)[0]
            is_found = values[0] < sum(baselines[0]) / run_count
            is_found = is_found and test.uncorrected_p < level and test.own_variance_p < 0.05
            found_count += share == 1.0 and is_found
            found_count_of_halves += share == 0.5 and is_found
    assert 0.77 < found_count / runs < 0.95 and found_count_of_halves / runs < 0.45


def test_what_two_tests_must_find_needs_the_larger_limit_and_the_larger_margin():
    both = DetectableLoss(0.1, 0.03).of_both(DetectableLoss(0.05, 0.04))
    assert both == DetectableLoss(0.1, 0.04) and both.smallest == pytest.approx(0.14)
    assert DetectableLoss(0.1, 0.03).at_least(0.2).smallest == pytest.approx(0.23)
