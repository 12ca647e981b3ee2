"""Scores of questions in, a mean with its standard error and 95 % interval out.

Scores are fractions in [0, 1], one per question, without files or tasks. Its own module because evaluation writes these estimates
into results, while only reports test differences (`paired_tests`).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Protocol

from orca_bench.stats.distributions import two_sided_quantile
from orca_bench.stats.moments import moments


@dataclass(frozen=True)
class Estimate:
    """A mean score, a fraction of 1, of `n` questions in `clusters` clusters (as many as questions where these stand alone).

    `stderr` is None where there is a single unit only. `low` and `high` bound the 95 % interval, within [0, 1].
    """

    value: float
    stderr: float | None
    low: float
    high: float
    n: int
    clusters: int


def mean(
    values: Sequence[float], clusters: Sequence[Hashable] | None = None, strata: Sequence[Hashable] | None = None
) -> Estimate:
    """The mean of scores [questions] with its standard error and 95 % interval.

    With `clusters`, one label per score, the standard error is the clustered one (Miller 2024, section 2.2). With `strata`, one
    label a score, the mean is the plain mean of the strata's means. Where all scores are 0 or 1 the interval is Wilson's (1927)
    with the effective number of questions p(1 − p)/SE²; for other scores and for strata it is Student's. It has a width even
    where all scores are the same. Raises ValueError for no scores, and for scores that are not numbers in [0, 1].
    """
    check_scores(values)
    sample_moments = moments(values, clusters, strata)
    value, stderr = sample_moments.mean, sample_moments.stderr
    if not stderr:
        # Scores in [0, 1] of mean p have a variance of at most p(1 − p): right or wrong is the widest case.
        low, high = wilson_interval(value, sample_moments.units)
        return Estimate(value, stderr, low, high, len(values), sample_moments.units)
    if strata is None and all(score in (0, 1) for score in values):
        effective_n = min(len(values), value * (1 - value) / stderr**2)
        low, high = wilson_interval(value, effective_n, sample_moments.degrees)
    else:
        margin = two_sided_quantile(sample_moments.degrees) * stderr
        low, high = max(0.0, value - margin), min(1.0, value + margin)
    return Estimate(value, stderr, low, high, len(values), sample_moments.units)


def check_scores(values: Sequence[float]) -> None:
    """Raise ValueError for no scores, and for a score that is not a number in [0, 1]."""
    if not values:
        raise ValueError("no scores")
    for value in values:
        if not 0 <= value <= 1:  # NaN is not
            raise ValueError(f"{value} is no score between 0 and 1")


def wilson_interval(proportion: float, n: float, degrees: float | None = None) -> tuple[float, float]:
    """Wilson's 95 % score interval (1927) of a proportion of `n` questions, (low, high); `n` may be an effective size.

    With `degrees`, Student's quantile with these degrees of freedom takes the place of the normal one.
    """
    z = two_sided_quantile(degrees)
    center = (proportion + z * z / (2 * n)) / (1 + z * z / n)
    margin = z / (1 + z * z / n) * math.sqrt(proportion * (1 - proportion) / n + z * z / (4 * n * n))
    return max(0.0, min(proportion, center - margin)), min(1.0, max(proportion, center + margin))


def normal_interval(value: float, stderr: float, lower: float = -1.0, upper: float = 1.0) -> tuple[float, float]:
    """The 95 % interval (low, high) of a normally distributed estimate, cut to [`least`, `most`]."""
    margin = two_sided_quantile(None) * stderr
    return max(lower, value - margin), min(upper, value + margin)


class WithStandardError(Protocol):
    """Anything that has a value and a standard error: an Estimate, or a Difference of paired_tests."""

    @property
    def value(self) -> float:
        """The point estimate."""

    @property
    def stderr(self) -> float | None:
        """Its standard error, None where there is none."""


def mean_of_estimates(estimates: Sequence[WithStandardError]) -> tuple[float, float | None]:
    """The plain mean of k independent estimates and its standard error sqrt(Σ SE²) / k; None where one of them has none."""
    value = sum(estimate.value for estimate in estimates) / len(estimates)
    variances = [estimate.stderr**2 for estimate in estimates if estimate.stderr is not None]
    return value, math.sqrt(sum(variances)) / len(estimates) if len(variances) == len(estimates) else None
