"""`compare --clean`: questions that are in the training records of either result take part in no test."""

import pytest
from synthetic_results import random_result

from orca_bench import api
from orca_bench.errors import UserError
from orca_bench.report import comparison_formats
from orca_bench.report.comparison import compare
from orca_bench.report.conclusions import comparison_sentence
from orca_bench.report.notes import note_line
from orca_bench.results import writing
from orca_bench.results.reading import ResultFile, read_with_questions

TASKS = ("gsm8k", "mmlu", "drop")


@pytest.fixture
def base(tmp_path):
    return random_result(tmp_path, "base", 0.5, seed=1, tasks=TASKS, overlapping={"gsm8k": 5, "mmlu": 0, "drop": 0})


@pytest.fixture
def other(tmp_path):
    """The base's answers, right on the 12 questions of GSM8K in its own records."""
    own = random_result(tmp_path, "other", 0.5, seed=1, tasks=TASKS, overlapping={"gsm8k": 12, "mmlu": 4, "drop": 80})
    for (_, row), question in own.questions_by_task["gsm8k"].questions_by_key.items():
        question.score = 1.0 if row < 12 else question.score
    questions = [question for task in own.questions_by_task.values() for question in task.questions_by_key.values()]
    writing.write_result(own.path, own.result, questions)
    return read_with_questions(own.path, "other")


def without(result_file, is_left_out):
    """The result without some questions, as if these had never been asked."""
    for task in result_file.questions_by_task.values():
        for key in [key for key in task.questions_by_key if is_left_out(*key)]:
            del task.questions_by_key[key]
    return result_file


def test_a_gain_on_questions_in_the_records_is_none(base, other):
    assert compare(base, [other])[0].line("gsm8k").difference.value > 0
    (clean,) = api.compare(base, other, clean=True)
    line = clean.line("gsm8k")
    assert line.difference.value == 0 and line.difference.n == 68
    assert clean.line("drop").verdict == "all questions overlap with training records"
    assert clean.line("mmlu").difference.n == 76
    assert clean.left_out == {"gsm8k": 12, "mmlu": 4, "drop": 80}


def test_the_tests_are_those_of_results_without_these_questions(base, other):
    (clean,) = api.compare(base, other, clean=True)

    def is_left_out(part, row):
        return row < (12 if part == "gsm8k" else 4) or part == "drop"

    for file in (base, other):
        without(file, is_left_out)
        del file.questions_by_task["drop"]
    (expected,) = compare(base, [other])
    for name in ("gsm8k", "mmlu"):
        assert clean.line(name) == expected.line(name)


def test_the_questions_of_either_result_are_left_out(base, other):
    forward, backward = api.compare(base, other, clean=True)[0], api.compare(other, base, clean=True)[0]
    assert forward.left_out == backward.left_out
    assert forward.line("gsm8k").difference.value == -backward.line("gsm8k").difference.value


def test_sentence_notes_and_json_say_what_is_left_out(base, other, tmp_path):
    (clean,) = api.compare(base, other, clean=True)
    assert "Left out: 96 questions that overlap with training records." in comparison_sentence(clean)
    lines = [note_line(note) for note in clean.notes]
    assert "GSM8K: 12 of 80 questions overlap with training records and are left out" in lines
    (content,) = comparison_formats.to_json([clean])
    assert content["left_out"] == {"gsm8k": 12, "mmlu": 4, "drop": 80}
    (plain,) = api.compare(base, other)
    assert "left_out" not in comparison_formats.to_json([plain])[0]
    assert any(
        "12 of 80 questions overlap with the training records; without them" in note.text for note in plain.notes
    )
    sentence = comparison_sentence(plain)
    assert "Questions overlap with the training records of base: 5 of 80 of GSM8K; " in sentence
    assert "compare --clean leaves them out." in sentence and "--clean" not in comparison_sentence(clean)


def test_only_where_all_tasks_were_covered_no_question_overlaps(tmp_path):
    def pair(names, tasks):
        return [
            random_result(tmp_path, name, 0.5, seed, tasks=TASKS, overlapping=dict.fromkeys(tasks, 0))
            for seed, name in enumerate(names)
        ]

    (covered,) = api.compare(*pair("pq", TASKS), clean=True)
    assert "No question that was compared overlaps with training records." in comparison_sentence(covered)
    (partly,) = api.compare(*pair("rs", ["gsm8k"]), clean=True)
    sentence = comparison_sentence(partly)
    assert "No question is left out. Not all results say" in sentence and "training records: MMLU, DROP." in sentence
    assert "r MMLU, r DROP, s MMLU, s DROP: not compared with the training records" in map(note_line, partly.notes)


def test_reported_scores_beside_a_base_that_does_not_say(other, tmp_path):
    silent = random_result(tmp_path, "p", 0.5, tasks=TASKS)
    clean, reported = api.compare(silent, other, reported="orca_mini_13b", clean=True)
    assert clean.left_out == {"gsm8k": 12, "mmlu": 4, "drop": 80} and reported.left_out == {}
    assert "Not all results say" in comparison_sentence(reported)
    with pytest.raises(UserError, match="no result says"):
        api.compare(silent, reported="orca_mini_13b", clean=True)


def test_a_result_that_does_not_say_is_named_and_two_are_refused(base, tmp_path):
    silent = [random_result(tmp_path, name, 0.5, seed, tasks=TASKS) for seed, name in enumerate(("p", "q"))]
    (clean,) = api.compare(base, silent[0], clean=True)
    assert "p: does not say which of its questions are in its training records" in map(note_line, clean.notes)
    assert clean.left_out == {"gsm8k": 5}
    with pytest.raises(
        UserError, match="no result says which of its questions are in the training records.*--data-report"
    ):
        api.compare(*silent, clean=True)


def test_reported_scores_stand_against_the_value_without_them(other):
    (clean,) = api.compare(other, reported="orca_mini_13b", clean=True)
    entry = other.result.tasks["gsm8k"]
    line = clean.line("gsm8k")
    assert line.other_score == entry.overlap.without.value != entry.value and line.difference.n == 68
    assert clean.line("drop").verdict == "all questions overlap with training records"
    assert any("12 of 80 questions overlap" in note.text for note in clean.notes)


def test_without_the_files_of_questions_nothing_can_be_left_out(base, other):
    bare = ResultFile(other.path, other.label, other.result)
    with pytest.raises(UserError, match="which questions are left out of both results only their questions say"):
        api.compare(base, bare, clean=True)


def test_the_command_leaves_them_out(command, base, other):
    process = command("compare", base.path, other.path, "--clean", env={"COLUMNS": "200"})
    assert process.returncode == 0, process.stderr
    assert "Left out: 96 questions" in process.stdout and "are left out" in process.stdout
