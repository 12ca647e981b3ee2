"""The seven tasks: texts, continuations and scores, each against a rule that stands elsewhere."""

import math
import random

import pytest

from orca_bench.errors import UserError
from orca_bench.evaluate import tasks
from orca_bench.evaluate.tasks import SUITE, drop, gsm8k
from orca_bench.evaluate.tasks.hellaswag import clean

BY_NAME = {task.name: task for task in SUITE}

ARC = {"question": "Q?", "choices": {"text": ["aa", "b", "cccc"], "label": ["1", "2", "3"]}, "answerKey": "2"}


def test_shots_and_metrics_are_the_leaderboards():
    assert [(t.name, t.shots, t.metric) for t in SUITE] == [
        ("arc_challenge", 25, "acc_norm"),
        ("hellaswag", 10, "acc_norm"),
        ("mmlu", 5, "acc"),
        ("truthful_qa", 0, "mc2"),
        ("winogrande", 5, "acc"),
        ("gsm8k", 5, "acc"),
        ("drop", 3, "f1"),
    ]


def test_arc_reads_numbered_keys_and_normalizes_by_characters():
    task = BY_NAME["arc_challenge"]
    assert task.example(ARC) == "Question: Q?\nAnswer: b"
    assert task.question_continuation_pairs(ARC) == [("Question: Q?\nAnswer:", " " + c) for c in ("aa", "b", "cccc")]
    assert task.score(ARC, [-4.0, -3.0, -7.0]).prediction == 2  # -2, -3, -1.75 a character
    assert task.score(ARC, [-4.0, -1.0, -7.0]).metric_value == 1.0


def test_hellaswag_takes_wikihows_marks_out():
    assert clean(" [header] How to x [title] Do it. [step] Now  go ") == " How to x. Do it. Now go"
    row = {"activity_label": "A", "ctx_a": "One.", "ctx_b": "then HE", "endings": ["x", "y"], "label": "1"}
    assert BY_NAME["hellaswag"].example(row) == "A: One. Then he y"


def test_mmlu_has_its_preamble_and_letters():
    row = {"question": " Q ", "subject": "high_school_physics", "choices": list("wxyz"), "answer": 3}
    task = BY_NAME["mmlu"]
    assert task.description(row).endswith("about high school physics.")
    assert task.example(row) == "Q\nA. w\nB. x\nC. y\nD. z\nAnswer: D"


def test_winogrande_fills_the_blank_and_scores_the_rest():
    row = {"sentence": "The cat saw the dog so _ ran off.", "option1": "cat", "option2": "dog", "answer": "2"}
    assert BY_NAME["winogrande"].question_continuation_pairs(row) == [
        ("The cat saw the dog so cat", " ran off."),
        ("The cat saw the dog so dog", " ran off."),
    ]


def test_mc2_is_the_true_choices_share_and_does_not_underflow():
    row = {"question": "Q", "mc2_targets": {"choices": ["a", "b", "c"], "labels": [1, 1, 0]}}
    task = BY_NAME["truthful_qa"]
    weights = [math.exp(x) for x in (-1.0, -2.0, -0.5)]
    assert task.score(row, [-1.0, -2.0, -0.5]).metric_value == pytest.approx(sum(weights[:2]) / sum(weights))
    assert task.score(row, [-2001.0, -2002.0, -2000.5]).metric_value == pytest.approx(sum(weights[:2]) / sum(weights))


def test_gsm8k_removes_commas():
    assert gsm8k.marked_answer("#### 1,234") == "1234"


def test_drop_scores_as_lm_evals_own_evaluator():
    from lm_eval.tasks.drop import utils

    rng = random.Random(0)
    words = [
        "the",
        "a",
        "12",
        "12.0",
        "Giants",
        "giants",
        "first-half",
        "3,000",
        "1/2",
        "St.",
        "-5",
        "touchdown",
        "an",
        "4",
    ]
    for _ in range(3000):
        text = " ".join(rng.choices(words, k=rng.randint(0, 5)))
        gold = tuple(" ".join(rng.choices(words, k=rng.randint(1, 4))) for _ in range(rng.randint(1, 3)))
        assert drop.exact_match_and_f1(text, gold) == pytest.approx(utils.get_metrics([text], gold)), (text, gold)


def test_drop_takes_the_best_of_the_gold_answers():
    date = {"day": "", "month": "", "year": ""}
    row = {
        "passage": "",
        "question": "",
        "answer": {"number": "7", "date": date, "spans": []},
        "validated_answers": {"number": ["", ""], "date": [date, date | {"year": "1999"}], "spans": [["two men"], []]},
    }
    assert drop.gold_answers(row) == [("7",), ("two men",), ("1999",)]
    assert BY_NAME["drop"].score_text(row, "two men").metric_value == 1.0
    assert BY_NAME["drop"].score_text(row, "nobody").metric_value == 0.0


def test_tasks_are_selected_by_name_alias_or_all():
    assert tasks.select("all") == list(SUITE)
    assert [t.name for t in tasks.select("gsm8k,arc")] == ["arc_challenge", "gsm8k"]
    with pytest.raises(UserError, match="unknown task 'gsm8'; did you mean 'gsm8k'"):
        tasks.select("gsm8")
    with pytest.raises(UserError, match="no task named"):
        tasks.select(",")
