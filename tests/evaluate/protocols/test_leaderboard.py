"""The leaderboard protocol: what was sent and how it was scored, written out by hand and held to the harness itself."""

import os
import random

import pytest
from checkout import ROOT

from orca_bench.evaluate import protocols
from orca_bench.evaluate.benchmark_rows import BenchmarkRows
from orca_bench.evaluate.protocols import Answer
from orca_bench.evaluate.tasks import SUITE
from orca_bench.question_limit import QuestionLimit

BY_NAME = {task.name: task for task in SUITE}
PROTOCOL = protocols.Leaderboard()


def first(name, rows, pool=(), index=0):
    """The document at `index` of some rows."""
    return PROTOCOL.documents(BY_NAME[name], BenchmarkRows(list(rows), list(pool), {}), None)[index]


def request_pairs(document):
    return [
        (r.context, r.continuation if r.continuation is not None else list(r.stop_strings)) for r in document.requests
    ]


def answers(*values):
    return [Answer(value) for value in values]


# --- what is sent ---------------------------------------------------------------------------------------------------


def arc(question, texts, key):
    labels = list("12345" if key.isdigit() else "ABCDE")[: len(texts)]
    return {"question": question, "choices": {"text": texts, "label": labels}, "answerKey": key}


def test_arc_joins_examples_and_question_by_blank_lines():
    pool = [arc(f"q{i}", ["no", f"yes {i}"], "2") for i in range(25)]
    document = first("arc_challenge", [arc("Why?", ["a b", "c"], "A")], pool)
    generator = random.Random(42)
    generator.shuffle([0])
    few_shot_examples = generator.sample(pool, 25)
    context = "\n\n".join(
        f"Question: {row['question']}\nAnswer: {row['choices']['text'][1]}" for row in few_shot_examples
    )
    context += "\n\nQuestion: Why?\nAnswer:"
    assert request_pairs(document) == [(context, " a b"), (context, " c")]


def test_mmlu_has_preamble_first_five_and_letters():
    rows_ = [
        {"question": f" q{i} ", "subject": "us_foreign_policy", "choices": ["w", "x", "y", "z"], "answer": i % 4}
        for i in range(6)
    ]
    document = first("mmlu", [rows_[5] | {"question": "Last?"}], rows_)
    context = "The following are multiple choice questions (with answers) about us foreign policy.\n\n"
    context += "".join(f"q{i}\nA. w\nB. x\nC. y\nD. z\nAnswer: {'ABCD'[i % 4]}\n\n" for i in range(5))
    context += "Last?\nA. w\nB. x\nC. y\nD. z\nAnswer:"
    assert document.part_name == "mmlu_us_foreign_policy"
    assert request_pairs(document) == [(context, f" {letter}") for letter in "ABCD"]


def test_truthful_qa_sends_the_choices_of_mc1_and_then_those_of_mc2():
    row = {
        "question": "Is it?",
        "mc1_targets": {"choices": ["No.", "Yes."], "labels": [1, 0]},
        "mc2_targets": {"choices": ["No.", "Never.", "Yes."], "labels": [1, 1, 0]},
    }
    document = first("truthful_qa", [row])
    assert [continuation for _, continuation in request_pairs(document)] == [
        " No.",
        " Yes.",
        " No.",
        " Never.",
        " Yes.",
    ]
    (context,) = {context for context, _ in request_pairs(document)}
    assert context.startswith("Q: What is human life expectancy in the United States?\nA: Human life expectancy")
    assert context.endswith("were held in Barcelona, Spain.\n\nQ: Is it?\nA:")


def test_winogrande_fills_the_blank_and_replaces_what_follows_the_last_blank_line():
    def row(sentence):
        return {"sentence": sentence, "option1": "Ann", "option2": "Bob", "answer": "1"}

    pool = [row(f"It was {i} that _ saw.") for i in range(5)]
    generator = random.Random(42)
    generator.shuffle([0])
    few_shot_examples = [r["sentence"].replace("_", "Ann") for r in generator.sample(pool, 5)]
    document = first("winogrande", [row("Who ran? _ did .")], pool)
    assert request_pairs(document) == [
        ("\n\n".join([*few_shot_examples, f"Who ran? {name}"]), " did .") for name in ("Ann", "Bob")
    ]
    # A sentence with a blank line in it keeps its first part twice, as in the harness.
    document = first("winogrande", [row("One.\n\nTwo _ ran.")], pool)
    assert request_pairs(document)[1] == ("\n\n".join([*few_shot_examples, "One.", "One.\n\nTwo Bob"]), " ran.")


def test_generation_stops_as_the_harness_stopped():
    pool = [{"question": f"q{i}", "answer": f"<<1+1=2>> #### {i}"} for i in range(5)]
    ((context, until),) = request_pairs(first("gsm8k", [{"question": "How many?", "answer": "#### 1"}], pool))
    assert until == [":", "Question:", "Question"]
    assert context.count("<<1+1=2>>") == 5 and context.endswith("\n\nQuestion: How many?\nAnswer:")
    date = {"day": "", "month": "", "year": ""}
    empty = {"number": [], "date": [], "spans": []}

    def row(number, spans=()):
        answer = {"number": number, "date": date, "spans": list(spans)}
        return {"passage": "P.", "question": "Q?", "answer": answer, "validated_answers": empty}

    ((context, until),) = request_pairs(first("drop", [row("1")], [row("", ["a", "b"])] * 3))
    assert until == ["."]
    assert context == "Passage: P.\nQuestion: Q?\nAnswer: a, b\n\n" * 3 + "Passage: P.\nQuestion: Q?\nAnswer:"


