"""Quantiles and p-values of the normal distribution and of Student's t.

A probability or a test statistic comes in, a number goes out. Its own module because intervals and tests both need it. scipy is
imported only where Student's t is computed: its import takes most of a second.
"""

from __future__ import annotations

import math
from statistics import NormalDist

#: The coverage of all intervals.
CONFIDENCE_LEVEL = 0.95
_MAX_STUDENT_DEGREES = 1e6  # from here on Student's t is the normal distribution


def two_sided_quantile(degrees_of_freedom: float | None) -> float:
    """How many standard errors a 95 % interval reaches to each side, by Student's t.

    `degrees_of_freedom` is not below 1 and not necessarily whole; None means the normal distribution.
    """
    return student_quantile((1 + CONFIDENCE_LEVEL) / 2, math.inf if degrees_of_freedom is None else degrees_of_freedom)


def student_quantile(cumulative_probability: float, degrees_of_freedom: float) -> float:
    """The value that a random one of Student's t stays below; `degrees_of_freedom` is not below 1, and may be infinite."""
    if degrees_of_freedom > _MAX_STUDENT_DEGREES:
        return normal_quantile(cumulative_probability)
    from scipy.special import stdtrit

    return float(stdtrit(max(degrees_of_freedom, 1), cumulative_probability))


def student_p_value(t_statistic: float, degrees_of_freedom: float | None) -> float:
    """The two-sided p of a t statistic; `degrees_of_freedom` as for `two_sided_quantile`."""
    if degrees_of_freedom is None:
        return math.erfc(abs(t_statistic) / math.sqrt(2))
    from scipy.special import stdtr

    return float(2 * stdtr(max(degrees_of_freedom, 1), -abs(t_statistic)))


def normal_p_value(estimate: float, stderr: float) -> float:
    """The two-sided p of no effect, for a normally distributed `estimate` with standard error `stderr`."""
    return math.erfc(abs(estimate / stderr) / math.sqrt(2))


def normal_quantile(cumulative_probability: float) -> float:
    """The standard normal value that a random one stays below with `cumulative_probability`."""
    return NormalDist().inv_cdf(cumulative_probability)
