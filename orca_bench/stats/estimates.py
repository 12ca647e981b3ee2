"""Scores of questions in, estimates and tests out: what a number is worth, and whether two of them differ.

Everything here takes scores in [0, 1], one a question, and knows nothing of files or tasks. Questions are drawn from a larger
population of such questions (Miller, "Adding Error Bars to Evals", arXiv 2411.00640); where several belong together (DROP's
questions about one passage) the cluster is the unit, and where a score is a mean over groups (MMLU's subjects) each group is
a stratum of its own. Its own module because evaluation writes such estimates and reports compare them.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

LEVEL = 0.95  # of all intervals
_OWN_SPREAD = 4  # runs from which on a task's own spread over seeds is enough
_PRIOR_DEGREES = 4
_POWER = 0.8  # of the smallest difference that could have been shown


@dataclass(frozen=True)
class Estimate:
    """A mean with its standard error (None where one cannot be had), 95 % interval, number of questions and of clusters."""

    value: float
    stderr: float | None
    low: float
    high: float
    n: int
    clusters: int


@dataclass(frozen=True)
class Difference:
    """The mean of paired differences, second minus first; `p` of no difference, by the test that `test` names.

    `better` and `worse` count the questions whose score rose and fell; `smallest` is the smallest true difference that a
    comparison of this size shows in four of five cases.
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
    smallest: float | None


def mean(
    values: Sequence[float], clusters: Sequence[Hashable] | None = None, strata: Sequence[Hashable] | None = None
) -> Estimate:
    """The mean of some scores with its standard error and 95 % interval.

    With `clusters`, one label a score, the standard error is the clustered one. With `strata` the mean is the plain mean of
    the strata's means. The interval is Wilson's, with the effective number of questions p(1 − p)/SE², where all scores are
    right or wrong, and Student's for others; it is never empty, even where all scores are the same. Raises ValueError for
    no scores, and for scores that are not numbers in [0, 1].
    """
    _check(values)
    value, error, degrees, units = _moments(values, clusters, strata)
    if not error:
        # Scores in [0, 1] of mean p have a variance of at most p(1 − p): right or wrong is the widest case.
        low, high = wilson(value, units)
        return Estimate(value, None if len(values) < 2 or error is None else error, low, high, len(values), units)
    if strata is None and all(score in (0, 1) for score in values):
        low, high = wilson(value, min(len(values), value * (1 - value) / error**2), degrees)
    else:
        margin = _quantile(degrees) * error
        low, high = max(0.0, value - margin), min(1.0, value + margin)
    return Estimate(value, error, low, high, len(values), units)


def difference(
    first: Sequence[float],
    second: Sequence[float],
    clusters: Sequence[Hashable] | None = None,
    strata: Sequence[Hashable] | None = None,
) -> Difference:
    """The paired difference of two scores of each question, second minus first.

    Right or wrong: the exact McNemar test, and the interval of Bonett and Price (2012), which adds one pair to each kind of
    disagreement and so is never empty. Of strata a difference is shown where McNemar's test and Student's t of the strata's
    mean both show it. Other scores, and clustered ones: Student's t of the paired differences.
    """
    _check(first)
    _check(second)
    change = [b - a for a, b in zip(first, second, strict=True)]
    value, error, degrees, units = _moments(change, clusters, strata)
    better, worse = sum(d > 0 for d in change), sum(d < 0 for d in change)
    binary = all(score in (0, 1) for score in (*first, *second))
    if binary and clusters is None:
        low, high, error = _binary_interval(value, error, degrees, better, worse, len(change), strata is not None)
        p, test = mcnemar(better, worse), "exact McNemar"
        if strata is not None:
            # McNemar's test counts questions, and a mean of strata may go the other way: both must show a difference.
            p = 1.0 if value * (better - worse) < 0 else max(p, _student(value / error, degrees))
            test = "exact McNemar and t by stratum"
    elif error:
        margin = _quantile(degrees) * error
        low, high = max(-1.0, value - margin), min(1.0, value + margin)
        p, test = _student(value / error, degrees), "paired t" if clusters is None else "paired t by cluster"
    else:
        # All differences are the same: of 1 − u² questions another one would have been seen with 97.5 %.
        most = 1 - (0.025 ** (1 / units))
        low, high = max(-1.0, value - most), min(1.0, value + most)
        p, test = (1.0 if value == 0 or units < 2 else 2 * 0.5**units), "sign test"
    smallest = smallest_shown(error) if error else None
    return Difference(value, error, low, high, p, test, len(change), units, better, worse, smallest)


