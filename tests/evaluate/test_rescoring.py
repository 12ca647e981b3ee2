"""A question is compared with the same question scored anew, each written as JSON once."""

from orca_bench.evaluate import rescoring
from orca_bench.results.models import Question


def test_each_question_is_written_as_json_once_for_a_comparison(monkeypatch):
    calls, to_json = [], Question.to_json

    def recorded(self):
        calls.append(self)
        return to_json(self)

    monkeypatch.setattr(Question, "to_json", recorded)
    question = Question(task="gsm8k", index=0, row=0, prediction="1", gold="1", score=1.0, answers=["1"])
    assert rescoring._describe_difference(question, question) is None and len(calls) == 2
    other = Question(task="gsm8k", index=0, row=0, prediction="2", gold="1", score=0.0, answers=["1"])
    assert rescoring._describe_difference(question, other) == "prediction '1' stored, '2' by its answers"
