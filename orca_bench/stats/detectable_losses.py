"""A comparison that shows no loss in, the smallest loss out that it would have shown: what "no loss shown" is worth.

A loss that a test has a power of 80 % to find is the sum of two parts: the loss at which the test begins to reject, and a margin
for chance, 0.84 standard errors (Bloom 1995, Evaluation Review 19:547, the minimum detectable effect; Miller 2024, arXiv
2411.00640, section 5). A loss is taken to be a share of the questions that fall from right to wrong: smaller falls of more
questions are found more easily. Losses are fractions of 1; a rise is found like a fall of the same size. Its own module because
tests show differences, while this is about those that they do not show.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from orca_bench.stats.distributions import normal_quantile, student_quantile
from orca_bench.stats.numbers import NUMBER_TEST, UNPAIRED_NUMBER_TEST
from orca_bench.stats.paired_tests import (
    MCNEMAR_TEST,
    PAIRED_NORMAL_TEST,
    STRATIFIED_MCNEMAR_TEST,
    UNPAIRED_NORMAL_TEST,
    Difference,
)
from orca_bench.stats.seed_tests import SeedTest

_POWER = 0.8
_ITERATIONS = 50  # each comes closer to the loss
_BISECTIONS = 20  # halvings of the range of losses: to 1e-6


@dataclass(frozen=True)
class DetectableLoss:
    """The true loss that a test finds every second time (`critical`), and what more it needs to be found four times in five.

    Both are fractions of 1; a loss cannot be larger than the score, so one that `smallest` exceeds cannot be found at all.
    """

    critical: float
    margin: float

    @property
    def smallest(self) -> float:
        """The smallest true loss that is found with a power of 80 %."""
        return self.critical + self.margin

    def of_both(self, other: DetectableLoss) -> DetectableLoss:
        """The loss that two tests of the same scores must both find: the larger limit, with the larger margin.

        An upper bound: the tests see the same new score, so they miss a loss together rather than one after the other.
        """
        return DetectableLoss(max(self.critical, other.critical), max(self.margin, other.margin))

    def at_least(self, loss: float) -> DetectableLoss:
        """The loss that is found where an observed loss below `loss` passes whatever its p."""
        return DetectableLoss(max(self.critical, loss), self.margin)


def detectable_loss(difference: Difference, level: float, score: float | None = None) -> DetectableLoss:
    """What the test of this difference finds at `level` (two-sided, after a correction over the tasks).

    It is computed for the noise of `difference`: for right-or-wrong scores the exact power of McNemar's test, where without
    a loss as many questions rise as fall, half of those that differ (and one more, as in the interval of Bonett and Price); else
    by Student's t, where the loss adds its own variance. So it does to a normal difference, which without it has 2.8 standard
    errors at 5 % (Miller 2024). `score` is the score, a fraction of 1, that loses: unpaired, its variance grows the less the
    nearer it is to a half.
    """
    if difference.test == PAIRED_NORMAL_TEST:
        return _normal_loss(difference, level, 1.0)
    if difference.test == UNPAIRED_NORMAL_TEST:
        return _normal_loss(difference, level, 1.0 if score is None else abs(2 * score - 1))
    if difference.test == UNPAIRED_NUMBER_TEST:
        return _quantile_loss(difference.error, math.inf, 1 - level / 2)
    if difference.test == NUMBER_TEST:
        return _number_loss(difference, level)
    if difference.test == MCNEMAR_TEST:
        return _mcnemar_loss(difference, level)
    if difference.test == STRATIFIED_MCNEMAR_TEST:
        return _mcnemar_loss(difference, level).of_both(_student_loss(difference, level))
    return _student_loss(difference, level)


def smallest_attainable_p(difference: Difference) -> float:
    """The smallest p that the test of `difference` can have with so many questions: where all of them rise, or all fall."""
    if difference.test in (MCNEMAR_TEST, STRATIFIED_MCNEMAR_TEST):
        return 2 * 0.5**difference.n
    return 0.0 if difference.clusters > 1 else 1.0


def seed_detectable_loss(test: SeedTest, level: float, own_level: float) -> DetectableLoss:
    """What the test against runs with other seeds finds: at `level` with the shared variance, at `own_level` with its own.

    The difference of a new run and the mean of the others, over its standard error, has Student's t; so the loss found with a
    power of 80 % is the sum of two of its quantiles, of that test's degrees of freedom, times the standard error.
    """
    shared = _quantile_loss(test.prediction_stderr, test.degrees_of_freedom, 1 - level / 2)
    own_tail = own_level if test.is_own_variance_one_sided else own_level / 2
    own = _quantile_loss(test.own_prediction_stderr, test.own_degrees_of_freedom, 1 - own_tail)
    return shared.of_both(own)


def _quantile_loss(stderr: float, degrees_of_freedom: float, probability: float) -> DetectableLoss:
    return DetectableLoss(
        student_quantile(probability, degrees_of_freedom) * stderr,
        student_quantile(_POWER, degrees_of_freedom) * stderr,
    )


def _normal_loss(difference: Difference, level: float, slope: float) -> DetectableLoss:
    """The loss d that solves d = q √(s² + d (slope − d) / n), by iteration.

    A share d of questions that fall adds d (1 − d) to the variance of one paired question; that of a right-or-wrong score p
    changes by d (|2p − 1| − d) where it moves toward a half.
    """

    def loss_at(quantile: float) -> float:
        loss = quantile * difference.error
        for _ in range(_ITERATIONS):
            loss = quantile * math.sqrt(difference.error**2 + max(0.0, loss * (slope - loss)) / difference.clusters)
        return loss

    rejection_quantile = normal_quantile(1 - level / 2)
    critical = loss_at(rejection_quantile)
    return DetectableLoss(critical, loss_at(rejection_quantile + normal_quantile(_POWER)) - critical)


def _student_loss(difference: Difference, level: float) -> DetectableLoss:
    """By Student's t with the variance of the difference and that of a share of questions (or clusters) that fall.

    The loss d solves d = q √(s² + d (1 − d) / n), a quadratic equation.
    """
    unit_count = difference.clusters
    if unit_count < 2:
        return DetectableLoss(math.inf, 0.0)
    degrees_of_freedom = unit_count - 1

    def loss_at(quantile: float) -> float:
        variance = (difference.stderr or 0.0) ** 2
        square, share = quantile * quantile, quantile * quantile / unit_count
        return (share + math.sqrt(share * share + 4 * (1 + share) * square * variance)) / (2 * (1 + share))

    rejection_quantile = student_quantile(1 - level / 2, degrees_of_freedom)
    critical = loss_at(rejection_quantile)
    return DetectableLoss(
        critical, loss_at(rejection_quantile + student_quantile(_POWER, degrees_of_freedom)) - critical
    )


def _number_loss(difference: Difference, level: float) -> DetectableLoss:
    """By Student's t of numbers without bounds: a loss is taken to move all of them alike, and so adds no variance."""
    if difference.clusters < 2:
        return DetectableLoss(math.inf, 0.0)
    return _quantile_loss(difference.stderr or 0.0, difference.clusters - 1, 1 - level / 2)


