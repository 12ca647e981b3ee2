"""Publishing: the card of the seed from its scores, cards that keep their text, and what does not belong on one."""

import json
import os
from pathlib import Path

import pytest
import yaml

from orca_bench.errors import UserError
from orca_bench.report import card, table

SEED = Path(__file__).resolve().parents[2] / "shared" / "seeds"


@pytest.fixture(scope="module")
def seed():
    """The original model card's text."""
    files = sorted(SEED.glob("*.txt")) if SEED.is_dir() else []
    if not files:
        pytest.skip("the original model card is not on this machine")
    return files[0].read_text(encoding="utf-8")


def test_the_seeds_card_comes_out_of_its_scores(seed):
    front, body = card.split(seed, Path("seed"))
    reported = table.read_reported()
    url = "https://huggingface.co/spaces/HuggingFaceH4/open_llm_leaderboard?query=psmathur/orca_mini_13b"
    scores = {task: value for task, value in reported["tasks"].items() if task != "drop"}
    made = card.eval_results(scores, card.Source("Open LLM Leaderboard", url))
    bare = {key: value for key, value in front.items() if key != "model-index"}
    rest = f"---\n{yaml.safe_dump(bare, sort_keys=False)}---\n{body}"
    again_front, again_body = card.split(card.update(rest, "orca_mini_13b", made, Path("card")), Path("card"))
    assert again_front == front and again_body == body
    # Put upon the card that has them, nothing changes.
    assert card.split(card.update(seed, "orca_mini_13b", made, Path("card")), Path("card")) == (front, body)


def test_the_hubs_own_classes_read_the_card():
    from huggingface_hub import ModelCard

    made = card.update(None, "m", card.eval_results({"gsm8k": 12.5, "drop": 3.0}, None), Path("card"))
    read = ModelCard(made).data.eval_results
    assert [(r.dataset_type, r.metric_type, r.metric_value, r.dataset_args) for r in read] == [
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


def test_an_existing_card_keeps_its_text_its_metadata_and_other_models():
    once = card.update(CARD, "m", card.eval_results({"mmlu": 30.0}, None), Path("card"))
    twice = card.update(once, "m", card.eval_results({"mmlu": 31.0, "gsm8k": 1.0}, None), Path("card"))
    front, body = card.split(twice, Path("card"))
    assert body == "\n# My own words\n\n--- not front matter\n"
    assert front["license"] == "mit" and front["tags"] == ["ünï"]
    assert [entry["name"] for entry in front["model-index"]] == ["other", "m"]
    values = [result["metrics"][0]["value"] for result in front["model-index"][1]["results"]]
    assert values == [31.0, 1.0]


@pytest.mark.parametrize("text", ["# Only text\n", "", "---\n---\nx\n"])
def test_a_card_without_metadata_gets_some_and_keeps_its_text(text):
    front, body = card.split(
        card.update(text, "m", card.eval_results({"mmlu": 30.0}, None), Path("card")), Path("card")
    )
    assert front["model-index"][0]["name"] == "m" and body == text.removeprefix("---\n---\n")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("---\na: [\n---\n", "not YAML"),
        ("---\n- a\n---\n", "not a mapping"),
        ("---\na: 1\n", "no end"),
        ("---\nmodel-index: 3\n---\n", "not a list of models"),
        ("---\nmodel-index:\n- name: m\n  results: [x]\n---\n", "not a list of models"),
    ],
)
def test_broken_metadata_is_refused(text, said):
    with pytest.raises(UserError, match=said):
        card.update(text, "m", card.eval_results({"mmlu": 30.0}, None), Path("card"))


def result(tmp_path, name="r.json", comparable=True, protocol="leaderboard", fingerprint="f", limit=None):
    tasks = {
        n: {"title": t, "metric": m, "value": 0.25, "stderr": 0.01, "n": 10, "interval": [0.2, 0.3]}
        for n, t, _, m in table.TASKS
    }
    mean = {"value": 0.25, "stderr": 0.01, "interval": [0.23, 0.27]}
    told = {
        "format": "orca-bench result 2",
        "complete": True,
        "suite": {"name": "s", "comparable": comparable},
        "protocol": {"name": protocol, "version": 1},
        "model": {"name": "m", "path": None, "fingerprint": fingerprint},
        "limit": limit,
        "tasks": tasks,
        "averages": {"all seven": mean, "six without DROP": mean},
    }
    (tmp_path / name).write_text(json.dumps(told))
    (tmp_path / name).with_suffix(".questions.jsonl").write_text("")
    return tmp_path / name


def test_publish_writes_tables_and_a_card_and_says_the_protocol(command, tmp_path):
    result(tmp_path)
    result(tmp_path, "orca.json", protocol="orca", limit=100)
    done = command("publish", "r.json", "orca.json", "--source-url", "https://example.org/m")
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "results" / "m"
    assert {path.name for path in folder.iterdir()} == {
        *("r.json", "r.questions.jsonl", "orca.json", "orca.questions.jsonl"),
        *("table.md", "table.csv", "table.tex", "table.html", "README.md", "index.html", "scores.png", "scores.svg"),
    }
    front, _ = card.split((folder / "README.md").read_text(), folder)
    names = [entry["dataset"]["name"] for entry in front["model-index"][0]["results"]]
    assert "MMLU (5-Shot)" in names and "MMLU (5-Shot), protocol orca v1, first 100 questions" in names
    assert front["model-index"][0]["results"][0]["source"] == {"name": "orca-bench", "url": "https://example.org/m"}
    assert r"\begin{tabular}" in (folder / "table.tex").read_text()


def test_the_mini_suite_stays_off_the_card(command, tmp_path):
    result(tmp_path, comparable=False)
    done = command("publish", "r.json")
    assert done.returncode == 0 and "do not belong on a model card" in done.stderr
    assert not (tmp_path / "results" / "m" / "README.md").exists()


def test_what_cannot_be_published_is_refused_before_anything_is_written(command, tmp_path):
    result(tmp_path)
    result(tmp_path, "b.json", fingerprint="g")
    assert "models with other weights" in command.refused("publish", "r.json", "b.json")
    (tmp_path / "card.md").write_text("---\na: [\n---\n")
    assert "card.md:" in command.refused("publish", "r.json", "--card", "card.md")
    assert not (tmp_path / "results").exists()
    environment = {key: value for key, value in os.environ.items() if key != "HF_TOKEN"} | {"HF_TOKEN": ""}
    done = command("publish", "r.json", "--push", "me/m", env=environment)
    assert done.returncode == 2 and "set HF_TOKEN" in done.stderr