def smallest_shown(error: float) -> float:
    """The smallest true difference that a test at 5 % shows in four of five cases: 2.8 standard errors (Miller 2024, 5)."""
    return (_quantile(None) + _normal_quantile(_POWER)) * error


def normal_difference(value: float, error: float, test: str, n: int, clusters: int) -> Difference:
    """A difference of which only value and standard error are known, taken as normal: nothing is paired by question."""
    low, high = normal_interval(value, error)
    return Difference(value, error, low, high, normal_p(value, error), test, n, clusters, 0, 0, smallest_shown(error))


@dataclass(frozen=True)
class SeedTest:
    """Whether a run of a task differs from runs with other seeds: `p` is to be corrected over the tasks, `own_p` is not."""

    p: float
    own_p: float


def seed_tests(known: Sequence[Sequence[float]], values: Sequence[float], steps: Sequence[float]) -> list[SeedTest]:
    """By task, whether one more run (`values`) is of the kind of some known ones (`known`, of which each task has as many).

    Student's t with the spread of a prediction, s² (1 + 1/k). From four runs on, s² is the task's own variance over seeds.
    Two or three runs leave one or two degrees of freedom, with which a correction over seven tasks lets a fall from 99 to 0
    pass. There `p` takes the moderated variance (d₀ s₀² + d s²) / (d₀ + d) with d₀ + d degrees of freedom (Smyth 2004, Stat.
    Appl. Genet. Mol. Biol. 3(1):3): s₀² is the mean of the tasks' variances; d₀ is four, with which the tasks' standard
    deviations may differ five-fold, less the task's own share in s₀². Seven tasks cannot tell how much they differ, so `own_p`,
    one-sided and by the task's own variance, must show a loss too. Simulated with equal and with very unequal tasks, false
    alarms stay within 5 %. `steps` is what one question is worth: no spread is less than that of two runs which differ in one.

    Raises ValueError for fewer than two known runs.
    """
    k, m = len(known[0]), len(known)
    if k < 2:
        raise ValueError("two runs at least have a spread")
    centers = [sum(runs) / k for runs in known]
    own = [
        max(sum((run - center) ** 2 for run in runs) / (k - 1), step * step / 2)
        for runs, center, step in zip(known, centers, steps, strict=True)
    ]
    pooled, prior = sum(own) / m, _PRIOR_DEGREES * (m - 1) / m
    tests = []
    for center, variance, value in zip(centers, own, values, strict=True):
        p = _student((value - center) / math.sqrt(variance * (1 + 1 / k)), k - 1)
        if k >= _OWN_SPREAD:
            tests.append(SeedTest(p, p))
            continue
        moderated = (prior * pooled + (k - 1) * variance) / (prior + k - 1)
        shared_p = _student((value - center) / math.sqrt(moderated * (1 + 1 / k)), prior + k - 1)
        tests.append(SeedTest(shared_p, p / 2))
    return tests


def mean_of(estimates: Sequence[Estimate | Difference]) -> tuple[float, float | None]:
    """The plain mean of independent estimates and its standard error, sqrt(Σ SE²) / k; None where one has none."""
    value = sum(estimate.value for estimate in estimates) / len(estimates)
    if any(estimate.stderr is None for estimate in estimates):
        return value, None
    return value, math.sqrt(sum(estimate.stderr**2 for estimate in estimates)) / len(estimates)


def normal_interval(value: float, error: float, least: float = -1.0, most: float = 1.0) -> tuple[float, float]:
    """The 95 % interval of a normal estimate, within bounds."""
    margin = _quantile(None) * error
    return max(least, value - margin), min(most, value + margin)


def normal_p(value: float, error: float) -> float:
    """The two-sided p of a normal estimate against zero."""
    return math.erfc(abs(value / error) / math.sqrt(2))


def mcnemar(better: int, worse: int) -> float:
    """The exact two-sided McNemar test: of better + worse disagreements each is as likely one way as the other."""
    if better + worse == 0:
        return 1.0
    from scipy.stats import binomtest

    return float(binomtest(better, better + worse, 0.5).pvalue)


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's step-down correction: adjusted p in the order given, so that of all tests together few cry wolf (Holm 1979)."""
    adjusted, highest = [0.0] * len(ps), 0.0
    for rank, place in enumerate(sorted(range(len(ps)), key=lambda i: ps[i])):
        highest = max(highest, min(1.0, (len(ps) - rank) * ps[place]))
        adjusted[place] = highest
    return adjusted


