"""What `--limit` says of each task, in a result's file, in its name and in words."""

import pytest

from orca_bench.errors import UserError
from orca_bench.question_limit import QuestionLimit, limit_from_json, limit_from_texts
from orca_bench.suite import ALL_TASKS


@pytest.mark.parametrize(
    ("texts", "limit_json", "suffix", "words"),
    [
        ([], None, "", ""),
        (["1"], 1, "-limit1", "first question of each task"),
        (["0000000000000000001200"], 1200, "-limit1200", "first 1,200 questions of each task"),
        (
            ["mmlu=20"],
            {"mmlu": 20},
            "-limit-mmlu20",
            "first 20 questions of each MMLU subject, all of the other tasks",
        ),
        (
            ["200", "mmlu=20", "TruthfulQA=all", "winogrande=all"],
            {"arc_challenge": 200, "hellaswag": 200, "mmlu": 20, "gsm8k": 200, "drop": 200},
            "-limit200-mmlu20-truthful_qa_all-winogrande_all",
            "first 200 questions of ARC-Challenge, HellaSwag, GSM8K and DROP, "
            "20 of each MMLU subject, all of TruthfulQA and Winogrande",
        ),
    ],
)
def test_each_task_has_its_limit(texts, limit_json, suffix, words):
    limit = limit_from_texts(texts)
    assert limit.to_json() == limit_json and limit == limit_from_json(limit_json) and bool(limit) == bool(texts)
    assert limit.file_suffix == suffix and str(limit) == words
    assert limit_from_texts(limit.option_texts) == limit
    expected = limit_json if isinstance(limit_json, dict) else {facts.name: limit_json for facts in ALL_TASKS}
    assert {facts.name: limit.of_task(facts.name) for facts in ALL_TASKS} == {
        facts.name: expected.get(facts.name) for facts in ALL_TASKS
    }


@pytest.mark.parametrize(
    ("task_names", "limit"),
    [
        (["gsm8k", "drop"], QuestionLimit(5)),
        (["hellaswag"], QuestionLimit()),
        (["mmlu", "drop", "hellaswag"], QuestionLimit(None, (("hellaswag", None), ("mmlu", 2), ("drop", 5)))),
        (["our_task"], QuestionLimit()),
    ],
)
def test_a_result_has_the_limit_of_its_own_tasks(task_names, limit):
    assert QuestionLimit.of_file({"mmlu": 2, "gsm8k": 5, "drop": 5}, task_names) == limit


def test_a_limit_of_fewer_questions_comes_first():
    limits = [QuestionLimit(), limit_from_texts(["mmlu=2"]), limit_from_texts(["5", "mmlu=9"]), QuestionLimit(5)]
    assert sorted(limits, key=lambda limit: limit.sort_key) == [limits[3], limits[2], limits[0], limits[1]]


def test_one_number_for_all_tasks_says_what_it_is_for_mmlu():
    assert QuestionLimit(5).full_text == "first 5 questions of each task (of each MMLU subject)"
    assert limit_from_texts(["5", "mmlu=9"]).full_text == str(limit_from_texts(["5", "mmlu=9"]))


def test_options_are_as_few_as_can_be():
    assert limit_from_texts(["3", "mmlu=1"]).option_texts == ["3", "mmlu=1"]
    assert limit_from_texts(["mmlu=1"]).option_texts == ["mmlu=1"]


def test_the_same_limits_are_equal_however_they_are_written():
    every_task = [f"{facts.name}=5" for facts in ALL_TASKS]
    assert limit_from_texts(every_task) == limit_from_texts(["5"]) == QuestionLimit(5)
    assert limit_from_texts(["mmlu=3", "5"]) == limit_from_texts(["5", "mmlu=3", "mmlu=3"])
    assert limit_from_texts(["5", *(f"{facts.name}=all" for facts in ALL_TASKS)]) == QuestionLimit()


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["0"], "'0' is not a number of questions"),
        (["-1"], "'-1' is not a number of questions"),
        (["1.5"], "'1.5' is not a number of questions"),
        (["mmlu="], "'mmlu=' is not a number of questions"),
        (["mmul=3"], "unknown task 'mmul'"),
        (["=3"], "unknown task ''"),
        (["3", "4"], "'4' contradicts another limit"),
        (["mmlu=3", "mmlu=all"], "'mmlu=all' contradicts another limit"),
        (["9" * 30], f"'{'9' * 30}' is not a number of questions"),
        (["9" * 5000], "is not a number of questions"),
        (["000"], "'000' is not a number of questions"),
    ],
)
def test_what_is_no_limit_is_refused(texts, message):
    with pytest.raises(UserError) as refusal:
        limit_from_texts(texts)
    assert message in str(refusal.value) and "--limit" in str(refusal.value)


def test_tasks_that_the_suite_does_not_have_are_named_where_a_command_takes_them():
    limit = limit_from_texts(["100", "arc_easy=20", "MMLU=3"], may_name_other_tasks=True)
    assert [limit.of_task(name) for name in ("arc_easy", "mmlu", "winogrande", "piqa")] == [20, 3, 100, 100]
    assert limit.other_task_names == ["arc_easy"] and limit.file_suffix == "-limit100-mmlu3-arc_easy20"
    in_file = limit.with_tasks(["arc_easy", "piqa"]).to_json()
    assert (in_file["arc_easy"], in_file["piqa"]) == (20, 100)
    assert QuestionLimit.of_file(in_file, {"piqa", "winogrande"}) == QuestionLimit(100)
    assert limit_from_json({"arc_easy": 20}, may_name_other_tasks=True).of_task("piqa") is None
    assert limit_from_json(limit, may_name_other_tasks=True) is limit
    with pytest.raises(UserError, match="unknown task 'arc_easy'"):
        limit_from_json(limit)
    assert QuestionLimit(5).with_tasks(["piqa"]) == QuestionLimit(5)
    counts = {"piqa": 2, "boolq": 1, "arc_easy": 3}
    for names in (
        list(counts),
        sorted(counts),
        sorted(counts, reverse=True),
    ):  # in whatever order a result has its tasks
        assert str(QuestionLimit.of_file(counts, names)) == "first 3 questions of arc_easy, 1 of boolq, 2 of piqa"
        assert QuestionLimit.of_file(counts, names) == QuestionLimit.of_file(counts, list(counts))
