"""The model card: that of the seed from its scores, cards that keep their text, and what a score says of itself."""

from pathlib import Path

import pytest
from result_contents import result_content
from synthetic_results import random_result

from orca_bench import yaml_files
from orca_bench.cards.card_document import marked_section, parse_card
from orca_bench.cards.model_facts import ModelFacts, TrainingFacts
from orca_bench.errors import UserError
from orca_bench.recipe import Card as CardRecipe
from orca_bench.recipe import Data, Model, Recipe
from orca_bench.report.model_card import ScoreSource, card_scores, eval_results, update_card
from orca_bench.report.reported_scores import read_reported_scores
from orca_bench.results.migration import migrate_result
from orca_bench.results.models import Result

SEED = Path(__file__).resolve().parents[3] / "shared" / "seeds"


def split_card(text, where):
    card = parse_card(text, where)
    return card.metadata, card.body


@pytest.fixture(scope="module")
def seed():
    """The original model card's text."""
    files = sorted(SEED.glob("*.txt")) if SEED.is_dir() else []
    if not files:
        pytest.skip("the original model card is not on this machine")
    return files[0].read_text(encoding="utf-8")


def test_the_seeds_card_comes_out_of_its_scores(seed):
    metadata, body = split_card(seed, Path("seed"))
    reported = read_reported_scores()
    url = "https://huggingface.co/spaces/HuggingFaceH4/open_llm_leaderboard?query=psmathur/orca_mini_13b"
    scores = {task: value for task, value in reported.tasks.items() if task != "drop"}
    results = eval_results(scores, ScoreSource("Open LLM Leaderboard", url))
    others = {key: value for key, value in metadata.items() if key != "model-index"}
    rest = f"---\n{yaml_files.to_yaml_text(others)}---\n{body}"
    metadata_again, body_again = split_card(update_card(rest, "orca_mini_13b", results, Path("card")), Path("card"))
    assert metadata_again == metadata and body_again == body
    # Put upon the card that has them, nothing changes.
    assert split_card(update_card(seed, "orca_mini_13b", results, Path("card")), Path("card")) == (metadata, body)


def test_the_hubs_own_classes_read_the_card():
    from huggingface_hub import ModelCard

    text = update_card(None, "m", eval_results({"gsm8k": 12.5, "drop": 3.0}, None), Path("card"))
    results = ModelCard(text).data.eval_results
    assert [(r.dataset_type, r.metric_type, r.metric_value, r.dataset_args) for r in results] == [
        ("gsm8k", "acc", 12.5, {"num_few_shot": 5}),
        ("drop", "f1", 3.0, {"num_few_shot": 3}),
    ]


CARD = """---
license: mit
tags:
- ünï
model-index:
- name: other
  results: []
---

# My own words

--- not front matter
"""


def test_an_existing_card_keeps_comments_quotes_and_norwegian():
    text = "---\n# why this licence\nlicense: 'mit'  # as the data\nlanguage:\n- no\nversion: 1.10\ndate: 2024-01-02\n---\nbody\n"
    after = update_card(text, "m", eval_results({"mmlu": 30.0}, None), Path("card"))
    assert after.startswith(text.split("---\nbody")[0]) and after.endswith("---\nbody\n")


def test_scores_of_all_questions_take_the_place_of_those_of_a_part():
    part = eval_results({"mmlu": 30.0, "gsm8k": 2.0}, None, dict.fromkeys(["mmlu", "gsm8k"], "first 20 questions, x"))
    once = update_card(CARD, "m", part, Path("card"))
    twice = update_card(once, "m", eval_results({"mmlu": 31.0}, None, {"mmlu": "x"}), Path("card"))
    names = [entry["dataset"]["name"] for entry in split_card(twice, Path("card"))[0]["model-index"][1]["results"]]
    assert names == ["GSM8k (5-shot), first 20 questions, x", "MMLU (5-Shot), x"]


def test_scores_of_a_part_go_from_the_metadata_where_they_are_not_wanted_any_more():
    part = eval_results({"mmlu": 30.0}, None, {"mmlu": "first 20 questions"})
    once = update_card(CARD, "m", part, Path("card"))
    assert split_card(update_card(once, "m", [], Path("card"), keeps_partial=False), Path("card")) == split_card(
        CARD, Path("card")
    )
    assert update_card(once, "m", [], Path("card")) == once


def test_a_licence_that_became_known_takes_the_place_of_unknown_alone():
    facts = ModelFacts("m", "m", True, TrainingFacts(recipe_with_licence("apache-2.0")))
    for old, new in (("unknown", "apache-2.0"), ("mit", "mit")):
        text = f"---\nlicense: {old}\n---\n"
        assert split_card(update_card(text, "m", [], Path("card"), facts), Path("card"))[0] == {"license": new}


def recipe_with_licence(licence):
    return Recipe(name="m", model=Model(base="b"), data=Data(records=["r"]), card=CardRecipe(license=licence))


def test_a_card_without_marks_gets_the_scores_at_its_end_and_one_with_marks_between_them():
    sections = {"scores": "new\n", "data": "new\n"}
    appended = update_card(CARD, "m", [], Path("card"), sections=sections)
    assert appended == CARD + "\n## Scores\n\n" + marked_section("scores", "\nnew\n\n")
    assert update_card(appended, "m", [], Path("card"), sections=sections) == appended