def wilson(value: float, n: float, degrees: float | None = None) -> tuple[float, float]:
    """Wilson's score interval of a proportion of n questions; n need not be whole (an effective size)."""
    z = _quantile(degrees)
    center = (value + z * z / (2 * n)) / (1 + z * z / n)
    margin = z / (1 + z * z / n) * math.sqrt(value * (1 - value) / n + z * z / (4 * n * n))
    return max(0.0, min(value, center - margin)), min(1.0, max(value, center + margin))


# --- inside ---------------------------------------------------------------------------------------------------------


def _check(values: Sequence[float]) -> None:
    if not values:
        raise ValueError("no scores")
    for value in values:
        if not 0 <= value <= 1:  # NaN is not
            raise ValueError(f"{value} is no score between 0 and 1")


def _moments(
    values: Sequence[float], clusters: Sequence[Hashable] | None, strata: Sequence[Hashable] | None
) -> tuple[float, float | None, float | None, int]:
    """(mean, standard error or None, degrees of freedom, number of units)."""
    if strata is None:
        return _one(values, clusters)
    groups: dict[Hashable, list[int]] = {}
    for place, stratum in enumerate(strata):
        groups.setdefault(stratum, []).append(place)
    found = [
        _one([values[i] for i in places], None if clusters is None else [clusters[i] for i in places])
        for places in groups.values()
    ]
    value = sum(part[0] for part in found) / len(found)
    units = sum(part[3] for part in found)
    if any(part[1] is None for part in found):
        return value, None, None, units
    variances = [part[1] ** 2 for part in found]
    total = sum(variances)
    # Welch and Satterthwaite: the degrees of freedom of a sum of variances.
    spread = sum(v * v / part[2] for v, part in zip(variances, found, strict=True))
    return value, math.sqrt(total) / len(found), total * total / spread if spread else None, units


def _one(values: Sequence[float], clusters: Sequence[Hashable] | None) -> tuple[float, float | None, float, int]:
    n = len(values)
    value = sum(values) / n
    if clusters is None:
        units, squares = n, sum((v - value) ** 2 for v in values)
    else:
        sums: dict[Hashable, float] = {}
        for v, cluster in zip(values, clusters, strict=True):
            sums[cluster] = sums.get(cluster, 0.0) + v - value
        units, squares = len(sums), sum(s * s for s in sums.values())  # Miller 2024, section 2.2
    if units < 2:
        return value, None, 0, units
    error = math.sqrt(squares * units / (units - 1)) / n
    return value, error if error > 1e-12 else 0.0, units - 1, units


def _binary_interval(
    value: float, error: float | None, degrees: float | None, better: int, worse: int, n: int, stratified: bool
) -> tuple[float, float, float]:
    """Bonett and Price's interval, or of strata Student's where it has a width; and the standard error that belongs to it."""
    if stratified and error:
        margin = _quantile(degrees) * error
        return max(-1.0, value - margin), min(1.0, value + margin), error
    up, down = (better + 1) / (n + 2), (worse + 1) / (n + 2)
    own = math.sqrt((up + down - (up - down) ** 2) / (n + 2))
    margin = _quantile(None) * own
    low, high = up - down - margin, up - down + margin
    return max(-1.0, min(low, value)), min(1.0, max(high, value)), own


def _quantile(degrees: float | None) -> float:
    """The two-sided 95 % quantile of Student's t, of the normal distribution without degrees of freedom."""
    if degrees is None or degrees > 1e6:
        return _normal_quantile((1 + LEVEL) / 2)
    from scipy.special import stdtrit

    return float(stdtrit(max(degrees, 1), (1 + LEVEL) / 2))


def _student(statistic: float, degrees: float | None) -> float:
    if degrees is None:
        return math.erfc(abs(statistic) / math.sqrt(2))
    from scipy.special import stdtr

    return float(2 * stdtr(max(degrees, 1), -abs(statistic)))


def _normal_quantile(share: float) -> float:
    from statistics import NormalDist

    return NormalDist().inv_cdf(share)
