"""Whatever stands in a recipe, in a gate's rules or in a card's front matter: it is read, or refused by a UserError."""

import contextlib
from pathlib import Path

import mutations
import pytest
from hypothesis import given

from orca_bench import recipe_file, yaml_files
from orca_bench.errors import UserError
from orca_bench.files import shipped_folder
from orca_bench.report.gate_rules import read_rules
from orca_bench.report.model_card import eval_results, update_card

RECIPES = {name: (shipped_folder("recipes") / f"{name}.yaml").read_bytes() for name in ("13b", "mini")}
TREES = {name: yaml_files.parse_yaml(text.decode(), name)[0] for name, text in RECIPES.items()}
RULES = b"level: 0.05\nsmallest_loss: 1\nfloors: {hellaswag: 60}\ntasks: [hellaswag, gsm8k]\n"
CARD = b"---\nlicense: mit\nmodel-index:\n- name: other\n  results:\n  - task: {type: t}\n    dataset: {type: d}\n---\n# Text\n"


def refused_or_read(path: Path, read_file, content: bytes) -> None:
    path.write_bytes(content)
    with contextlib.suppress(UserError):
        read_file(path)


@pytest.mark.parametrize("name", RECIPES)
@mutations.EXAMPLES
@given(data=mutations.st.data())
def test_damaged_recipes(tmp_path, name, data):
    refused_or_read(
        tmp_path / "r.yaml", recipe_file.read_recipe_file, data.draw(mutations.damaged_bytes(RECIPES[name]))
    )


@pytest.mark.parametrize("name", TREES)
@mutations.EXAMPLES
@given(data=mutations.st.data())
def test_recipes_of_other_types_and_without_keys(tmp_path, name, data):
    text = yaml_files.to_yaml_text(data.draw(mutations.damaged_tree(TREES[name])))
    refused_or_read(tmp_path / "r.yaml", recipe_file.read_recipe_file, text.encode("utf-8", "surrogatepass"))


@mutations.EXAMPLES
@given(data=mutations.st.data())
def test_overrides_of_any_kind(tmp_path, data):
    (tmp_path / "r.yaml").write_bytes(RECIPES["mini"])
    key = data.draw(mutations.st.sampled_from(["train.lr", "model", "data.records", "name", "", "a.b.c", "train..lr"]))
    value = data.draw(mutations.st.text(max_size=12))
    with contextlib.suppress(UserError):
        recipe_file.read_recipe_file(tmp_path / "r.yaml", (f"{key}={value}",))


@mutations.EXAMPLES
@given(data=mutations.st.data())
def test_damaged_rules(tmp_path, data):
    refused_or_read(tmp_path / "r.yaml", read_rules, data.draw(mutations.damaged_bytes(RULES)))


@mutations.EXAMPLES
@given(data=mutations.st.data())
def test_rules_of_other_types_and_without_keys(tmp_path, data):
    text = yaml_files.to_yaml_text(data.draw(mutations.damaged_tree(yaml_files.parse_yaml(RULES.decode(), "rules")[0])))
    refused_or_read(tmp_path / "r.yaml", read_rules, text.encode("utf-8", "surrogatepass"))


@mutations.EXAMPLES
@given(data=mutations.st.data())
def test_damaged_cards(tmp_path, data):
    results = eval_results({"gsm8k": 1.0}, None)

    def update(path: Path) -> None:
        update_card(path.read_text(encoding="utf-8", errors="replace"), "m", results, path)

    refused_or_read(tmp_path / "README.md", update, data.draw(mutations.damaged_bytes(CARD)))
