"""What a recipe may say: the shipped ones, number for number, and the description of each key."""

import pytest
from pydantic import BaseModel

from orca_bench import recipe_file
from orca_bench.files import shipped_folder
from orca_bench.recipe import Architecture, Recipe, Train


def test_13b_is_the_cards_run_number_for_number():
    run = recipe_file.read_recipe_file("13b")
    train = run.train
    assert (train.global_batch, train.micro_batch, train.accumulation, train.processes) == (16, 2, 1, 8)
    assert (train.lr, train.epochs, run.data.max_length, train.zero_stage) == (2e-5, 3, 1024, 3)
    assert (train.betas, train.eps, train.weight_decay, train.grad_clip) == ([0.9, 0.95], 1e-8, 0.001, 1.0)
    assert (train.warmup_ratio, train.warmup_min_steps, train.seed) == (0.1, 10, 0)


def test_every_number_of_13b_says_where_it_comes_from():
    text = (shipped_folder("recipes") / "13b.yaml").read_text(encoding="utf-8")
    keys = [line for line in text[text.index("train:") :].splitlines() if line.startswith("  ") and ":" in line]
    # These are no part of the card's run: where it ends early, what it leaves on the disk, what watches and would stop it.
    others = {"packing", "max_steps", "keep_checkpoints", "export_every", "export_dtype", "export_shard_gb", "max_loss"}
    others |= {"held_out_every", "keep_best", "spike_factor", "trackers", "lora"}
    assert {key.split(":")[0].strip() for key in keys} == set(Train.model_fields) - others
    assert all(any(f"# {source}" in line for source in ("card", "OpenAlpaca", "chosen")) for line in keys)


DIFFERENCES = {
    "7b": {"name": "orca_mini_7b", "base": "openlm-research/open_llama_7b", "accumulation": 2, "processes": 4},
    "3b": {"name": "orca_mini_3b", "base": "openlm-research/open_llama_3b", "accumulation": 4, "processes": 2},
}


@pytest.mark.parametrize("name", DIFFERENCES)
def test_7b_and_3b_are_13b_but_for_the_base_and_the_layout_of_the_batch(name):
    expected = recipe_file.read_recipe_file("13b").model_dump()
    different = DIFFERENCES[name]
    expected["name"] = different["name"]
    expected["model"]["base"] = different["base"]
    expected["train"] |= {"accumulation": different["accumulation"], "processes": different["processes"]}
    assert recipe_file.read_recipe_file(name).model_dump() == expected


def sections(model: type[BaseModel]) -> list[type[BaseModel]]:
    """A section of a recipe and those inside it."""
    inner = [
        option
        for field in model.model_fields.values()
        for option in (field.annotation, *getattr(field.annotation, "__args__", ()))
    ]
    return [model] + [
        section
        for option in inner
        if isinstance(option, type) and issubclass(option, BaseModel)
        for section in sections(option)
    ]


def test_every_key_has_a_description_that_ends_as_a_sentence():
    assert Architecture in sections(Recipe)
    for section in sections(Recipe):
        for key, field in section.model_fields.items():
            assert field.description, f"{section.__name__}.{key}"
            assert field.description.endswith("."), f"{section.__name__}.{key}"
