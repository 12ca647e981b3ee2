"""What a result says is compared with what its questions give."""

import pytest
from synthetic_results import listed_result, random_result

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


@pytest.mark.parametrize(
    ("limit", "detail", "matches"),
    [
        (
            {"mmlu": 20},
            "first 20 questions of each MMLU subject, all of DROP; mmlu_subject_1 has 30 questions, at most 20",
            False,
        ),
        (
            {"mmlu": 30},
            "first 30 questions of each MMLU subject, all of DROP; mmlu_subject_1 has 30 questions, at most 30",
            True,
        ),
        (
            {"mmlu": 40, "drop": 45},
            "first 40 questions of each MMLU subject, 45 of DROP; drop has 50 questions, at most 45",
            False,
        ),
        (55, "first 55 questions of each task; drop has 50 questions, at most 55", True),
    ],
)
def test_the_limit_names_the_task_with_the_least_room(tmp_path, limit, detail, matches):
    counts = {"mmlu_subject_0": 5, "mmlu_subject_1": 30, "drop": 50}
    questions = [(part, row, 1.0, 0, []) for part, count in counts.items() for row in range(count)]
    file = listed_result(tmp_path / "m.json", "m", questions, limit=limit)
    questions = [question for task in file.questions_by_task.values() for question in task.questions_by_key.values()]
    covered = set()
    (finding,) = consistency.check_tasks_and_limit(file.result, questions, covered)
    assert finding.detail == detail and finding.matches is matches
    assert (("limit",) in covered) is (limit == {"mmlu": 30})
