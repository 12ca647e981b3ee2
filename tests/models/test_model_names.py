"""Two models do not get one name, one file or one column by accident; what a reader must know of a model is said."""

import json
import shutil

import pytest

from orca_bench.errors import UserError
from orca_bench.hub import Commit
from orca_bench.models import model_names
from orca_bench.models.model_folder import ModelFolder
from orca_bench.models.model_warnings import OWN_PROMPT_WARNING


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("llama", "llama"),
        ("v1/hf", "work-v1-hf"),
        ("v2/hf", "work-v2-hf"),
        ("tuned/model", "tuned"),
        ("tuned/checkpoint-500", "tuned-checkpoint-500"),
        ("tuned/final/merged", "tuned-final-merged"),
        ("tuned/7b/fp16", "tuned-7b-fp16"),
        ("model", "work"),
        ("models--psmathur--tiny/snapshots/" + "a" * 40, "psmathur/tiny@aaaaaaaaaaaa"),
    ],
)
def test_a_folder_with_a_generic_name_is_called_by_those_above_it(tmp_path, folder, name):
    path = tmp_path / "work" / folder
    path.mkdir(parents=True)
    assert model_names.model_name_of(str(path)) == name


def test_a_model_of_the_hub_is_called_by_its_id_and_the_revision_that_was_asked_for():
    assert model_names.model_name_of("/cache", Commit("owner/name", None, "a" * 40)) == "owner/name"
    assert model_names.model_name_of("/cache", Commit("owner/name", "v1", "a" * 40)) == "owner/name@v1"


@pytest.mark.parametrize("name", ["", "../x", "/x", "a/../b", "-x", "x\n", ".x"])
def test_names_that_are_none(name):
    with pytest.raises(UserError, match="is not a name"):
        model_names.check_model_name(name)


def test_a_name_is_no_longer_than_a_folders():
    with pytest.raises(UserError, match="a name of 121 characters"):
        model_names.check_model_name("x" * 121)
    assert model_names.check_model_name("x" * 120)


@pytest.mark.parametrize("words", [("eval",), ("generate", "hi")])
def test_an_empty_name_is_not_the_newest_run(command, mini, words):
    """As `--model "$MODEL"` is where the variable is unset."""
    rows = () if words[0] == "generate" else ("--benchmarks", mini["mini:benchmarks"])
    assert "empty name of a model" in command.refused(*words, "--model", "", *rows)


def test_two_folders_of_one_name_and_a_name_that_is_given_have_results_of_their_own(command, tiny_model, mini):
    words = ["--benchmarks", mini["mini:benchmarks"], "--tasks", "winogrande", "--limit", "2"]
    for folder in ("v1/hf", "v2/hf"):
        shutil.copytree(tiny_model, command.folder / "work" / folder)
        assert command("eval", "--model", f"work/{folder}", *words).returncode == 0
    process = command("eval", "--model", "work/v1/hf", "--name", "me/mine", *words)
    assert process.returncode == 0, process.stderr
    names = {}
    for file in (command.folder / "runs").glob("*/results/orca-limit2.json"):
        names[file.parents[1].name] = json.loads(file.read_text())["model"]["name"]
    assert names == {"work-v1-hf": "work-v1-hf", "work-v2-hf": "work-v2-hf", "me--mine": "me/mine"}


@pytest.fixture
def chat_model(tiny_model, tmp_path):
    """A folder that somebody else tuned, with a value head left in its weights."""
    import torch
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "chat"
    shutil.copytree(tiny_model, folder)
    (folder / "orca_bench.json").unlink()
    (folder / "chat_template.jinja").write_text(
        "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}{% endfor %}"
    )
    state = load_file(folder / "model.safetensors") | {"v_head.summary.weight": torch.ones(4)}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_a_model_of_another_prompt_is_said_to_be_one_before_it_is_asked(command, chat_model, mini):
    words = ["--benchmarks", mini["mini:benchmarks"], "--tasks", "winogrande", "--limit", "2", "--protocol", "both"]
    process = command("eval", "--model", chat_model, *words)
    assert process.returncode == 0, process.stderr
    other, unused = (
        "it was not tuned in the Orca prompt",
        "no place for some weights of its folder: v_head.summary.weight",
    )
    assert process.stderr.index(other) < process.stderr.index("orca Winogrande")
    assert process.stderr.count(unused) == process.stderr.count(other) == 1  # once for both protocols
    assert process.stderr.index(other) < process.stderr.index(unused)
    results = command.folder / "runs" / "chat" / "results"
    table = command("table", results / "orca-limit2.json", "--notes")
    assert other in " ".join(table.stdout.split()), table.stdout
    warnings = {
        name: " ".join(json.loads((results / f"{name}-limit2.json").read_text())["model"]["warnings"])
        for name in ("orca", "leaderboard")
    }
    assert other in warnings["orca"] and unused in warnings["orca"]
    assert other not in warnings["leaderboard"] and unused in warnings["leaderboard"]


def test_generate_says_of_a_model_of_another_prompt_that_it_is_one(command, chat_model, tiny_model):
    words = ("generate", "hi", "--greedy", "--max-new-tokens", "2", "--model")
    assert command(*words, chat_model).stderr == f"chat: {OWN_PROMPT_WARNING}\n"
    assert command(*words, tiny_model).stderr == ""


def test_which_prompt_a_folder_was_tuned_in(chat_model, tiny_model):
    assert ModelFolder(str(chat_model)).has_own_prompt and not ModelFolder(str(tiny_model)).has_own_prompt
    template = (tiny_model / "chat_template.jinja").read_text()
    (chat_model / "chat_template.jinja").write_text(template)
    assert not ModelFolder(str(chat_model)).has_own_prompt  # somebody else's, in the Orca prompt
    (chat_model / "chat_template.jinja").unlink()
    config = json.loads((chat_model / "tokenizer_config.json").read_text())
    for named, own in (
        ("{{ messages }}", True),
        ([{"name": "default", "template": "x"}], True),
        (template, False),
        (None, False),
    ):
        (chat_model / "tokenizer_config.json").write_text(json.dumps(config | {"chat_template": named}))
        assert ModelFolder(str(chat_model)).has_own_prompt == own
