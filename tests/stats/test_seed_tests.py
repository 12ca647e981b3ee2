"""A new run against runs with other seeds: large losses are detected, seeds that differ by chance alone seldom raise an alarm."""

import math
import random

import pytest
from scipy import stats

from orca_bench.stats.multiple_testing import correct_by_holm
from orca_bench.stats.seed_tests import seed_tests


def test_the_test_of_five_runs_is_students_t_with_the_error_of_a_prediction():
    baselines = [0.50, 0.54, 0.46, 0.52, 0.48]
    p = [seed_tests([baselines], [value], [0.01])[0].uncorrected_p for value in (0.47, 0.20, 0.3)]
    assert p[0] > 0.3 and p[1] < 0.01
    t = (0.3 - 0.5) / (stats.tstd(baselines) * math.sqrt(1.2))
    assert p[2] == pytest.approx(2 * stats.t.sf(abs(t), 4))
    with pytest.raises(ValueError):
        seed_tests([[0.5]], [0.5], [0.01])


def tasks_with_a_loss(baselines, values, step=1 / 120):
    """The tasks whose loss is larger than what seeds do, by the rule of the gate."""
    tests = seed_tests(baselines, values, [step] * len(baselines))
    ps = correct_by_holm([test.uncorrected_p for test in tests])
    fell = [value < sum(runs) / len(runs) for value, runs in zip(values, baselines, strict=True)]
    return [
        task
        for task, (p, test) in enumerate(zip(ps, tests, strict=True))
        if fell[task] and max(p, test.own_variance_p) < 0.05
    ]


@pytest.mark.parametrize("apart", [0.0, 0.01, 0.05, 0.09])
@pytest.mark.parametrize("count", [2, 3])
def test_few_seeds_show_a_fall_from_99_to_0(count, apart):
    others = [[0.5 + (0.02 if seed else 0.0) for seed in range(count)]] * 6
    hellaswag = [0.99 - (apart if seed else 0.0) for seed in range(count)]
    assert tasks_with_a_loss([hellaswag, *others], [0.0] + [0.51] * 6) == [0]
    # Though another task differs by 30 points between the seeds.
    others = [[0.4 + (0.3 if seed else 0.0) for seed in range(count)], *others[1:]]
    assert apart > 0.05 or tasks_with_a_loss([hellaswag, *others], [0.0] + [0.51] * 6) == [0]


@pytest.mark.parametrize("count", [2, 3, 4, 5])
@pytest.mark.parametrize(
    "spreads", [[2] * 7, [20] + [0.5] * 6, [20, 20] + [0.5] * 5, [0.5, 1, 2, 4, 8, 16, 20], [3], [3, 0.1]]
)
def test_seeds_that_differ_by_chance_alone_seldom_look_like_a_loss(count, spreads):
    rng = random.Random(count)
    alarms, runs = 0, 1500
    for _ in range(runs):
        baselines = [[rng.gauss(0, spread) for _ in range(count)] for spread in spreads]
        alarms += bool(tasks_with_a_loss(baselines, [rng.gauss(0, spread) for spread in spreads], step=1e-6))
    assert alarms / runs < 0.05 + 3 * math.sqrt(0.05 * 0.95 / runs)
