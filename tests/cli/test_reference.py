"""The pages that are written from the code say what the code says today."""

from typing import Literal

import pytest
from pydantic import BaseModel, Field

from orca_bench.cli import reference
from orca_bench.cli.command_list import COMMANDS

HINT = "run: make docs"


def test_the_reference_of_all_commands_is_that_of_the_code():
    assert reference.COMMANDS_FILE.read_text(encoding="utf-8") == reference.command_reference(), HINT


def test_the_tables_of_recipe_keys_are_those_of_the_code():
    for page, key_table in (
        (reference.RECIPES_FILE, reference.recipe_keys()),
        (reference.DATA_RECIPES_FILE, reference.data_recipe_keys()),
    ):
        text = page.read_text(encoding="utf-8")
        assert reference.with_keys(text, key_table) == text, HINT


def test_every_command_and_option_stands_in_the_reference():
    text = reference.command_reference()
    for name, entry in COMMANDS.items():
        assert f"\n## {name}\n" in text and entry.summary in text
    assert "| `--max-new-tokens TASK=N` | Maximum number of new tokens per answer of TASK" in text
    assert "`--launcher [torchrun\\|deepspeed]`" in text
    assert "\n```\norca-bench train recipes/mini.yaml\n" in text


def test_every_recipe_key_has_a_meaning():
    rows = [row.split(" | ") for row in reference.recipe_keys().splitlines() if row.startswith("| `")]
    assert len(rows) > 40 and all(row[3].strip(" |") for row in rows)
    assert "| `train.lr` | number | 2e-05 | Peak learning rate. |" in reference.recipe_keys()
    assert "`data.strict` *" in reference.recipe_keys()


def test_every_key_of_a_data_recipe_has_a_meaning():
    rows = [row.split(" | ") for row in reference.data_recipe_keys().splitlines() if row.startswith("| `")]
    assert len(rows) > 30 and all(row[3].strip(" |") for row in rows)
    assert "| `sources` * | sections by name | required |" in reference.data_recipe_keys()
    assert "| `sources.SOURCE.sample` * | integer |" in reference.data_recipe_keys()
    assert (
        "| `teacher.price.input` *" in reference.data_recipe_keys() and "| `budget` * |" in reference.data_recipe_keys()
    )


def test_a_new_table_takes_the_place_of_the_old_one():
    key_table = reference.recipe_keys()
    once = reference.with_keys("# Recipes\n\nProse.\n", key_table)
    assert once.startswith("# Recipes\n\nProse.\n\n## Keys\n")
    assert reference.with_keys(once + "\nMore.\n", key_table) == once + "\nMore.\n"


@pytest.mark.parametrize(
    ("annotation", "values"),
    [
        (int | None, "integer"),
        (list[str], "list of texts"),
        (list[Literal["a", "b"]], "list of: a, b"),
        (bool, "true, false"),
    ],
)
def test_a_type_is_named_in_a_word(annotation, values):
    class Section(BaseModel):
        key: annotation = Field(None, description="A key.")

    assert reference._values_text(Section.model_fields["key"].annotation) == values
