"""lm-eval's own scores become scored questions: what is above 1 by rounding is 1, what is no number is refused by name."""

import pytest

from orca_bench.errors import UserError
from orca_bench.evaluate.harness.lm_eval_instances import ScoreResponse
from orca_bench.evaluate.harness.plain_protocol import HarnessPart, harness_facts, question_of_sample
from orca_bench.evaluate.protocols import Answer
from orca_bench.evaluate.tasks import select

(TASK,) = select("truthful_qa")
ROW = {
    "question": "Q",
    "mc1_targets": {"choices": ["a", "b"], "labels": [1, 0]},
    "mc2_targets": {"choices": ["a", "b"], "labels": [1, 0]},
}
PART = HarnessPart("truthfulqa_mc2", [7], [ROW], [])


def sample(score):
    """A sample of lm-eval for the row, with a score."""
    responses = [[ScoreResponse(Answer(value, is_greedy=False))] for value in (-1.0, -2.0)]
    return {"doc_id": 0, "resps": responses, harness_facts(TASK).metric: score}


def test_a_score_that_is_above_one_by_rounding_is_one():
    assert question_of_sample(TASK, PART, sample(1.0000000000000002)).score == 1.0


def test_a_score_that_is_no_number_is_refused_with_the_question_named():
    with pytest.raises(UserError, match=r"truthfulqa_mc2 document 0 \(row 7\).*NaN"):
        question_of_sample(TASK, PART, sample(float("nan")))
