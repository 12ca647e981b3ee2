"""The first card of a run: what it says, what it does not give away, and that its snippet runs."""

import re
import shutil
from pathlib import Path

import pytest
from finished_runs import make_run

from orca_bench.cards import card_text, model_facts
from orca_bench.cards.card_document import parse_card
from orca_bench.cards.data_sets import known_data_set
from orca_bench.cards.run_card import write_first_card
from orca_bench.prompt import render
from orca_bench.system_messages import SYSTEM_MESSAGES


def card_of(run):
    return parse_card(write_first_card(run).read_text(encoding="utf-8"), Path("README.md"))


def test_it_says_what_the_run_says_and_calls_the_rest_not_known(tmp_path):
    run = make_run(tmp_path)
    card = card_of(run)
    assert dict(card.metadata) == {
        "license": "unknown",
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["orca", "orca-bench"],
    }
    assert card.section_names(run) == list(card_text.SECTIONS)
    for text in (
        "a language model of 15.2 million parameters, trained from random weights on 40 instruction records",
        "It has not been evaluated yet",
        render(SYSTEM_MESSAGES[5], "Why is the sky blue?"),
        "3 records were cut at 256 tokens",
        "The language of its records is not stated.",
        "It has had no safety training",
        "This model: not stated.",
        "Data, the records: not known here.",
        "ab" * 32,
    ):
        assert text in card.body, text
    assert "/home/me" not in card.to_text() and "`records.jsonl`" in card.body


def test_it_says_type_size_and_files_of_the_weights_and_nothing_where_there_are_none(tmp_path):
    import torch
    from safetensors.torch import save_file

    run = make_run(tmp_path)
    assert "The weights" not in card_of(run).body
    (run / "model" / "README.md").unlink()
    for number in (1, 2):
        weights = {f"w{number}": torch.zeros(500_000, dtype=torch.bfloat16)}
        save_file(weights, run / "model" / f"model-0000{number}-of-00002.safetensors")
    assert "The weights are `bfloat16`, 2.00 MB in 2 files.\n\n```python" in card_of(run).body
    (run / "model" / "README.md").unlink()
    (run / "model" / "model-00002-of-00002.safetensors").unlink()
    assert "The weights are `bfloat16`, 1.00 MB.\n" in card_of(run).body


def test_a_training_that_ended_early_is_said_to_have_seen_a_part_of_its_records(tmp_path):
    text = card_of(make_run(tmp_path, steps=3)).body
    assert "on 24 of 40 instruction records" in text and "1,234" not in text


def test_a_model_of_generated_records_is_said_to_be_a_demonstration(tmp_path):
    records = [{"name": "x.jsonl", "rows": 40, "rows_by_source": {"mini/gsm8k": 30, "mini/drop": 10}}]
    text = card_of(make_run(tmp_path, records=records)).body
    assert "It is a demonstration" in text and "| `x.jsonl` | 40 | the generated corpus" in text


def test_the_recipe_states_licence_and_language_and_known_sets_have_theirs(tmp_path):
    sources = {"alpaca": 30, "wizardlm_test": 6, "faq": 4}
    records = [{"name": "mine.jsonl", "rows": 40, "rows_by_source": sources, "teachers": ["gpt-3.5-turbo-0301"]}]
    run = make_run(tmp_path, recipe_lines="card: {license: cc-by-nc-4.0, language: [en, de]}\n", records=records)
    card = card_of(run)
    assert card.metadata["license"] == "cc-by-nc-4.0" and card.metadata["language"] == ["en", "de"]
    for text in (
        "| `mine.jsonl` | 30 | gpt-3.5-turbo-0301 | Alpaca | CC BY-NC 4.0 |",
        "| `mine.jsonl` | 6 | gpt-3.5-turbo-0301 | WizardLM | CC BY-NC 4.0 |",
        "| `mine.jsonl` | 4 | gpt-3.5-turbo-0301 | – | not known |",
        "Data, the other records: not known here.",
        "do not allow commercial use",
        "under its provider's terms too",
    ):
        assert text in card.body, text


