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
from orca_bench.stats.moments import compute_moments


@dataclass(frozen=True)
class MeanScore:
    """The mean score of questions, a fraction of 1, with its standard error and 95 % interval.

    `cluster_count` is the number of questions where these stand alone. `stderr` is None for a single unit. `interval_low` and
    `interval_high` bound the 95 % interval, within [0, 1].
    """

    value: float
    stderr: float | None
    interval_low: float
    interval_high: float
    question_count: int
    cluster_count: int


def estimate_mean(
    scores: Sequence[float],
    cluster_labels: Sequence[Hashable] | None = None,
    stratum_labels: Sequence[Hashable] | None = None,
) -> MeanScore:
    """The mean of scores [questions] with its standard error and 95 % interval.

    With `cluster_labels`, one label per score, the standard error is the clustered one (Miller 2024, section 2.2). With
    `stratum_labels`, one label a score, the mean is the plain mean of the strata's means. Where all scores are 0 or 1 the
    interval is Wilson's (1927) with the effective number of questions p(1 − p)/SE²; for other scores and for strata it is
    Student's. It has a width even where all scores are the same. Raises ValueError for no scores, and for scores that are not
    numbers in [0, 1].
    """
    check_scores_are_fractions(scores)
    sample_moments = compute_moments(scores, cluster_labels, stratum_labels)
    mean_score, stderr = sample_moments.mean, sample_moments.stderr
    if not stderr:
        # Scores in [0, 1] of mean p have a variance of at most p(1 − p): right or wrong is the widest case.
        low, high = wilson_interval(mean_score, sample_moments.unit_count)
        return MeanScore(mean_score, stderr, low, high, len(scores), sample_moments.unit_count)
    if stratum_labels is None and all(score in (0, 1) for score in scores):
        effective_question_count = min(len(scores), mean_score * (1 - mean_score) / stderr**2)
        low, high = wilson_interval(mean_score, effective_question_count, sample_moments.degrees_of_freedom)
    else:
        half_width = two_sided_quantile(sample_moments.degrees_of_freedom) * stderr
        low, high = max(0.0, mean_score - half_width), min(1.0, mean_score + half_width)
    return MeanScore(mean_score, stderr, low, high, len(scores), sample_moments.unit_count)


def check_scores_are_fractions(scores: Sequence[float]) -> None:
    """Raise ValueError for no scores, and for a score that is not a number in [0, 1]."""
    if not scores:
        raise ValueError("no scores")
    for score in scores:
        if not 0 <= score <= 1:  # NaN is not
            raise ValueError(f"{score} is no score between 0 and 1")


def wilson_interval(proportion: float, n: float, degrees_of_freedom: float | None = None) -> tuple[float, float]:
    """Wilson's 95 % score interval (1927) of a proportion of `n` questions, (low, high); `n` may be an effective size.

    With `degrees_of_freedom`, Student's quantile with these degrees of freedom takes the place of the normal one.
    """
    z = two_sided_quantile(degrees_of_freedom)
    interval_center = (proportion + z * z / (2 * n)) / (1 + z * z / n)
    half_width = z / (1 + z * z / n) * math.sqrt(proportion * (1 - proportion) / n + z * z / (4 * n * n))
    return max(0.0, min(proportion, interval_center - half_width)), min(
        1.0, max(proportion, interval_center + half_width)
    )


def normal_interval(
    estimate: float, stderr: float, lower_bound: float = -1.0, upper_bound: float = 1.0
) -> tuple[float, float]:
    """The 95 % interval (low, high) of a normally distributed estimate, cut to [`lower_bound`, `upper_bound`]."""
    half_width = two_sided_quantile(None) * stderr
    return max(lower_bound, estimate - half_width), min(upper_bound, estimate + half_width)


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
    mean_value = sum(estimate.value for estimate in estimates) / len(estimates)
    variances = [estimate.stderr**2 for estimate in estimates if estimate.stderr is not None]
    return mean_value, math.sqrt(sum(variances)) / len(estimates) if len(variances) == len(estimates) else None
