"""Two scores of each question in, their difference with its interval and test out.

Both results answered the same questions, so that how hard a question is falls out of the difference (Miller 2024, arXiv
2411.00640, section 4). Scores are fractions in [0, 1]. Its own module because only reports compare results. `mcnemar_p_value`
imports scipy when it is called.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from orca_bench.stats.distributions import normal_p_value, student_p_value, two_sided_quantile
from orca_bench.stats.estimates import check_scores_are_fractions, normal_interval
from orca_bench.stats.moments import Moments, compute_moments

#: Tests by their names in `Difference.test`: of right-or-wrong scores, of those in strata, and of normal differences.
MCNEMAR_TEST = "exact McNemar"
STRATIFIED_MCNEMAR_TEST = "exact McNemar and t by stratum"
PAIRED_NORMAL_TEST = "paired z"
UNPAIRED_NORMAL_TEST = "unpaired z"


@dataclass(frozen=True)
class Difference:
    """The mean difference of scores, second minus first, a fraction of 1, with its standard error and 95 % interval.

    `p` is the two-sided p of no difference by the test that `test` names. `n` counts questions, `clusters` their clusters,
    `better` and `worse` the questions whose score rose and fell.
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

    @property
    def error(self) -> float:
        """The standard error as it is shown: where all differences are equal, a quarter of the interval's width."""
        return self.stderr or (self.high - self.low) / 4


def paired_difference(
    first_scores: Sequence[float],
    second_scores: Sequence[float],
    cluster_labels: Sequence[Hashable] | None = None,
    stratum_labels: Sequence[Hashable] | None = None,
) -> Difference:
    """The difference of two scores of each question, second minus first; all sequences are [questions].

    Right-or-wrong scores without clusters: the exact McNemar test, and the interval of Bonett and Price (2012, J. Educ. Behav.
    Stat. 37:479), which adds one pair to each kind of disagreement and so always has a width. With strata, McNemar's test and
    Student's t of the strata's mean must both show a difference: the larger p counts. Other scores and clustered ones: Student's
    t of the paired differences. Raises ValueError for scores that are not numbers in [0, 1], for none, and for sequences of
    different lengths.
    """
    check_scores_are_fractions(first_scores)
    check_scores_are_fractions(second_scores)
    differences = [b - a for a, b in zip(first_scores, second_scores, strict=True)]
    difference_moments = compute_moments(differences, cluster_labels, stratum_labels)
    mean_difference, stderr = difference_moments.mean, difference_moments.stderr
    better_count, worse_count = (
        sum(difference > 0 for difference in differences),
        sum(difference < 0 for difference in differences),
    )
    has_binary_scores = all(score in (0, 1) for score in (*first_scores, *second_scores))
    if has_binary_scores and cluster_labels is None:
        low, high, stderr = _binary_interval(
            difference_moments, better_count, worse_count, len(differences), stratum_labels is not None
        )
        p_value, test_name = mcnemar_p_value(better_count, worse_count), MCNEMAR_TEST
        if stratum_labels is not None:
            # McNemar's test counts questions, and a mean of strata may go the other way: both must show a difference.
            p_value = (
                1.0
                if mean_difference * (better_count - worse_count) < 0
                else max(p_value, student_p_value(mean_difference / stderr, difference_moments.degrees_of_freedom))
            )
            test_name = STRATIFIED_MCNEMAR_TEST
    elif stderr:
        half_width = two_sided_quantile(difference_moments.degrees_of_freedom) * stderr
        low, high = max(-1.0, mean_difference - half_width), min(1.0, mean_difference + half_width)
        p_value, test_name = (
            student_p_value(mean_difference / stderr, difference_moments.degrees_of_freedom),
            "paired t" if cluster_labels is None else "paired t by cluster",
        )
    else:
        # All differences are equal. A share u of questions with another difference would have appeared in this sample with
        # 97.5 %, so a larger share is excluded.
        largest_differing_share = 1 - (0.025 ** (1 / difference_moments.unit_count))
        low, high = (
            max(-1.0, mean_difference - largest_differing_share),
            min(1.0, mean_difference + largest_differing_share),
        )
        p_value, test_name = (
            (
                1.0
                if mean_difference == 0 or difference_moments.unit_count < 2
                else 2 * 0.5**difference_moments.unit_count
            ),
            "sign test",
        )
    return Difference(
        mean_difference,
        stderr,
        low,
        high,
        p_value,
        test_name,
        len(differences),
        difference_moments.unit_count,
        better_count,
        worse_count,
    )


def normal_difference(
    difference: float, stderr: float, test_name: str, question_count: int, cluster_count: int
) -> Difference:
    """A normal difference with a known value and standard error; the counts of better and worse questions are 0."""
    low, high = normal_interval(difference, stderr)
    return Difference(
        difference,
        stderr,
        low,
        high,
        normal_p_value(difference, stderr),
        test_name,
        question_count,
        cluster_count,
        0,
        0,
    )


def mcnemar_p_value(better_count: int, worse_count: int) -> float:
    """The p of the exact two-sided McNemar test: each of the better + worse disagreements is as likely one way as the other."""
    if better_count + worse_count == 0:
        return 1.0
    from scipy.stats import binomtest

    return float(binomtest(better_count, better_count + worse_count, 0.5).pvalue)


def _binary_interval(
    difference_moments: Moments, better_count: int, worse_count: int, question_count: int, is_stratified: bool
) -> tuple[float, float, float]:
    """(low, high, standard error) by Bonett and Price; of strata by Student's t where their standard error is not zero."""
    if is_stratified and difference_moments.stderr:
        half_width = two_sided_quantile(difference_moments.degrees_of_freedom) * difference_moments.stderr
        return (
            max(-1.0, difference_moments.mean - half_width),
            min(1.0, difference_moments.mean + half_width),
            difference_moments.stderr,
        )
    better_share, worse_share = (better_count + 1) / (question_count + 2), (worse_count + 1) / (question_count + 2)
    stderr = math.sqrt((better_share + worse_share - (better_share - worse_share) ** 2) / (question_count + 2))
    half_width = two_sided_quantile(None) * stderr
    low, high = better_share - worse_share - half_width, better_share - worse_share + half_width
    return max(-1.0, min(low, difference_moments.mean)), min(1.0, max(high, difference_moments.mean)), stderr
