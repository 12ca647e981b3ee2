"""What a result says is compared with what its questions give."""

import pytest
from synthetic_results import random_result

from orca_bench.results import consistency
from orca_bench.suite import TASK_BY_NAME


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (0.1 + 0.2, 0.3, True),
        (0.3, 0.3001, False),
        (1, 1.0, True),
        ({"a": [1]}, {"a": (1,)}, True),
        ({"a": 1}, {"b": 1}, False),
        ([1], [1, 1], False),
        ("1", 1, False),
    ],
)
def test_json_values_are_the_same_to_twelve_digits(one, other, same):
    assert consistency.is_equal_json(one, other) is same


def test_a_value_that_the_scores_do_not_give_is_found(tmp_path):
    file = random_result(tmp_path, "m", 0.5, tasks=["gsm8k"])
    questions = list(file.questions_by_task["gsm8k"].questions_by_key.values())
    task, covered = TASK_BY_NAME["gsm8k"], set()
    assert consistency.check_task_value(file.result, task, questions, covered).matches
    assert ("tasks", "gsm8k", "value") in covered
    file.result.tasks["gsm8k"].value += 0.001
    finding = consistency.check_task_value(file.result, task, questions, set())
    assert finding.matches is False and "value" in finding.detail
    assert consistency.check_task_value(file.result, task, [], set()).matches is False
