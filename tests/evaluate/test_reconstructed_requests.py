"""The words of a result's questions and its requests, made again from the rows."""

import pytest

from orca_bench.evaluate.reconstructed_requests import rebuild_requests
from orca_bench.evaluate.tasks import SUITE
from orca_bench.results.reading import read_with_questions


@pytest.fixture(scope="module")
def mini_result(tiny_model, mini, tmp_path_factory, command_in):
    """A result of one question a task (and MMLU subject) on the mini suite, and the folder of its rows."""
    command = command_in(tmp_path_factory.mktemp("texts"))
    process = command(
        "eval", "--model", tiny_model, "--benchmarks", mini["mini:benchmarks"], "--limit", 1, "--out", "r.json"
    )
    assert process.returncode == 0, process.stderr
    return read_with_questions(command.folder / "r.json"), mini["mini:benchmarks"]


def test_questions_are_words_for_people_and_requests_are_those_that_were_sent(mini_result):
    result_file, rows = mini_result
    lookup, notes = rebuild_requests(result_file.result, rows)
    assert not notes
    for task in SUITE:
        questions = result_file.questions_by_task[task.name].questions_by_key.values()
        for question in questions:
            texts = lookup(question.task, question.row)
            assert texts.question and "Answer:" not in texts.question and "### " not in texts.question
            assert len(texts.requests) == len(question.answers)
            assert bool(texts.passage) == (task.name == "drop")
            if task.generates_text:
                assert not texts.choices
            else:
                assert len(texts.choices) == len(question.answers) and "" not in texts.choices
    part, row = next(iter(result_file.questions_by_task["mmlu"].questions_by_key))
    assert set(lookup(part, row).choices) != {"A", "B", "C", "D"}  # the texts behind the letters
    [(part, row)] = result_file.questions_by_task["winogrande"].questions_by_key
    assert "_" in lookup(part, row).question


def test_other_requests_leave_the_questions_and_other_rows_leave_nothing(mini_result):
    result_file, rows = mini_result
    result = result_file.result.model_copy(deep=True)
    result.tasks["gsm8k"].requests_sha256 = "0" * 64
    [key] = result_file.questions_by_task["gsm8k"].questions_by_key
    lookup, notes = rebuild_requests(result, rows)
    assert lookup(*key).question and lookup(*key).requests == ()
    assert notes == ["GSM8K: these rows do not give the requests that were sent, so none are shown"]
    result.tasks["drop"].requests_sha256 = result.tasks["mmlu"].requests_sha256 = "0" * 64
    _, notes = rebuild_requests(result, rows)
    assert len(notes) == 1 and notes[0].startswith("MMLU, GSM8K and DROP: these rows do not give the requests")
    result.data_hashes["gsm8k"] = {split: "0" * 64 for split in result.data_hashes["gsm8k"]}
    lookup, _ = rebuild_requests(result, rows)
    assert lookup(*key) is None
