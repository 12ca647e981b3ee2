"""A random sample of a finite population in, the population's total with its 95 % interval out.

Its own module because totals are amounts of any size, where the other estimates are of scores in [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from orca_bench.stats.distributions import two_sided_quantile


@dataclass(frozen=True)
class TotalEstimate:
    """The estimated total of a population and its 95 % interval, in the unit of the values.

    The interval is None for a sample of one value, which says nothing of the spread.
    """

    total: float
    interval_low: float | None
    interval_high: float | None


def estimate_total(sampled_values: Sequence[float], population_size: int) -> TotalEstimate:
    """The total of `population_size` values, none below 0, of which `sampled_values` are a random sample without replacement.

    Cochran, Sampling Techniques (3rd ed. 1977), sections 2.5 to 2.9: the mean times N, with Student's interval of standard error
    N·s/√n·√(1 − n/N). The total is at least the sum of the sample. Raises ValueError for an empty sample and for one that is
    larger than the population.
    """
    sample_size = len(sampled_values)
    if not 0 < sample_size <= population_size:
        raise ValueError(f"a sample of {sample_size} of {population_size} values")
    sample_sum = math.fsum(sampled_values)
    mean = sample_sum / sample_size
    total = population_size * mean
    if sample_size == population_size:
        return TotalEstimate(total, total, total)
    if sample_size == 1:
        return TotalEstimate(total, None, None)
    variance = math.fsum((value - mean) ** 2 for value in sampled_values) / (sample_size - 1)
    stderr = population_size * math.sqrt(variance / sample_size * (1 - sample_size / population_size))
    half_width = two_sided_quantile(sample_size - 1) * stderr
    return TotalEstimate(total, max(sample_sum, total - half_width), total + half_width)