# --- how it is scored -----------------------------------------------------------------------------------------------


def test_acc_norm_divides_by_characters_and_never_takes_an_empty_choice():
    document = first("arc_challenge", [arc("q", ["aaaa", "", "bb"], "A")], [arc("q", ["a"], "A")] * 25)
    score = PROTOCOL.score(BY_NAME["arc_challenge"], document, answers(-4.0, -0.1, -3.0))
    assert (score.metric_value, score.prediction, score.extra_fields) == (1.0, 0, {"acc": 0.0})
    tie = PROTOCOL.score(BY_NAME["arc_challenge"], document, answers(-4.0, -9.0, -2.0))
    assert tie.prediction == 0  # of equals, the first


def test_gsm8k_wants_the_mark_and_the_very_characters():
    task = BY_NAME["gsm8k"]
    document = first(
        "gsm8k", [{"question": "q", "answer": "x\n#### 1,012"}], [{"question": "", "answer": "#### 1"}] * 5
    )
    values = {"so #### 1012": 1.0, "#### 1,012 or": 1.0, "#### 1012.": 0.0, "it is 1012": 0.0, "####1012": 0.0, "": 0.0}
    assert {text: PROTOCOL.score(task, document, answers(text)).metric_value for text in values} == values


def test_what_was_thrown_away_is_scored_beside():
    task = BY_NAME["gsm8k"]
    document = first("gsm8k", [{"question": "q", "answer": "#### 5"}], [{"question": "", "answer": "#### 1"}] * 5)
    score = PROTOCOL.score(task, document, [Answer("thus", full_text="#### 5 thus")])
    assert (score.metric_value, score.extra_fields["whole_score"]) == (0.0, 1.0)


def test_mc1_and_mc2():
    row = {
        "question": "q",
        "mc1_targets": {"choices": ["t", "f"], "labels": [1, 0]},
        "mc2_targets": {"choices": ["t", "u", "f"], "labels": [1, 1, 0]},
    }
    score = PROTOCOL.score(BY_NAME["truthful_qa"], first("truthful_qa", [row]), answers(-1.0, -2.0, -1.0, -3.0, -2.0))
    weights = [0.36787944117144233, 0.049787068367863944, 0.1353352832366127]
    assert score.metric_value == pytest.approx(sum(weights[:2]) / sum(weights)) and score.extra_fields == {"mc1": 1.0}


def test_missing_rows_are_warned_of_and_only_on_the_leaderboards_own_questions():
    from orca_bench.evaluate import result_building
    from orca_bench.evaluate.benchmark_rows import Suite
    from orca_bench.evaluate.scoring import question_of

    task = BY_NAME["gsm8k"]
    row = {"question": "q", "answer": "#### 5"}
    rows = BenchmarkRows([row], [row] * 5, {})
    document = first("gsm8k", [row], [row] * 5)
    full_answers = [Answer("thus", full_text="#### 5 thus")]
    question = question_of(("gsm8k", 0, 0), PROTOCOL.score(task, document, full_answers), full_answers)
    for comparable, row_warnings in (
        (
            True,
            ["first colon", "other rows than the leaderboard's: 1 here and 1,319", "others: 5 here and 7,473 in full"],
        ),
        (False, ["first colon"]),
    ):
        result = result_building.start_result(Suite("s", comparable), PROTOCOL, QuestionLimit(), {"name": "m"})
        entry = result_building.add_task_result(result, task, rows, PROTOCOL, [question], "0" * 64)
        for text in row_warnings:
            assert any(text in warning for warning in entry.warnings)
        assert any("the first tokens of 1 answers" in w and "100.00 with them" in w for w in entry.warnings)
        assert len(entry.warnings) == len(row_warnings) + 1


# --- against the harness itself -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def against():
    """tests/benchmarks/against_b281b092.py, and a checkout of that commit, where the environment names one."""
    checkout = os.environ.get("LM_EVAL_B281B092")
    if not checkout:
        pytest.skip("LM_EVAL_B281B092 names no checkout of lm-evaluation-harness b281b092")
    return ROOT / "tests" / "benchmarks" / "against_b281b092.py", checkout


@pytest.mark.parametrize("more", [(), ("--limit", "2", "--model")])
def test_the_harness_itself_agrees_on_the_mini_suite(against, mini, tiny_model, more):
    import subprocess
    import sys

    script, checkout = against
    words = [*more, str(tiny_model)] if more else []
    process = subprocess.run(
        [sys.executable, str(script), checkout, str(mini["mini:benchmarks"]), *words], capture_output=True, text=True
    )
    assert process.returncode == 0, process.stdout + process.stderr
