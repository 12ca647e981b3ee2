"""Which results a report takes, how it heads them, and what it does with one that cannot be read."""

import shutil

import pytest
from result_contents import result_content
from synthetic_results import random_result

from orca_bench.errors import UserError
from orca_bench.report.result_selection import result_labels, select_results
from orca_bench.results import reading
from orca_bench.results.models import Result


@pytest.mark.parametrize(
    ("headings", "labels"),
    [
        ([("a", "orca", None), ("b", "orca", None)], ["a", "b"]),
        ([("a", "orca", None), ("a", "plain", None)], ["orca", "plain"]),
        ([("a", "orca", None), ("a", "plain", None), ("b", "orca", None)], ["a orca", "a plain", "b orca"]),
        ([("a", "orca", None), ("a", "orca", 10)], ["a orca", "a orca n≤10"]),
        ([("a", "orca", None), ("a", "orca", {"gsm8k": 3})], ["a orca", "a orca gsm8k=3"]),
        ([("a", "orca", None), ("a", "orca", None)], ["1: a orca", "2: a orca"]),
    ],
)
def test_results_are_headed_by_what_tells_them_apart(headings, labels):
    results = []
    for name, protocol, limit in headings:
        content = result_content(protocol=protocol, limit=limit) | {"model": {"name": name}}
        results.append(Result.from_file_content(content))
    assert result_labels(results) == labels


def test_a_broken_result_in_a_folder_is_left_out_and_named(tmp_path, command):
    for label in ("a", "b"):
        random_result(tmp_path, label, 0.5)
    (tmp_path / "broken.json").write_text((tmp_path / "a.json").read_text().replace('"value": ', '"value": -', 1))
    process = command("table", ".")
    assert process.returncode == 0 and "HellaSwag" in process.stdout
    assert process.stderr.startswith("note: left out: broken.json: 'tasks.arc_challenge.value'")
    assert "'tasks.arc_challenge.value'" in command.refused("table", "broken.json")
    with pytest.raises(UserError, match="broken.json"):
        select_results([tmp_path, tmp_path / "broken.json"])


def test_where_all_results_of_a_folder_are_broken_the_first_is_named(tmp_path):
    (tmp_path / "broken.json").write_text('{"format": "orca-bench result 3"}')
    with pytest.raises(UserError, match="broken.json"):
        select_results([tmp_path])


def test_questions_that_are_absent_leave_a_result_out_only_where_they_are_required(tmp_path):
    for label in ("a", "b"):
        random_result(tmp_path, label, 0.5)
    shutil.move(tmp_path / "b.questions.jsonl", tmp_path / "elsewhere")
    selection = select_results([tmp_path])
    assert [bool(file.questions_by_task) for file in selection.with_questions(required=False).results] == [True, False]
    required = selection.with_questions()
    assert [file.label for file in required.results] == ["a"] and len(required.notes) == 1
    with pytest.raises(UserError, match="not beside it"):
        select_results([tmp_path / "b.json"]).with_questions()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not a JSON file"),
        ("[]", "not an orca-bench result"),
        ('{"format": "other"}', "not an orca-bench result"),
        ('{"format": "orca-bench result 1"}', "a result without 'suite'"),
    ],
)
def test_a_file_that_is_no_result_is_refused(tmp_path, text, message):
    path = tmp_path / "r.json"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        reading.read_result(path)


def test_a_limited_result_of_a_folder_stands_aside_for_the_full_one_and_headings_are_chosen_without_it(tmp_path):
    for stem, limit in (("orca", None), ("orca-limit3", 3)):
        random_result(tmp_path, "a", 0.5, file=f"{stem}.json", limit=limit)
    selection = select_results([tmp_path]).with_questions()
    assert [(file.path.stem, file.label) for file in selection.results] == [("orca", "a")]
    limited_path = tmp_path / "orca-limit3.json"
    assert selection.notes == [f"left out {limited_path} (first 3 questions); name it to see it"]
    both = select_results([tmp_path, limited_path])
    assert [file.path.stem for file in both.results] == ["orca-limit3", "orca"] and not both.notes
