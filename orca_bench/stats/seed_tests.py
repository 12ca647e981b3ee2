"""Task scores of runs that differ in their seed in, tests of one more run out: is its score within what seeds do?

Its own module because it compares runs, where the other tests compare answers to questions; only the gate uses it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from orca_bench.stats.distributions import student_p_value

_MIN_RUNS_WITHOUT_PRIOR = 4  # from which on a task's own variance over seeds is enough
_PRIOR_DEGREES_OF_FREEDOM = 4  # degrees of freedom of the variance that all tasks share


@dataclass(frozen=True)
class SeedTest:
    """The test of one task, two p-values of "the run differs from the baseline runs by its seed alone".

    `uncorrected_p` still has to be corrected over the tasks; `own_variance_p`, which rests on the task's own variance alone, is
    used as it is, and is one-sided where `is_own_variance_one_sided`. The standard errors are those of the difference of a new
    run and the mean of the baseline runs, fractions of 1, with the degrees of freedom of their Student's t.
    """

    uncorrected_p: float
    own_variance_p: float
    prediction_stderr: float = 0.0
    degrees_of_freedom: float = math.inf
    own_prediction_stderr: float = 0.0
    own_degrees_of_freedom: float = math.inf
    is_own_variance_one_sided: bool = False


def seed_tests(
    baseline_scores: Sequence[Sequence[float]], new_run_scores: Sequence[float], question_weights: Sequence[float]
) -> list[SeedTest]:
    """By task, whether one more run belongs to the baseline runs, by Student's t with the standard error of a prediction.

    `baseline_scores` are the baseline runs' scores [tasks, runs], `new_run_scores` the new run's [tasks], fractions of 1.
    `question_weights` [tasks] is what one question is worth; no variance is taken to be less than that of two runs that differ
    in one question.

    The variance of the prediction is s² (1 + 1/k) of k runs. From four runs on, s² is the task's own variance over seeds. Two or
    three runs leave one or two degrees of freedom, with which a correction over seven tasks would let a fall from 99 to 0
    pass. There `uncorrected_p` takes the moderated variance (d₀ s₀² + d s²) / (d₀ + d) with d₀ + d degrees of freedom (Smyth
    2004, Stat. Appl. Genet. Mol. Biol. 3(1):3): s₀² is the mean of the tasks' variances, and d₀ is four, with which the tasks'
    standard deviations may differ five-fold, less the task's own share in s₀². Seven tasks cannot tell how much they differ, so
    `own_variance_p`, one-sided and by the task's own variance, must show a loss too. In simulations with equal and with very
    unequal tasks, the family-wise error rate stayed within 5 %.

    Raises ValueError for fewer than two baseline runs.
    """
    baseline_run_count, task_count = len(baseline_scores[0]), len(baseline_scores)
    if baseline_run_count < 2:
        raise ValueError("a spread over seeds needs at least two runs")
    baseline_means = [sum(scores) / baseline_run_count for scores in baseline_scores]
    seed_variances = [
        max(
            sum((score - baseline_mean) ** 2 for score in scores) / (baseline_run_count - 1),
            question_weight * question_weight / 2,
        )
        for scores, baseline_mean, question_weight in zip(
            baseline_scores, baseline_means, question_weights, strict=True
        )
    ]
    shared_variance = sum(seed_variances) / task_count
    prior_degrees_of_freedom = _PRIOR_DEGREES_OF_FREEDOM * (task_count - 1) / task_count
    tests = []
    own_degrees_of_freedom = float(baseline_run_count - 1)
    for baseline_mean, seed_variance, new_run_score in zip(baseline_means, seed_variances, new_run_scores, strict=True):
        difference = new_run_score - baseline_mean
        own_stderr = math.sqrt(seed_variance * (1 + 1 / baseline_run_count))
        own_variance_p = student_p_value(difference / own_stderr, own_degrees_of_freedom)
        if baseline_run_count >= _MIN_RUNS_WITHOUT_PRIOR:
            stderrs_and_degrees_of_freedom = (own_stderr, own_degrees_of_freedom, own_stderr, own_degrees_of_freedom)
            tests.append(SeedTest(own_variance_p, own_variance_p, *stderrs_and_degrees_of_freedom))
            continue
        moderated_degrees_of_freedom = prior_degrees_of_freedom + own_degrees_of_freedom
        moderated_variance = (
            prior_degrees_of_freedom * shared_variance + own_degrees_of_freedom * seed_variance
        ) / moderated_degrees_of_freedom
        moderated_stderr = math.sqrt(moderated_variance * (1 + 1 / baseline_run_count))
        moderated_p = student_p_value(difference / moderated_stderr, moderated_degrees_of_freedom)
        stderrs_and_degrees_of_freedom = (
            moderated_stderr,
            moderated_degrees_of_freedom,
            own_stderr,
            own_degrees_of_freedom,
        )
        tests.append(
            SeedTest(moderated_p, own_variance_p / 2, *stderrs_and_degrees_of_freedom, is_own_variance_one_sided=True)
        )
    return tests
