"""The typed parts of a result: what they take."""

from orca_bench.results.models import ModelDescription, Question
from orca_bench.results.protocol_description import ProtocolDescription


def test_a_model_of_trillions_of_parameters_has_a_description():
    assert ModelDescription(name="m", parameters=2 * 10**12).parameters == 2 * 10**12


def test_a_question_gives_the_json_back_that_pydantic_gives():
    line = {
        "score": 1,
        "row": 3,
        "new": {"a": [1]},
        "task": "mmlu_law",
        "answers": [-1, "x"],
        "rule": None,
        "gold": [2],
    }
    question = Question.model_validate(line)
    question.cluster = "c"
    assert question.to_json() == question.model_dump(exclude_unset=True) == line | {"cluster": "c"}
    assert list(question.to_json()) == list(question.model_dump(exclude_unset=True)) == [*line, "cluster"]
    question.to_json()["answers"].append(0)
    assert len(question.answers) == 2


def test_protocols_are_compared_for_the_tasks_in_question_and_whole_in_everything_else():
    def description(**keys):
        return ProtocolDescription.model_validate({"name": "orca", "version": 2, "max_new_tokens": 256} | keys)

    def differing(one, other):
        return description(**one).differing_keys(description(**other), {"gsm8k", "drop"})

    assert (
        differing({"scoring": {"gsm8k": "a", "drop": "b"}}, {"scoring": {"gsm8k": "a", "drop": "b", "new": "c"}}) == []
    )
    assert differing({"scoring": {"gsm8k": "a"}}, {"scoring": {"gsm8k": "b"}}) == ["scoring"]
    assert differing({}, {"max_new_tokens": {"gsm8k": 256, "drop": 256, "new": 9}}) == []
    assert differing({}, {"max_new_tokens": {"gsm8k": 512, "drop": 256}}) == ["max_new_tokens"]
    assert differing({"rounding": {"to": 1}}, {"rounding": "up"}) == ["rounding"]  # a mapping, but none by task


def test_a_protocol_without_a_version_is_called_by_its_name_alone():
    assert ProtocolDescription(name="orca", version=2).name_and_version == "orca v2"
    assert ProtocolDescription(name="orca").name_and_version == "orca"
