"""What names a model: a run's name, its folder, an export, a model folder, a hub id; and what names none."""

from pathlib import Path

import pytest

from orca_bench.errors import UserError
from orca_bench.models.model_lookup import look_up_model

RUNS = Path("runs")


@pytest.fixture(autouse=True)
def runs(tmp_path, monkeypatch):
    """Runs `a` with a model and an export, and `half` without a model; a result of a hub's model; a model folder `local`."""
    monkeypatch.chdir(tmp_path)
    for folder in ("runs/a/model", "runs/a/exports/step-10", "local", "runs/me--b/results", "runs/half"):
        (tmp_path / folder).mkdir(parents=True)
    for folder in ("runs/a/model", "runs/a/exports/step-10", "local"):
        (tmp_path / folder / "config.json").write_text("{}")
    for name in ("recipe.yaml", "manifest.json"):
        (tmp_path / "runs" / "half" / name).write_text("{}")


@pytest.mark.parametrize(
    ("word", "folder_or_id"),
    [
        ("a", "runs/a/model"),
        ("runs/a", "runs/a/model"),
        (Path("runs/a"), "runs/a/model"),
        ("runs/a/model", "runs/a/model"),
        ("a/step-10", "runs/a/exports/step-10"),
        ("runs/a/exports/step-10", "runs/a/exports/step-10"),
        ("local", "local"),
        ("./local", "./local"),
        ("me/b", "me/b"),
        ("me/c", "me/c"),
        ("./absent", "./absent"),
        ("absent.gguf", "absent.gguf"),
        ("", ""),
    ],
)
def test_a_word_names_a_model(word, folder_or_id):
    named = look_up_model(word, RUNS)
    assert (named.folder_or_id, named.note) == (folder_or_id, None)


def test_a_name_that_is_a_run_and_a_folder_here_is_the_run_and_that_is_said(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "config.json").write_text("{}")
    named = look_up_model("a", RUNS)
    assert named.folder_or_id == "runs/a/model"
    assert named.note == "a is the run runs/a; write ./a for what is here"
    for word in ("./a", "a/", Path("a")):
        assert look_up_model(word, RUNS).folder_or_id == str(word)


def test_an_export_stands_before_a_folder_here_and_that_is_said(tmp_path):
    (tmp_path / "a" / "step-10").mkdir(parents=True)
    note = look_up_model("a/step-10", RUNS).note
    assert note == "a/step-10 is the export runs/a/exports/step-10; write ./a/step-10 for what is here"


def test_a_word_that_is_a_run_and_an_export_of_another_is_the_run_and_that_is_said(tmp_path):
    (tmp_path / "runs" / "a--step-10" / "model").mkdir(parents=True)
    named = look_up_model("a/step-10", RUNS)
    assert named.folder_or_id == "runs/a--step-10/model"
    assert named.note == "a/step-10 is the run runs/a--step-10; write runs/a/exports/step-10 for that export"


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("half", "runs/half: this run has no model yet; orca-bench train with its recipe continues it"),
        ("runs/half", "runs/half: this run has no model yet"),
        ("b", "b: no such run or model folder; runs with a model: a; OWNER/NAME is a model of the hub"),
        ("aa", "did you mean 'a'"),
    ],
)
def test_a_word_that_names_no_model_is_refused_with_what_is_there(word, message):
    with pytest.raises(UserError, match=message):
        look_up_model(word, RUNS)
