"""Numbers of questions in, of whatever size, their mean or mean difference with standard error and 95 % interval out.

`estimates` and `paired_tests` are for scores in [0, 1], and use that. Its own module because without bounds there is only
Student's t, and no interval where all numbers are the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from orca_bench.stats.distributions import student_p_value, two_sided_quantile
from orca_bench.stats.moments import compute_moments
from orca_bench.stats.paired_tests import Difference

#: The test of `number_difference`, by its name in `Difference.test`, and that of two values with their standard errors.
NUMBER_TEST, UNPAIRED_NUMBER_TEST = "paired t of numbers", "unpaired z of two values"


@dataclass(frozen=True)
class NumberEstimate:
    """A number with its standard error and 95 % interval; None where they are not known."""

    value: float
    stderr: float | None
    interval: tuple[float, float] | None


def estimate_numbers(values: Sequence[float], stratum_labels: Sequence[Hashable] | None = None) -> NumberEstimate:
    """The mean of `values` [questions] by Student's t; with `stratum_labels` [questions] the mean of the strata's means."""
    moments = compute_moments(values, None, stratum_labels)
    if not moments.stderr:
        return NumberEstimate(moments.mean, moments.stderr, None)
    half_width = two_sided_quantile(moments.degrees_of_freedom) * moments.stderr
    return NumberEstimate(moments.mean, moments.stderr, (moments.mean - half_width, moments.mean + half_width))


def number_difference(
    first_values: Sequence[float], second_values: Sequence[float], stratum_labels: Sequence[Hashable] | None = None
) -> Difference:
    """The mean difference of two numbers of each question, second minus first, by Student's t of the paired differences.

    All sequences are [questions]. Where all differences are the same there is no width: p is the sign test's.
    """
    differences = [second - first for first, second in zip(first_values, second_values, strict=True)]
    moments = compute_moments(differences, None, stratum_labels)
    half_width = two_sided_quantile(moments.degrees_of_freedom) * moments.stderr if moments.stderr else 0.0
    if moments.stderr:
        p = student_p_value(moments.mean / moments.stderr, moments.degrees_of_freedom)
    else:
        p = 1.0 if moments.mean == 0 or moments.unit_count < 2 else 2 * 0.5**moments.unit_count
    return Difference(
        moments.mean,
        moments.stderr,
        moments.mean - half_width,
        moments.mean + half_width,
        p,
        NUMBER_TEST,
        len(differences),
        moments.unit_count,
        sum(difference > 0 for difference in differences),
        sum(difference < 0 for difference in differences),
    )


def bootstrap_estimate(
    aggregate: Callable[[Sequence[Any]], float], items: Sequence[Any], draw_count: int = 1000, seed: int = 1234
) -> NumberEstimate:
    """The value of an aggregation of all `items` [questions], with the bootstrap's standard error and percentile interval.

    `draw_count` samples of as many questions, with replacement; source: Efron and Tibshirani 1993, chapters 6 and 13. A draw
    that has no value, as a correlation of answers that are all the same, is left out; with fewer than half of them left, or
    where all are the same, there is no error.
    """
    import numpy as np

    value = float(aggregate(items))
    if len(items) < 2:
        return NumberEstimate(value, None, None)
    generator = np.random.default_rng(seed)
    draws = [
        float(aggregate([items[index] for index in generator.integers(len(items), size=len(items))]))
        for _ in range(draw_count)
    ]
    draws = [draw for draw in draws if math.isfinite(draw)]
    if len(draws) < max(2, draw_count / 2) or min(draws) == max(draws):
        return NumberEstimate(value, None, None)
    low, high = (float(np.quantile(draws, probability)) for probability in (0.025, 0.975))
    return NumberEstimate(value, float(np.std(draws, ddof=1)), (min(low, value), max(high, value)))
