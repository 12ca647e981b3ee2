"""Rows of benchmarks become questions with their texts apart; what is not there is an error or, of few-shot rows, a message."""

import hashlib

import pytest
from planted_records import ARC_QUESTION, GSM8K_QUESTIONS, gsm8k_row, write_benchmarks, write_lines

from orca_bench.errors import UserError
from orca_bench.evaluate.benchmark_questions import load_benchmark_questions
from orca_bench.evaluate.benchmark_rows import load_task_rows, row_identity_json
from orca_bench.evaluate.tasks import SUITE, select


def test_rows_of_both_splits_with_the_hashes_that_an_evaluation_has(tmp_path):
    benchmarks = load_benchmark_questions(write_benchmarks(tmp_path))
    assert benchmarks.suite_name == "small"
    splits = benchmarks.splits_by_task["gsm8k"]
    task = select("gsm8k")[0]
    rows = load_task_rows(task, tmp_path)
    assert {split: facts.sha256 for split, facts in splits.items()} == rows.hashes_by_split
    assert (splits["test"].rows, splits["train"].rows) == (2, 7)
    first = benchmarks.questions[0]
    assert (first.task, first.split, first.row, first.is_evaluated) == ("gsm8k", "test", 0, True)
    assert first.question == GSM8K_QUESTIONS[0] and first.answer == gsm8k_row("")["answer"]
    assert first.row_sha256 == hashlib.sha256(row_identity_json(task, rows.evaluation_rows[0])).hexdigest()
    assert [question.is_evaluated for question in benchmarks.questions] == [True] * 2 + [False] * 7


def test_the_mini_suite_has_questions_of_all_tasks(mini):
    benchmarks = load_benchmark_questions(mini["mini:benchmarks"])
    assert benchmarks.suite_name == "mini"
    assert list(benchmarks.splits_by_task) == [task.name for task in SUITE]
    by_task = {question.task: question for question in benchmarks.questions}
    assert by_task["drop"].passage and not by_task["gsm8k"].choices
    for name in ("arc_challenge", "hellaswag", "mmlu", "truthful_qa", "winogrande"):
        assert by_task[name].answer in by_task[name].choices and len(by_task[name].choices) >= 2
    assert not any("Answer:" in question.question for question in benchmarks.questions)
    assert {len(question.answer) for question in benchmarks.questions if question.task == "mmlu"} != {1}  # no letters


def test_a_missing_few_shot_split_is_a_message_and_a_missing_test_split_an_error(tmp_path):
    write_benchmarks(tmp_path)
    (tmp_path / "gsm8k" / "train.jsonl").unlink()
    messages = []
    benchmarks = load_benchmark_questions(tmp_path, show_message=messages.append)
    assert list(benchmarks.splits_by_task["gsm8k"]) == ["test"]
    assert messages == [f"not compared: the split 'train' of gsm8k, which is not in {tmp_path}"]
    (tmp_path / "gsm8k" / "test.jsonl").unlink()
    write_lines(tmp_path / "gsm8k" / "other.jsonl", [gsm8k_row("q")])
    with pytest.raises(UserError, match=r"the split 'test' of gsm8k is missing; present: other\.jsonl"):
        load_benchmark_questions(tmp_path)


def test_rows_without_choices_are_refused_at_their_place(tmp_path):
    for broken in ({"choices": {"text": [], "label": []}}, {"choices": {}}, {"choices": None}):
        write_lines(tmp_path / "arc_challenge" / "test.jsonl", [ARC_QUESTION, ARC_QUESTION | broken])
        with pytest.raises(UserError, match=r"test\.jsonl:2: "):
            load_benchmark_questions(tmp_path, select("arc"))
