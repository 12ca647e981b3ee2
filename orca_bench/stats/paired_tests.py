"""Two scores of each question in, their difference with its interval and test out.

Both results answered the same questions, so that how hard a question is falls out of the difference (Miller 2024, arXiv
2411.00640, section 4). Scores are fractions in [0, 1]. Its own module because only reports compare results. `mcnemar` imports
scipy when it is called.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from orca_bench.stats.distributions import normal_p, normal_quantile, student_p, two_sided_quantile
from orca_bench.stats.estimates import check_scores, normal_interval
from orca_bench.stats.moments import Moments, moments

_POWER = 0.8  # of the smallest detectable difference


@dataclass(frozen=True)
class Difference:
    """The mean difference of scores, second minus first, a fraction of 1, with its standard error and 95 % interval.

    `p` is the two-sided p of no difference by the test that `test` names. `n` counts questions, `clusters` their clusters,
    `better` and `worse` the questions whose score rose and fell. `smallest_detectable` is the smallest true difference that a
    comparison of this size detects with a power of 80 %; None where it is unknown.
    """

    value: float
    stderr: float | None
    low: float
    high: float
    p: float
    test: str
    n: int
    clusters: int
    better: int
    worse: int
    smallest_detectable: float | None


def paired_difference(
    first: Sequence[float],
    second: Sequence[float],
    clusters: Sequence[Hashable] | None = None,
    strata: Sequence[Hashable] | None = None,
) -> Difference:
    """The difference of two scores of each question, second minus first; all sequences are [questions].

    Right-or-wrong scores without clusters: the exact McNemar test, and the interval of Bonett and Price (2012, J. Educ. Behav.
    Stat. 37:479), which adds one pair to each kind of disagreement and so always has a width. With strata, McNemar's test and
    Student's t of the strata's mean must both show a difference: the larger p counts. Other scores and clustered ones: Student's
    t of the paired differences. Raises ValueError for scores that are not numbers in [0, 1], for none, and for sequences of
    different lengths.
    """
    check_scores(first)
    check_scores(second)
    differences = [b - a for a, b in zip(first, second, strict=True)]
    sample_moments = moments(differences, clusters, strata)
    value, stderr = sample_moments.mean, sample_moments.stderr
    better, worse = sum(difference > 0 for difference in differences), sum(difference < 0 for difference in differences)
    is_binary = all(score in (0, 1) for score in (*first, *second))
    if is_binary and clusters is None:
        low, high, stderr = _binary_interval(sample_moments, better, worse, len(differences), strata is not None)
        p, test = mcnemar(better, worse), "exact McNemar"
        if strata is not None:
            # McNemar's test counts questions, and a mean of strata may go the other way: both must show a difference.
            p = 1.0 if value * (better - worse) < 0 else max(p, student_p(value / stderr, sample_moments.degrees))
            test = "exact McNemar and t by stratum"
    elif stderr:
        margin = two_sided_quantile(sample_moments.degrees) * stderr
        low, high = max(-1.0, value - margin), min(1.0, value + margin)
        p, test = (
            student_p(value / stderr, sample_moments.degrees),
            "paired t" if clusters is None else "paired t by cluster",
        )
    else:
        # All differences are equal. A share u of questions with another difference would have appeared in this sample with
        # 97.5 %, so a larger share is excluded.
        largest_share = 1 - (0.025 ** (1 / sample_moments.units))
        low, high = max(-1.0, value - largest_share), min(1.0, value + largest_share)
        p, test = (1.0 if value == 0 or sample_moments.units < 2 else 2 * 0.5**sample_moments.units), "sign test"
    detectable = smallest_detectable(stderr) if stderr else None
    return Difference(
        value, stderr, low, high, p, test, len(differences), sample_moments.units, better, worse, detectable
    )


def normal_difference(value: float, stderr: float, test: str, n: int, clusters: int) -> Difference:
    """A normal difference with a known value and standard error; the counts of better and worse questions are 0."""
    low, high = normal_interval(value, stderr)
    return Difference(
        value, stderr, low, high, normal_p(value, stderr), test, n, clusters, 0, 0, smallest_detectable(stderr)
    )


def smallest_detectable(stderr: float) -> float:
    """The smallest true difference that a two-sided test at 5 % detects with a power of 80 %: 2.8 standard errors.

    Miller 2024, section 5.
    """
    return (two_sided_quantile(None) + normal_quantile(_POWER)) * stderr


def mcnemar(better: int, worse: int) -> float:
    """The p of the exact two-sided McNemar test: each of the better + worse disagreements is as likely one way as the other."""
    if better + worse == 0:
        return 1.0
    from scipy.stats import binomtest

    return float(binomtest(better, better + worse, 0.5).pvalue)


def _binary_interval(
    sample_moments: Moments, better: int, worse: int, n: int, stratified: bool
) -> tuple[float, float, float]:
    """(low, high, standard error) by Bonett and Price; of strata by Student's t where their standard error is not zero."""
    if stratified and sample_moments.stderr:
        margin = two_sided_quantile(sample_moments.degrees) * sample_moments.stderr
        return max(-1.0, sample_moments.mean - margin), min(1.0, sample_moments.mean + margin), sample_moments.stderr
    better_share, worse_share = (better + 1) / (n + 2), (worse + 1) / (n + 2)
    stderr = math.sqrt((better_share + worse_share - (better_share - worse_share) ** 2) / (n + 2))
    margin = two_sided_quantile(None) * stderr
    low, high = better_share - worse_share - margin, better_share - worse_share + margin
    return max(-1.0, min(low, sample_moments.mean)), min(1.0, max(high, sample_moments.mean)), stderr
