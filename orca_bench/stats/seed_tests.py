"""Task scores of runs that differ in their seed in, tests of one more run out: is its score within what seeds do?

Its own module because it compares runs, where the other tests compare answers to questions; only the gate uses it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from orca_bench.stats.distributions import student_p

_ENOUGH_RUNS = 4  # from which on a task's own variance over seeds is enough
_PRIOR_DEGREES = 4  # degrees of freedom of the variance that all tasks share


@dataclass(frozen=True)
class SeedTest:
    """The test of one task, two p-values of "the run differs from the baseline runs by its seed alone".

    `p` still has to be corrected over the tasks; `task_p`, which rests on the task's own variance alone, is used as it is.
    """

    p: float
    task_p: float


def seed_tests(baselines: Sequence[Sequence[float]], values: Sequence[float], steps: Sequence[float]) -> list[SeedTest]:
    """By task, whether one more run belongs to the baseline runs, by Student's t with the standard error of a prediction.

    `baselines` are the baseline runs' scores [tasks, runs], `values` the new run's [tasks], fractions of 1. `steps` [tasks] is
    what one question is worth; no variance is taken to be less than that of two runs that differ in one question.

    The variance of the prediction is s² (1 + 1/k) of k runs. From four runs on, s² is the task's own variance over seeds. Two or
    three runs leave one or two degrees of freedom, with which a correction over seven tasks would let a fall from 99 to 0
    pass. There `p` takes the moderated variance (d₀ s₀² + d s²) / (d₀ + d) with d₀ + d degrees of freedom (Smyth 2004, Stat.
    Appl. Genet. Mol. Biol. 3(1):3): s₀² is the mean of the tasks' variances, and d₀ is four, with which the tasks' standard
    deviations may differ five-fold, less the task's own share in s₀². Seven tasks cannot tell how much they differ, so
    `task_p`, one-sided and by the task's own variance, must show a loss too. In simulations with equal and with very unequal
    tasks, the family-wise error rate stayed within 5 %.

    Raises ValueError for fewer than two baseline runs.
    """
    run_count, task_count = len(baselines[0]), len(baselines)
    if run_count < 2:
        raise ValueError("a spread over seeds needs at least two runs")
    means = [sum(scores) / run_count for scores in baselines]
    variances = [
        max(sum((score - mean) ** 2 for score in scores) / (run_count - 1), step * step / 2)
        for scores, mean, step in zip(baselines, means, steps, strict=True)
    ]
    shared_variance = sum(variances) / task_count
    prior_degrees = _PRIOR_DEGREES * (task_count - 1) / task_count
    tests = []
    for mean, variance, value in zip(means, variances, values, strict=True):
        p = student_p((value - mean) / math.sqrt(variance * (1 + 1 / run_count)), run_count - 1)
        if run_count >= _ENOUGH_RUNS:
            tests.append(SeedTest(p, p))
            continue
        degrees = prior_degrees + run_count - 1
        moderated_variance = (prior_degrees * shared_variance + (run_count - 1) * variance) / degrees
        moderated_p = student_p((value - mean) / math.sqrt(moderated_variance * (1 + 1 / run_count)), degrees)
        tests.append(SeedTest(moderated_p, p / 2))
    return tests
