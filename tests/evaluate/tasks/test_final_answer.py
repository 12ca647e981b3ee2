"""The orca protocol's own rules for texts: a right answer counts in whatever form a model gives it, a wrong one in none."""

import gzip
import json

import pytest

from orca_bench.errors import UserError
from orca_bench.evaluate import benchmark_rows
from orca_bench.evaluate.protocols import Answer, Document, Leaderboard, Orca
from orca_bench.evaluate.tasks import SUITE
from orca_bench.evaluate.tasks.drop import answer_scores, exact_match_and_f1, gold_answers
from orca_bench.evaluate.tasks.final_answer import equal_numbers, final_number, text_after_answer_is
from orca_bench.evaluate.tasks.gsm8k import marked_answer

BY_NAME = {task.name: task for task in SUITE}
GSM8K, DROP = BY_NAME["gsm8k"], BY_NAME["drop"]


def rows_of(shared, task, split):
    with gzip.open(shared / "benchmarks" / task / f"{split}.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


# --- GSM8K ----------------------------------------------------------------------------------------------------------

#: `n` is the number as the data set has it, `c` with commas, `s` with spaces between thousands, `x` the solution before it.
NUMBER_FORMS = {
    "the data set's own": "{x}\n#### {c}",
    "with a currency and cents": "The answer is ${c}.00.",
    "before another number": "{x}\nThe answer is {c}. I used 2 steps.",
    "a bare number with a unit": "{c} dollars",
    "a percentage": "So the final answer is {n}%.",
    "in a box": "{x} Therefore \\[ \\boxed{{\\${latex}}} \\] in 2 steps.",
    "in bold": "**Answer:** {c} in 2 steps",
    "with spaces between thousands": "#### {s}",
    "with a minus sign of typesetters": "Answer: {minus}.",
    "after an equals sign": "The answer is x = {n}, by 2 steps.",
    "an equation": "The answer is 0 + {n} = {n}",
    "a fraction of one": "#### {n}/1",
}


def check_numbers(gold_rows):
    for name, form in NUMBER_FORMS.items():
        wrong = []
        for row in gold_rows:
            number = marked_answer(row["answer"])
            commas = f"{int(number):,}"
            text = form.format(
                n=number,
                c=commas,
                s=commas.replace(",", "\u202f"),
                latex=commas.replace(",", "{,}"),
                minus=commas.replace("-", "\u2212"),
                x=row["answer"].rpartition("\n####")[0],
            )
            if GSM8K.score_text(row, text).metric_value != 1.0:
                wrong.append(text)
        assert not wrong, (name, len(wrong), wrong[:3])


def test_every_gold_number_of_gsm8k_is_right_in_twelve_forms(shared):
    check_numbers(rows_of(shared, "gsm8k", "test"))
    check_numbers([row for row in rows_of(shared, "gsm8k", "train") if "#### -" in row["answer"]])


def test_every_gold_number_of_the_mini_suite_is_right_in_twelve_forms(mini):
    check_numbers(benchmark_rows.load_task_rows(GSM8K, mini["mini:benchmarks"]).evaluation_rows)


@pytest.mark.parametrize(
    ("text", "number", "rule"),
    [
        ("so 3 + 4 = 7\n#### 7", "7", "####"),
        ("####18", "18", "####"),
        ("#### **$18**", "18", "####"),
        ("#### 18. I used 2 steps.", "18", "####"),
        ("#### 18\n\n#### 25", "18", "####"),
        ("#### 18\nThe answer took 2 steps, the answer is right.", "18", "####"),
        ("#### 1. Count\n16 - 7 = 9\n#### 2. Multiply\n9 * 2 = 18\nThe answer is 18.", "18", "answer is"),
        ("#### 1. Count\n16 - 7 = 9\n#### 2. Multiply\n9 * 2 = 18\n#### 18", "18", "####"),
        ("The answer is 18. I used 2 steps.", "18", "answer is"),
        ("I thought the answer is 17, but the answer is 18.", "18", "answer is"),
        ("The answer is not 17. The answer is 18!", "18", "answer is"),
        ("The answer is 18, since 16 - 3 - 4 = 9 and 9 * 2 = 18.", "18", "answer is"),
        ("The answer is 18 (16 - 7 = 9).", "18", "answer is"),
        ("The answer is 9 eggs * $2 per egg = $18 a day for 7 days.", "18", "answer is"),
        ("The answer is <<9*2=18>>18.", "18", "answer is"),
        ("The answer is 18 = 9 * 2.", "18", "answer is"),
        ("The answer is -$5.", "-5", "answer is"),
        ("The answer is \u201310 degrees in 2 days", "-10", "answer is"),
        ("The answer is about 18 dollars in 2 days", "18", "answer is"),
        ("The answer is $\\frac{1}{2}$.", "1/2", "answer is"),
        ("The answer is .5", ".5", "answer is"),
        ("Final answer:\n\n**18**\n\nin 2 steps", "18", "answer is"),
        ("### Answer\n18\n\nin 2 steps", "18", "answer is"),
        ("The answer is:\n1. She has 9\n2. She sells them\nSo she makes 18", "18", "last number"),
        ("The answer is 18. The answer is easy to check in 2 steps.", "18", "answer is"),
        ("\\boxed{1{,}000} in 2 steps", "1000", "boxed"),
        ("The final answer is \\( \\boxed{18} \\). 2 steps", "18", "answer is"),
        ("The answer is that she makes $18.", "18", "answer sentence"),
        ("She makes **18** dollars in 2 days.", "18", "bold"),
        ("**Step 1**: 16 - 7 = 9\n**Step 2**: 9 * 2 = 18", "18", "last equation"),
        ("In all there are 9 + 6 = 15 liters of water out of the 24.", "15", "last equation"),
        ("24 points/answer * 2 = 48. With 2 more, 50.", "50", "last number"),
        ("7 then 8", "8", "last number"),
        ("from 16-7", "7", "last number"),
        ("no idea", None, "no number"),
        ("the answer is eighteen", None, "no number"),
    ],
)
def test_the_number_that_a_text_gives_as_its_answer(text, number, rule):
    assert final_number(text) == (number, rule)


def test_numbers_are_compared_by_value_and_wrong_ones_are_wrong():
    row = {"question": "", "answer": "x\n#### 1,800"}
    for text in ("1800", "1,800.00", "1 800", "3600/2", "$1,800"):
        assert GSM8K.score_text(row, f"The answer is {text}").metric_value == 1.0, text
    for text in ("180", "18", "-1800", "1800.5", "1800/7", "1/0", "1" * 6000):
        assert GSM8K.score_text(row, f"The answer is {text}").metric_value == 0.0, text[:10]
    assert not equal_numbers("1" * 6000, "1" * 6000)


def test_the_leaderboard_keeps_its_slips():
    row = {"question": "", "answer": "x\n#### 18"}
    document = Document("gsm8k", 0, 0, row, ())
    texts = ("#### 18", "#### 18.00", "#### $18", "The answer is 18.", "#### 1 800")
    assert [Leaderboard().score(GSM8K, document, [Answer(text)]).metric_value for text in texts] == [1, 0, 0, 0, 0]
    assert [Orca("").score(GSM8K, document, [Answer(text)]).metric_value for text in texts] == [1, 1, 1, 1, 0]


# --- DROP -----------------------------------------------------------------------------------------------------------


def with_and(spans, sign):
    return sign.join([", ".join(spans[:-1]), spans[-1]]) if len(spans) > 1 else spans[0]


SPAN_FORMS = {
    "as the examples join them": ", ".join,
    "with a full stop": lambda spans: ", ".join(spans) + ".",
    "with `and`": lambda spans: with_and(spans, " and "),
    "with a comma before `and`": lambda spans: with_and(spans, ", and "),
    "`and` between all": " and ".join,
    "with semicolons": lambda spans: "; ".join(spans) + ";",
    "a sentence": lambda spans: "The answer is " + ", ".join(spans) + ".",
    "after an explanation": lambda spans: "They scored 24 and 17, so the final answer is: " + ", ".join(spans) + "!",
    "in bold": lambda spans: "**Answer:** **" + "**, **".join(spans) + "**.",
    "quoted": lambda spans: " \u201c" + "\u201d, \u201c".join(spans) + "\u201d ",
    "in brackets": lambda spans: "(" + ", ".join(spans) + ").",
    "in small letters": lambda spans: ", ".join(spans).lower(),
}


def check_spans(gold_rows):
    golds = {gold for row in gold_rows for gold in gold_answers(row) if gold[0].strip()}
    for name, form in SPAN_FORMS.items():
        wrong = [form(gold) for gold in golds if answer_scores(form(gold), gold)[1] != 1.0]
        assert not wrong, (name, len(wrong), wrong[:3])


def test_every_gold_answer_of_drop_is_right_in_twelve_forms(shared):
    """In capitals one is not: Python writes the Turkish dotless i as I. A unit after a number costs F1, as by DROP's metric."""
    check_spans(rows_of(shared, "drop", "validation"))


def test_every_gold_answer_of_the_mini_suite_is_right_in_twelve_forms(mini):
    check_spans(benchmark_rows.load_task_rows(DROP, mini["mini:benchmarks"]).evaluation_rows)


@pytest.mark.parametrize(
    ("text", "gold", "f1"),
    [
        ("12.25.", ("12.25",), 1.0),
        ("1,225.", ("1225",), 1.0),
        ("1225", ("12.25",), 0.0),
        ("$12.25", ("12.25",), 1.0),
        (".5.", ("0.5",), 1.0),
        ("12 yards", ("12",), 0.67),  # a word too many, by DROP's own metric
        ("Denver", ("Denver", "Carolina"), 0.5),
        ("Carolina and Denver.", ("Denver", "Carolina"), 1.0),
        ("Denver, Carolina, Dallas", ("Denver", "Carolina"), 0.67),
        ("Indianapolis, Indiana", ("Indianapolis, Indiana",), 1.0),
        ("Indianapolis", ("Indianapolis, Indiana",), 0.67),
        ("July 4, 1776", ("4 July 1776",), 1.0),
        ("O\u2019Brien", ("O'Brien",), 1.0),
        ("2000\u20132001", ("2000-2001",), 1.0),
        ("nobody", ("Denver",), 0.0),
        ("", ("Denver",), 0.0),
    ],
)
def test_a_text_is_read_as_one_span_and_as_several(text, gold, f1):
    assert answer_scores(text, gold)[1] == pytest.approx(f1)


def test_the_leaderboard_takes_a_text_for_one_span():
    assert exact_match_and_f1("12.25.", ("12.25",)) == (0.0, 0.0)
    assert exact_match_and_f1("Denver, Carolina", ("Denver", "Carolina")) == (0.0, 0.33)
    empty = {"day": "", "month": "", "year": ""}
    row = {"passage": "", "question": "", "answer": {"number": "12.25", "date": empty, "spans": []}}
    row["validated_answers"] = {"number": [], "date": [], "spans": []}
    document = Document("drop", 0, 0, row, ())
    assert Leaderboard().score(DROP, document, [Answer("12.25.")]).metric_value == 0.0
    assert Orca("").score(DROP, document, [Answer("12.25.")]).metric_value == 1.0


def test_only_what_stands_behind_answer_is_counts():
    assert text_after_answer_is("So the answer is Denver. The answer is: Dallas").strip() == "Dallas"
    assert text_after_answer_is("Arizona answered with a goal") == "Arizona answered with a goal"
    assert text_after_answer_is("Denver is the answer:") == "Denver is the answer:"


# --- rows that cannot be scored ---------------------------------------------------------------------------------------

ARC = {"question": "q", "choices": {"text": ["a", "b"], "label": ["A", "B"]}, "answerKey": "A"}
HELLASWAG = {"activity_label": "a", "ctx_a": "b", "ctx_b": "c", "endings": ["d", "e"], "label": "0"}
MMLU = {"question": "q", "subject": "s", "choices": list("abcd"), "answer": 0}
TARGETS = {"choices": ["t", "f"], "labels": [1, 0]}
TRUTHFUL_QA = {"question": "q", "mc1_targets": TARGETS, "mc2_targets": TARGETS}
WINOGRANDE = {"sentence": "a _ b", "option1": "c", "option2": "d", "answer": "1"}
NO_DATE = {"day": "", "month": "", "year": ""}
NO_ANSWER = {"number": "", "date": NO_DATE, "spans": []}
NONE_VALIDATED = {"number": [""], "date": [NO_DATE], "spans": [[]]}


@pytest.mark.parametrize(
    ("name", "row", "changes", "message"),
    [
        (
            "arc_challenge",
            ARC,
            {"answerKey": ""},
            "answerKey '' is none of the labels A, B; a split whose answers are hidden",
        ),
        ("arc_challenge", ARC, {"answerKey": "C"}, "answerKey 'C' is none of the labels A, B"),
        ("arc_challenge", ARC, {"answerKey": "1"}, "answerKey '1' is none of the labels A, B"),
        ("hellaswag", HELLASWAG, {"label": ""}, "label '' is not the number of an ending"),
        ("hellaswag", HELLASWAG, {"label": -1}, "label '-1' is not the number of an ending"),
        ("hellaswag", HELLASWAG, {"label": 2}, "choice 2 of 2, counted from 0"),
        ("mmlu", MMLU, {"answer": -1}, "choice -1 of 4"),
        ("mmlu", MMLU, {"answer": 4}, "choice 4 of 4"),
        ("mmlu", MMLU, {"choices": list("abc")}, "3 choices, and 4 are lettered"),
        ("truthful_qa", TRUTHFUL_QA, {"mc1_targets": {"choices": ["t"], "labels": [0]}}, "mc1_targets: labels are 1"),
        ("truthful_qa", TRUTHFUL_QA, {"mc2_targets": {"choices": ["t"], "labels": [-1]}}, "mc2_targets: labels are 1"),
        ("winogrande", WINOGRANDE, {"answer": ""}, "answer '' is neither '1' nor '2'"),
        ("winogrande", WINOGRANDE, {"answer": "3"}, "answer '3' is neither"),
        ("gsm8k", {"question": "q", "answer": "18"}, {}, "no '#### NUMBER' in the answer"),
        ("gsm8k", {"question": "q", "answer": "#### ."}, {}, "'#### .' in the answer is not a number"),
        (
            "drop",
            {"passage": "p", "question": "q", "answer": NO_ANSWER, "validated_answers": NONE_VALIDATED},
            {},
            "no number, span or date in any of its answers",
        ),
    ],
)
def test_a_row_whose_right_answer_is_missing_is_refused_by_line(tmp_path, name, row, changes, message):
    task = BY_NAME[name]
    (tmp_path / name).mkdir()
    lines = [json.dumps(row | changes)]
    if name in ("arc_challenge", "hellaswag", "mmlu", "truthful_qa", "winogrande"):
        task.check_evaluation_row(row)
        lines.insert(0, json.dumps(row))
    file = tmp_path / name / f"{task.evaluation_split}.jsonl"
    file.write_text("".join(line + "\n" for line in lines))
    with pytest.raises(UserError) as refused:
        benchmark_rows.load_task_rows(task, tmp_path)
    assert f"{file}:{len(lines)}" in str(refused.value.where) and message in refused.value.problem


def test_arc_finds_the_right_choice_by_its_label():
    row = ARC | {"choices": {"text": ["a", "b", "c"], "label": ["C", "A", "B"]}}
    assert BY_NAME["arc_challenge"].gold(row) == 1


def test_an_example_of_drop_may_have_no_answer():
    """As one row of the real train split."""
    row = {"passage": "p", "question": "q", "answer": NO_ANSWER, "validated_answers": NONE_VALIDATED}
    DROP.check_example_row(row)  # raises where a row cannot be an example
    assert DROP.few_shot_answer(row) == " "
