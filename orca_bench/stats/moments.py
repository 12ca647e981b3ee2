"""Numbers of questions in, their mean with its standard error out, with clusters and strata taken into account.

Questions are a sample of a larger population of such questions (Miller, "Adding Error Bars to Evals", arXiv 2411.00640).
Where several belong together (DROP's questions about one passage), the cluster is the unit; where a score is a mean over groups
(MMLU's subjects), each group is a stratum. Its own module because estimates and paired tests both start from it.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

_MIN_NONZERO_STDERR = 1e-12  # a standard error below it is a rounding error of zero


@dataclass(frozen=True)
class Moments:
    """A mean and its standard error; `unit_count` counts the independent units: questions, or clusters.

    `stderr` is None for a single unit, 0.0 where all units agree. `degrees_of_freedom` are those of Student's t; None
    where the standard error has none.
    """

    mean: float
    stderr: float | None
    degrees_of_freedom: float | None
    unit_count: int


def compute_moments(
    question_values: Sequence[float],
    cluster_labels: Sequence[Hashable] | None = None,
    stratum_labels: Sequence[Hashable] | None = None,
) -> Moments:
    """The moments of `question_values` [questions]; `cluster_labels` and `stratum_labels` [questions] label them.

    With strata the mean is the plain mean of the strata's means, whatever their sizes.
    """
    if stratum_labels is None:
        return _stratum_moments(question_values, cluster_labels)
    indices_by_stratum: dict[Hashable, list[int]] = {}
    for index, stratum_key in enumerate(stratum_labels):
        indices_by_stratum.setdefault(stratum_key, []).append(index)
    stratum_moments = [
        _stratum_moments(
            [question_values[i] for i in stratum_indices],
            None if cluster_labels is None else [cluster_labels[i] for i in stratum_indices],
        )
        for stratum_indices in indices_by_stratum.values()
    ]
    mean_of_strata = sum(stratum.mean for stratum in stratum_moments) / len(stratum_moments)
    unit_count = sum(stratum.unit_count for stratum in stratum_moments)
    stratum_variances: list[float] = []
    for stratum in stratum_moments:
        if stratum.stderr is None:
            return Moments(mean_of_strata, None, None, unit_count)
        stratum_variances.append(stratum.stderr**2)
    variance_sum = sum(stratum_variances)
    # Welch and Satterthwaite: the degrees of freedom of a sum of variances.
    welch_denominator = sum(
        variance * variance / (stratum.unit_count - 1)
        for variance, stratum in zip(stratum_variances, stratum_moments, strict=True)
    )
    degrees_of_freedom = variance_sum * variance_sum / welch_denominator if welch_denominator else None
    return Moments(mean_of_strata, math.sqrt(variance_sum) / len(stratum_moments), degrees_of_freedom, unit_count)


def _stratum_moments(question_values: Sequence[float], cluster_labels: Sequence[Hashable] | None) -> Moments:
    question_count = len(question_values)
    mean = sum(question_values) / question_count
    if cluster_labels is None:
        unit_count, sum_of_squares = question_count, sum((value - mean) ** 2 for value in question_values)
    else:
        deviation_by_cluster: dict[Hashable, float] = {}
        for value, cluster_label in zip(question_values, cluster_labels, strict=True):
            deviation_by_cluster[cluster_label] = deviation_by_cluster.get(cluster_label, 0.0) + value - mean
        # Miller 2024, section 2.2: the clustered standard error.
        unit_count, sum_of_squares = (
            len(deviation_by_cluster),
            sum(deviation * deviation for deviation in deviation_by_cluster.values()),
        )
    if unit_count < 2:
        return Moments(mean, None, None, unit_count)
    stderr = math.sqrt(sum_of_squares * unit_count / (unit_count - 1)) / question_count
    return Moments(mean, stderr if stderr > _MIN_NONZERO_STDERR else 0.0, unit_count - 1, unit_count)
