"""A protocol's score becomes a question: a share of 1 at most."""

import pytest

from orca_bench.evaluate.protocols import Answer
from orca_bench.evaluate.scoring import question_of
from orca_bench.evaluate.tasks import select


def test_mc2_that_rounding_brings_above_one_is_one():
    (task,) = select("truthful_qa")
    row = {"question": "Q", "mc2_targets": {"choices": list("abcdefgh"), "labels": [1] * 8}}
    log_probabilities = [-1.9, -16.0, -19.7, -10.7, -14.1, -12.0, -2.9, -2.0]
    score = task.score(row, log_probabilities)
    assert 1 < score.metric_value < 1 + 1e-12
    question = question_of(("truthful_qa", 0, 0), score, [Answer(value) for value in log_probabilities])
    assert question.score == 1.0


def test_a_score_that_is_no_share_is_refused():
    (task,) = select("truthful_qa")
    row = {"question": "Q", "mc2_targets": {"choices": ["a", "b"], "labels": [1, 0]}}
    score = task.score(row, [-1.0, -2.0])
    with pytest.raises(ValueError, match="score"):
        question_of(("truthful_qa", 0, 0), type(score)(1.1, score.prediction, score.gold_answer, {}), [Answer(-1.0)])
