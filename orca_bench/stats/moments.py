"""Numbers of questions in, their mean with its standard error out, with clusters and strata taken into account.

Questions are a sample of a larger population of such questions (Miller, "Adding Error Bars to Evals", arXiv 2411.00640).
Where several belong together (DROP's questions about one passage), the cluster is the unit; where a score is a mean over groups
(MMLU's subjects), each group is a stratum. Its own module because estimates and paired tests both start from it.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

_ROUNDING = 1e-12  # a standard error below it is a rounding error of zero


@dataclass(frozen=True)
class Moments:
    """A mean and its standard error; `units` counts the independent units: questions, or clusters.

    `stderr` is None for a single unit, 0.0 where all units agree. `degrees` are the degrees of freedom of Student's t; None
    where the standard error has none.
    """

    mean: float
    stderr: float | None
    degrees: float | None
    units: int


def moments(
    values: Sequence[float], clusters: Sequence[Hashable] | None = None, strata: Sequence[Hashable] | None = None
) -> Moments:
    """The moments of `values` [questions]; `clusters` and `strata` [questions] label them.

    With strata the mean is the plain mean of the strata's means, whatever their sizes.
    """
    if strata is None:
        return _stratum_moments(values, clusters)
    indices_by_stratum: dict[Hashable, list[int]] = {}
    for index, stratum_key in enumerate(strata):
        indices_by_stratum.setdefault(stratum_key, []).append(index)
    stratum_moments = [
        _stratum_moments([values[i] for i in indices], None if clusters is None else [clusters[i] for i in indices])
        for indices in indices_by_stratum.values()
    ]
    mean = sum(stratum.mean for stratum in stratum_moments) / len(stratum_moments)
    units = sum(stratum.units for stratum in stratum_moments)
    variances: list[float] = []
    for stratum in stratum_moments:
        if stratum.stderr is None:
            return Moments(mean, None, None, units)
        variances.append(stratum.stderr**2)
    variance_sum = sum(variances)
    # Welch and Satterthwaite: the degrees of freedom of a sum of variances.
    denominator = sum(
        variance * variance / (stratum.units - 1) for variance, stratum in zip(variances, stratum_moments, strict=True)
    )
    degrees = variance_sum * variance_sum / denominator if denominator else None
    return Moments(mean, math.sqrt(variance_sum) / len(stratum_moments), degrees, units)


def _stratum_moments(values: Sequence[float], clusters: Sequence[Hashable] | None) -> Moments:
    n = len(values)
    mean = sum(values) / n
    if clusters is None:
        units, squares = n, sum((value - mean) ** 2 for value in values)
    else:
        deviations: dict[Hashable, float] = {}
        for value, cluster in zip(values, clusters, strict=True):
            deviations[cluster] = deviations.get(cluster, 0.0) + value - mean
        # Miller 2024, section 2.2: the clustered standard error.
        units, squares = len(deviations), sum(deviation * deviation for deviation in deviations.values())
    if units < 2:
        return Moments(mean, None, None, units)
    stderr = math.sqrt(squares * units / (units - 1)) / n
    return Moments(mean, stderr if stderr > _ROUNDING else 0.0, units - 1, units)
