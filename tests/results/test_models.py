"""The typed parts of a result: what they take."""

from orca_bench.results.models import ModelDescription, Question


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
