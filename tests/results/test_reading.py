"""Questions are read as they stand in their file."""

import gc

import pytest

from orca_bench.errors import UserError
from orca_bench.results import reading
from orca_bench.results.models import Question


def test_the_collector_rests_while_questions_are_read_and_works_again_after_it(tmp_path, monkeypatch):
    states, validate = [], Question.model_validate

    def recorded(line):
        states.append(gc.isenabled())
        return validate(line)

    monkeypatch.setattr(Question, "model_validate", recorded)
    file = tmp_path / "r.questions.jsonl"
    file.write_text('{"task": "gsm8k", "row": 0, "score": 1.0}\n{"task": "gsm8k"}\n')
    with pytest.raises(UserError, match="a question without"):
        reading.read_questions(file)
    assert states == [False, False] and gc.isenabled()
