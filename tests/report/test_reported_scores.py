"""The reported scores that come with the program, and files of a user's own."""

import json

import pytest

from orca_bench.errors import UserError
from orca_bench.report.reported_scores import find_reported_scores, read_reported_scores
from orca_bench.suite import ALL_TASKS


def test_the_reported_averages_are_the_means_of_the_reported_scores():
    reported = read_reported_scores()
    scores = [reported.tasks[task.name] for task in ALL_TASKS]
    assert round(sum(scores) / 7, 2) == reported.averages["all seven"] == 37.06
    assert round(sum(scores[:6]) / 6, 2) == reported.averages["six without DROP"] == 41.36


def test_a_file_of_ones_own_needs_a_model_and_tasks(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"model": "me/mine", "tasks": {"gsm8k": 12}}))
    reported = read_reported_scores(str(path))
    assert (reported.name, reported.tasks, reported.averages) == ("mine", {"gsm8k": 12.0}, {})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "not a file of reported scores"),
        ({"model": "m"}, "not a file of reported scores"),
        ({"tasks": {}}, "'model': Field required"),
        ({"model": "m", "tasks": {"gsm8k": 101}}, "'tasks.gsm8k': Input should be less than or equal to 100"),
        ({"model": "m", "tasks": {"gsm8k": "x"}}, "'tasks.gsm8k': Input should be a valid number"),
    ],
)
def test_a_wrong_file_is_refused_with_the_key(tmp_path, content, message):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=message):
        read_reported_scores(str(path))


def test_none_is_no_reported_scores_and_an_unknown_name_lists_the_known():
    assert find_reported_scores("none") is None and find_reported_scores("orca_mini_13b").name == "orca_mini_13b"
    with pytest.raises(UserError, match="no reported scores of the name 'orca'") as error:
        find_reported_scores("orca")
    assert "known: orca_mini_13b; or none, or a JSON file" in str(error.value) and "results/reported" not in str(
        error.value
    )
