"""The JSON schema is that of the models, and the results that are kept in this repository are valid by it."""

import json

import pytest
from checkout import ROOT
from jsonschema import Draft202012Validator

from orca_bench.results import reading, schema
from orca_bench.results.models import Result
from orca_bench.results.task_results import OTHER_ROWS, UNVERIFIED_ROWS

RESULTS = sorted(path for path in (ROOT / "results").rglob("*.json") if reading.is_result_file(path))


def test_the_schema_is_that_of_the_models():
    assert schema.SCHEMA_PATH.read_text(encoding="utf-8") == schema.schema_text(), (
        "run python -m orca_bench.results.schema"
    )


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: str(path.relative_to(ROOT / "results")))
def test_a_kept_result_is_valid_is_read_and_gives_the_same_json_again(path):
    text = path.read_text(encoding="utf-8")
    content = json.loads(text)
    Draft202012Validator(schema.result_schema()).validate(content)
    result = reading.read_result(path)
    again = Result.from_file_content(content).to_json()
    assert json.dumps(again, indent=1, ensure_ascii=False) + "\n" == text
    assert result.file_content == content and Result.model_validate(result.to_json()) == result


def test_a_result_of_an_earlier_format_says_what_is_known_of_its_rows(tmp_path):
    content = json.loads((ROOT / "results/llama15m/orca-limit300.json").read_text(encoding="utf-8"))
    assert content["format"] == "orca-bench result 2"
    content["tasks"]["gsm8k"]["rows"] -= 1
    path = tmp_path / "r.json"
    path.write_text(json.dumps(content))
    tasks = reading.read_result(path).tasks
    assert tasks["gsm8k"].row_check == {"test": OTHER_ROWS, "train": OTHER_ROWS}
    assert tasks["truthful_qa"].row_check == {"validation": UNVERIFIED_ROWS}


def test_lines_of_questions_are_valid_and_give_the_same_lines_again():
    validator = Draft202012Validator(schema.result_schema() | {"$ref": "#/$defs/Question"})
    for path in RESULTS:
        file = reading.questions_path_for(path)
        if not file.is_file():
            continue
        lines = file.read_text(encoding="utf-8").splitlines()
        for line, (_, question) in zip(lines, reading.read_questions(file), strict=True):
            assert json.dumps(question.to_json(), ensure_ascii=False) == line
        for line in lines[::50]:
            validator.validate(json.loads(line))


@pytest.mark.parametrize(
    ("place", "value"), [(("suite", "comparable"), "yes"), (("tasks", "gsm8k", "value"), 2), (("limit",), 0)]
)
def test_a_result_with_a_wrong_value_is_not_valid(place, value):
    content = json.loads(RESULTS[0].read_text(encoding="utf-8"))
    holder = content
    for key in place[:-1]:
        holder = holder[key]
    holder[place[-1]] = value
    assert not Draft202012Validator(schema.result_schema()).is_valid(content)
