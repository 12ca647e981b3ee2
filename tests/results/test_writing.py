"""A result that was written is sealed over what stands in its file."""

import json

import pytest
from synthetic_results import random_result

from orca_bench.errors import UserError
from orca_bench.results import hashing, reading, writing


def test_a_result_that_was_read_and_changed_is_sealed_as_it_is_written(tmp_path):
    random_result(tmp_path, "m", 0.5, tasks=["gsm8k"])
    path = tmp_path / "m.json"
    result = reading.read_result(path)
    questions = [question for _, question in reading.read_questions(reading.questions_path_for(path))]
    result.model.name = "another name"
    writing.write_result(path, result, questions)
    content = json.loads(path.read_text())
    assert content["model"]["name"] == "another name"
    assert content["result_sha256"] == hashing.compute_content_sha256(content) == result.result_sha256
    assert hashing.is_unchanged_since_writing(reading.read_result(path)) and result.file_content == content


def test_a_result_that_is_written_again_has_the_same_bytes(tmp_path):
    file = random_result(tmp_path, "m", 0.5, tasks=["gsm8k", "mmlu"])
    before = file.path.read_bytes()
    questions = [question for _, question in reading.read_questions(reading.questions_path_for(file.path))]
    writing.write_result(file.path, file.result, questions)
    assert file.path.read_bytes() == before


def test_a_task_outside_the_suite_is_refused_by_name(tmp_path):
    file = random_result(tmp_path, "m", 0.5, tasks=["gsm8k"])
    file.result.tasks["another"] = file.result.tasks["gsm8k"]
    with pytest.raises(UserError, match="unknown task 'another'"):
        writing.write_result(tmp_path / "n.json", file.result, [])
    assert not (tmp_path / "n.json").exists()
