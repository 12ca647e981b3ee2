"""Quantiles and p-values of the normal distribution and of Student's t.

A probability or a test statistic comes in, a number goes out. Its own module because intervals and tests both need it. scipy is
imported only where Student's t is computed: its import takes most of a second.
"""

from __future__ import annotations

import math
from statistics import NormalDist

#: The coverage of all intervals.
CONFIDENCE_LEVEL = 0.95
_LARGE_DEGREES = 1e6  # from here on Student's t is the normal distribution


def two_sided_quantile(degrees: float | None) -> float:
    """How many standard errors a 95 % interval reaches to each side, by Student's t.

    `degrees` are the degrees of freedom, not below 1 and not necessarily whole; None means the normal distribution.
    """
    probability = (1 + CONFIDENCE_LEVEL) / 2
    if degrees is None or degrees > _LARGE_DEGREES:
        return normal_quantile(probability)
    from scipy.special import stdtrit

    return float(stdtrit(max(degrees, 1), probability))


def student_p(statistic: float, degrees: float | None) -> float:
    """The two-sided p of a t statistic; `degrees` as for `two_sided_quantile`."""
    if degrees is None:
        return math.erfc(abs(statistic) / math.sqrt(2))
    from scipy.special import stdtr

    return float(2 * stdtr(max(degrees, 1), -abs(statistic)))


def normal_p(value: float, error: float) -> float:
    """The two-sided p of no effect, for a normally distributed estimate `value` with standard error `error`."""
    return math.erfc(abs(value / error) / math.sqrt(2))


def normal_quantile(probability: float) -> float:
    """The standard normal value that a random one stays below with `probability`."""
    return NormalDist().inv_cdf(probability)