def test_sets_and_bases_of_the_hub_are_linked_and_stand_in_the_metadata(tmp_path):
    records = [
        {"name": f"psmathur/{name}_orca", "rows": 10, "sha256": "0", "commit": "c0ffee"}
        for name in ("alpaca", "dolly-v2")
    ]
    run = make_run(tmp_path, records=records, commits={"model.base": "abc"})
    text = (run / "recipe.yaml").read_text()
    base_text = "model:\n  base: openlm-research/open_llama_3b\n"
    (run / "recipe.yaml").write_text(re.sub(r"model:\n.*?(?=data:)", base_text, text, flags=re.DOTALL))
    card = card_of(run)
    assert card.metadata["base_model"] == "openlm-research/open_llama_3b" and card.metadata["language"] == ["en"]
    assert card.metadata["datasets"] == ["psmathur/alpaca_orca", "psmathur/dolly-v2_orca"]
    assert "fine-tuned from [openlm-research/open" in card.body and "has a licence of its own" in card.body
    assert "made from Alpaca, by its name | CC BY-NC 4.0; the set's own: see its page" in card.body


def test_the_hubs_own_classes_read_it(tmp_path):
    from huggingface_hub import ModelCard

    metadata = ModelCard(write_first_card(make_run(tmp_path)).read_text()).data.to_dict()
    expected = {"license": "unknown", "pipeline_tag": "text-generation", "library_name": "transformers"}
    assert expected.items() <= metadata.items()


def test_a_card_that_is_there_is_left_as_it_is_and_a_folder_without_a_recipe_gets_none(tmp_path):
    run = make_run(tmp_path)
    (run / "model" / "README.md").write_text("# Mine\n")
    assert write_first_card(run).read_text() == "# Mine\n"
    (run / "recipe.yaml").unlink()
    assert write_first_card(run) is None


def test_the_snippet_runs_as_it_is_printed(tmp_path, tiny_model, monkeypatch, capsys):
    run = make_run(tmp_path)
    shutil.copytree(tiny_model, run / "model", dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    text = write_first_card(Path("runs/tiny")).read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert 'name = "runs/tiny/model"' in code
    variables = {}
    exec(compile(code, "README.md", "exec"), variables)
    prompt_ids = variables["inputs"]["input_ids"][0]
    assert variables["tokenizer"].decode(prompt_ids, skip_special_tokens=True).strip() == (
        render(SYSTEM_MESSAGES[5], "Why is the sky blue?").strip()
    )
    assert capsys.readouterr().out


@pytest.mark.parametrize(
    "manifest",
    [
        {"records": 3},
        {"records": [{"name": 1, "rows": "x"}]},
        {"steps": -1, "cut": True},
        {"seconds": float("inf")},
        {"commits": {"model.base": 1}},
    ],
)
def test_a_manifest_of_other_types_gives_a_card_without_those_facts(tmp_path, manifest):
    assert "5 of 8 records" in card_of(make_run(tmp_path, **manifest)).body or "steps" in manifest


@pytest.mark.parametrize(
    ("name", "public_name"),
    [
        ("/home/me/x/a.jsonl", "a.jsonl"),
        ("~/x/a.jsonl", "a.jsonl"),
        ("../x/a.jsonl", "a.jsonl"),
        (r"C:\Users\me\a.jsonl", "a.jsonl"),
        ("records/a.jsonl", "records/a.jsonl"),
        ("me/set@main", "me/set@main"),
    ],
)
def test_folders_of_a_machine_are_not_published(name, public_name):
    assert model_facts.public_name(name) == public_name


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("tatsu-lab/alpaca", "Alpaca"),
        ("alpaca_data", "Alpaca"),
        ("psmathur/WizardLM_Orca", "WizardLM"),
        ("databricks-dolly-15k", "Dolly"),
        ("mini/gsm8k", "the generated corpus of orca-bench"),
        ("alpacafarm", None),
        ("faq", None),
    ],
)
def test_published_sets_are_known_by_their_names(name, title):
    data_set = known_data_set(name)
    assert (data_set and data_set.title) == title