def _mcnemar_loss(difference: Difference, level: float) -> DetectableLoss:
    question_count = difference.n
    noise_share = ((difference.better + difference.worse) / 2 + 1) / (question_count + 2)
    critical, smallest = (_mcnemar_loss_at_power(question_count, noise_share, level, power) for power in (0.5, _POWER))
    return DetectableLoss(critical, 0.0 if math.isinf(critical) else smallest - critical)


def _mcnemar_loss_at_power(question_count: int, noise_share: float, level: float, power: float) -> float:
    """The loss that the exact McNemar test at `level` finds with `power`; infinite where it cannot find any."""
    import numpy as np
    from scipy.stats import binom

    differing_counts = np.arange(question_count + 1)
    # The fewest of the questions that differ which must have fallen: P(as many or more by chance) ≤ level / 2.
    smallest_worse_counts = binom.isf(level / 2, differing_counts, 0.5) + 1
    largest_loss = 1 - 2 * noise_share

    def power_at(loss: float) -> float:
        differing_share = 2 * noise_share + loss
        worse_share = (noise_share + loss) / differing_share
        rejections = binom.sf(smallest_worse_counts - 1, differing_counts, worse_share)
        return float(np.sum(binom.pmf(differing_counts, question_count, differing_share) * rejections))

    if largest_loss <= 0 or power_at(largest_loss) < power:
        return math.inf
    low, high = 0.0, largest_loss
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if power_at(middle) >= power else (middle, high)
    return high