def test_a_card_that_the_hubs_library_does_not_read_is_refused():
    with pytest.raises(UserError, match="huggingface_hub does not read this card"):
        update_card("---\nmodel-index:\n- name: m\n  results:\n  - task: {}\n---\n", "x", [], Path("card"))


def test_an_existing_card_keeps_its_text_its_metadata_and_other_models():
    once = update_card(CARD, "m", eval_results({"mmlu": 30.0}, None), Path("card"))
    twice = update_card(once, "m", eval_results({"mmlu": 31.0, "gsm8k": 1.0}, None), Path("card"))
    metadata, body = split_card(twice, Path("card"))
    assert body == "\n# My own words\n\n--- not front matter\n"
    assert metadata["license"] == "mit" and metadata["tags"] == ["ünï"]
    assert [entry["name"] for entry in metadata["model-index"]] == ["other", "m"]
    values = [result["metrics"][0]["value"] for result in metadata["model-index"][1]["results"]]
    assert values == [31.0, 1.0]


@pytest.mark.parametrize("text", ["# Only text\n", "", "---\n---\nx\n"])
def test_a_card_without_metadata_gets_some_and_keeps_its_text(text):
    metadata, body = split_card(update_card(text, "m", eval_results({"mmlu": 30.0}, None), Path("card")), Path("card"))
    assert metadata["model-index"][0]["name"] == "m" and body == text.removeprefix("---\n---\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("---\na: [\n---\n", "not YAML"),
        ("---\n- a\n---\n", "not a mapping"),
        ("---\na: 1\n", "no end"),
        ("---\nmodel-index: 3\n---\n", "not a list of models"),
        ("---\nmodel-index:\n- name: m\n  results: [x]\n---\n", "not a list of models"),
        ("---\nmodel-index:\n- name: m\n  results: [{metrics: 5}]\n---\n", "not a list of models"),
    ],
)
def test_broken_metadata_is_refused(text, message):
    with pytest.raises(UserError, match=message):
        update_card(text, "m", eval_results({"mmlu": 30.0}, None), Path("card"))


def scores_on_card(content):
    """(scores, notes) of the card, of a result file's JSON."""
    return card_scores(migrate_result(Result.from_file_content(content)))


def test_each_number_on_the_card_says_what_makes_it_another_than_the_leaderboards(tmp_path):
    result = random_result(tmp_path, "m", 0.5, tasks=["gsm8k"]).result.to_json()
    entry = result["tasks"]["gsm8k"]
    for change, note in (
        ({}, None),
        ({"limit": 10}, "first 10 questions"),
        ({"limit": 1}, "first question"),
        ({"row_check": {"test": "other", "train": "true"}, "rows": 10}, "other rows (10)"),
        ({"row_check": {"test": "not verified", "train": "true"}}, "rows not verified"),
        ({"row_check": {"test": "true", "train": "other"}}, "other few-shot examples"),
        ({"protocol": {"name": "orca", "version": 2, "system": "x"}}, "protocol orca v2, a system message of its own"),
        ({"protocol": {"name": "orca", "version": 2}, "shortened": 7}, "protocol orca v2, 7 contexts cut"),
        ({"protocol": {"name": "leaderboard", "version": 1, "max_length": 512}}, "window 512"),
    ):
        heading = {key: value for key, value in change.items() if key in result}
        own = entry | {key: value for key, value in change.items() if key not in result}
        _, notes = scores_on_card({**result, **heading, "tasks": {"gsm8k": own}})
        assert notes == ({} if note is None else {"gsm8k": note})
    older = {
        **result,
        "format": "orca-bench result 2",
        "tasks": {"gsm8k": {key: value for key, value in entry.items() if key != "row_check"}},
    }
    assert scores_on_card(older)[1] == {"gsm8k": "rows not verified"}
    older["tasks"]["gsm8k"] |= {"rows": 10, "full_size": 1319}
    assert scores_on_card(older)[1] == {"gsm8k": "other rows (10)"}


def test_a_task_that_the_suite_does_not_have_stands_in_no_metadata():
    content = result_content(names=["mmlu"])
    content["tasks"]["elsewhere"] = content["tasks"]["mmlu"] | {"title": "Elsewhere"}
    scores, _ = scores_on_card(content)
    assert scores == {"mmlu": 50.0} and len(eval_results(scores, None)) == 1


def test_a_score_on_questions_in_the_records_says_so_in_the_metadata_and_stands_there_once(tmp_path):
    def card_with(overlapping, text=None):
        result = random_result(
            tmp_path, "m", 0.5, tasks=["gsm8k"], overlapping=overlapping, file=f"{overlapping['gsm8k']}.json"
        ).result
        scores, notes = card_scores(result)
        return update_card(text, "m", eval_results(scores, ScoreSource("s", "https://e.org"), notes), Path("card"))

    def names(text):
        metadata, _ = split_card(text, Path("card"))
        return [entry["dataset"]["name"] for entry in metadata["model-index"][0]["results"]]

    clean = card_with({"gsm8k": 0})
    assert not any("overlap" in name for name in names(clean))
    marked = card_with({"gsm8k": 12}, clean)
    (name,) = names(marked)
    assert "12 of 80 questions overlap with the training records" in name
    (name,) = names(card_with({"gsm8k": 5}, marked))
    assert "5 of 80 questions overlap with the training records" in name
