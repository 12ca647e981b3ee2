"""Entries and questions of tasks that the suite does not have: what they may hold, and that they come back as they were."""

import json

import pytest
from harness_results import harness_result
from jsonschema import Draft202012Validator

from orca_bench.errors import UserError
from orca_bench.results import reading, schema
from orca_bench.results.harness_summary import unit_of_values
from orca_bench.results.models import HarnessQuestion, Question, question_from_json
from orca_bench.results.task_facts import display_factor, facts_of, ordered_names, tasks_of
from orca_bench.results.task_results import HarnessTaskResult, TaskResult


def test_a_result_describes_tasks_that_the_suite_does_not_have(tmp_path):
    result = harness_result(tmp_path / "r.json").result
    assert list(result.tasks) == ["arc_easy", "wikitext", "pair"]
    perplexity = result.tasks["wikitext"]
    assert isinstance(perplexity, HarnessTaskResult) and perplexity.value > 30 and perplexity.unit == "perplexity"
    facts = facts_of(result, "wikitext")
    assert not facts.higher_is_better and facts.unit == "perplexity" and display_factor(facts) == 1
    assert facts.evaluation_split == "test" and result.evaluation_row_hash(facts) == "d" * 64
    assert [facts.name for facts in tasks_of([result])] == ["arc_easy", "wikitext", "pair"]
    assert result.averages["all seven"].value is None


def test_the_file_is_valid_by_the_schema_and_gives_the_same_json_again(tmp_path):
    harness_result(tmp_path / "r.json")
    content = json.loads((tmp_path / "r.json").read_text())
    validator = Draft202012Validator(schema.result_schema())
    validator.validate(content)
    assert json.dumps(reading.read_result(tmp_path / "r.json").to_json()) == json.dumps(content)
    question_schema = Draft202012Validator(schema.result_schema() | {"$ref": "#/$defs/HarnessQuestion"})
    for line in (tmp_path / "r.questions.jsonl").read_text().splitlines():
        question_schema.validate(json.loads(line))
        assert json.dumps(question_from_json(json.loads(line)).to_json(), ensure_ascii=False) == line
    del content["tasks"]["wikitext"]["harness"]  # then it is an entry of the suite, of fractions alone
    assert not validator.is_valid(content)


def test_questions_belong_to_the_entry_that_they_name_and_not_to_the_suites_task_of_such_a_name(tmp_path):
    file = harness_result(tmp_path / "r.json")
    assert {name: len(task.questions_by_key) for name, task in file.questions_by_task.items()} == {
        "arc_easy": 40,
        "wikitext": 12,
        "pair": 60,
    }
    question = question_from_json({"task": "mmlu_pro_law", "group": "mmlu_pro_law", "row": 0, "score": -70.5})
    assert isinstance(question, HarnessQuestion) and question.suite_task == "mmlu_pro_law"
    assert question.subject == "mmlu_pro_law"
    assert Question(task="mmlu_law", row=0, score=1).suite_task == "mmlu"


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [("value", 1.5, "'tasks.arc_easy.value'"), ("harness", None, "unknown task 'arc_easy'")],
)
def test_an_entry_without_a_description_is_held_to_fractions_and_to_the_suite(tmp_path, key, value, problem):
    harness_result(tmp_path / "r.json")
    content = json.loads((tmp_path / "r.json").read_text())
    del content["tasks"]["arc_easy"]["harness"]
    if key == "value":
        content["tasks"]["arc_easy"][key] = value
    for name in ("wikitext", "pair"):
        del content["tasks"][name]
    (tmp_path / "r.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=problem):
        reading.read_result(tmp_path / "r.json")


def test_the_suites_tasks_stand_first_in_its_order():
    assert ordered_names(["wikitext", "gsm8k", "arc_easy", "arc_challenge", "wikitext"]) == [
        *("arc_challenge", "gsm8k", "wikitext", "arc_easy")
    ]
    assert display_factor(TaskResult(title="t", metric="acc", n=1, value=0.5)) == 100


@pytest.mark.parametrize(
    ("name", "aggregation", "value", "unit"),
    [
        ("acc", "mean", 0.5, ""),
        ("exact_match,strict-match", "mean", 0.5, ""),
        ("pct_stereotype", "mean", 0.5, ""),
        ("f1", "f1", 0.5, ""),
        ("mcc", "matthews_corrcoef", -0.2, ""),
        ("f1", "_squad_agg", 0.5, "points"),
        ("f1", "mean", 45.0, "points"),
        ("likelihood_diff", "mean", 0.5, "points"),
        ("rouge1_max", "mean", 0.5, "points"),
        ("bleu", "bleu", 0.5, "points"),
        ("perplexity", "perplexity", 3.0, "perplexity"),
        ("bits_per_byte", "bits_per_byte", 0.5, "bits per byte"),
    ],
)
def test_the_unit_of_a_metric_is_that_of_its_name_whatever_a_model_scores(name, aggregation, value, unit):
    assert unit_of_values(name, aggregation, value, []) == unit
