"""A recipe file in, one checked `Recipe` out, or an error that names file, line and key.

`recipe_layers` reads the file, what it extends and the overrides; here is what must hold between the values of a training's
recipe. Apart from the models in `recipe`, because only reading needs to know where each value was written.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from orca_bench.errors import UserError
from orca_bench.recipe import Recipe
from orca_bench.recipe_layers import KeyLocations, RecipeKind, read_checked

_KIND = RecipeKind("recipe", "name, model, data and train")


def read_recipe_file(file_or_name: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read and check a recipe file; `overrides` are `section.key=value` with the value in YAML.

    `file_or_name` is a file, or the name of a shipped recipe (`13b`) where there is no such file. Raises UserError, with the
    file and line that hold the value, for what `recipe_layers.read_checked` refuses, and for batch numbers that do not multiply.
    """
    recipe, key_locations = read_checked(file_or_name, overrides, Recipe, _KIND)
    _check_model_section(recipe, key_locations)
    _check_batch_product(recipe, key_locations)
    _check_offload_has_stage(recipe, key_locations)
    _check_lora_has_base(recipe, key_locations)
    _check_held_out_has_examples(recipe, key_locations)
    _check_one_report(recipe, key_locations)
    return recipe


def _check_model_section(recipe: Recipe, key_locations: KeyLocations) -> None:
    """Raise UserError where the student is not one model, or its shape and lengths do not fit one another."""
    model = recipe.model
    if (model.base is None) == (model.random is None):
        raise UserError(
            "give either base (a model folder or hub id) or random (an architecture)",
            where=key_locations.describe(("model", "base"), ("model", "random"), ("model",)),
            hint=None if model.base is None else "`base: null` takes away the one of a recipe that is extended",
        )
    if model.random is None:
        return
    if model.tokenizer is None:
        raise UserError(
            "random weights need a tokenizer: a folder or a SentencePiece file",
            where=key_locations.describe(("model",)),
        )
    architecture = model.random
    head_count = architecture.num_attention_heads
    if architecture.hidden_size % head_count:
        raise UserError(
            f"hidden_size {architecture.hidden_size} is not a multiple of num_attention_heads {head_count}",
            where=key_locations.describe(("model", "random", "hidden_size")),
        )
    if architecture.num_key_value_heads and head_count % architecture.num_key_value_heads:
        raise UserError(
            f"num_attention_heads {head_count} is not a multiple of num_key_value_heads {architecture.num_key_value_heads}",
            where=key_locations.describe(("model", "random", "num_key_value_heads")),
        )
    if (architecture.hidden_size // head_count) % 2:
        raise UserError(
            f"heads of {architecture.hidden_size // head_count} numbers: rotary embeddings need an even number",
            where=key_locations.describe(("model", "random", "num_attention_heads")),
        )
    if recipe.data.max_length > architecture.max_position_embeddings:
        raise UserError(
            f"max_length {recipe.data.max_length} is more than max_position_embeddings {architecture.max_position_embeddings}",
            where=key_locations.describe(("data", "max_length")),
        )


def _check_batch_product(recipe: Recipe, key_locations: KeyLocations) -> None:
    """Raise UserError where global_batch is not the product of its parts, with one number that would make it so."""
    train = recipe.train
    batch_product = train.micro_batch * train.accumulation * train.processes
    if batch_product == train.global_batch:
        return
    batch_without_accumulation = train.micro_batch * train.processes
    batch_without_micro_batch = train.accumulation * train.processes
    if train.global_batch % batch_without_accumulation == 0:
        suggestion = f"set accumulation to {train.global_batch // batch_without_accumulation}"
    elif train.global_batch % batch_without_micro_batch == 0:
        suggestion = f"set micro_batch to {train.global_batch // batch_without_micro_batch}"
    else:
        suggestion = f"set global_batch to {batch_product}"
    batch_keys = ("global_batch", "micro_batch", "accumulation", "processes")
    raise UserError(
        f"global_batch {train.global_batch} is not micro_batch {train.micro_batch} × accumulation "
        f"{train.accumulation} × processes {train.processes} = {batch_product}",
        where=key_locations.describe(*(("train", key) for key in batch_keys)),
        hint=suggestion,
    )


def _check_offload_has_stage(recipe: Recipe, key_locations: KeyLocations) -> None:
    """Raise UserError for offloaded optimizer states that no ZeRO stage divides."""
    if recipe.train.offload == "cpu" and recipe.train.zero_stage == 0:
        raise UserError(
            "offload needs a ZeRO stage that divides the optimizer's states",
            where=key_locations.describe(("train", "offload")),
            hint="set zero_stage to 1, 2 or 3, or offload to none",
        )


def _check_lora_has_base(recipe: Recipe, key_locations: KeyLocations) -> None:
    """Raise UserError for LoRA beside random weights, which would stay random."""
    if recipe.train.lora is not None and recipe.model.base is None:
        raise UserError(
            "LoRA leaves the weights of the model as they are, and random ones know nothing",
            where=key_locations.describe(("train", "lora")),
            hint="give model.base, or `lora: null` to train all weights",
        )


def _check_held_out_has_examples(recipe: Recipe, key_locations: KeyLocations) -> None:
    """Raise UserError for keys about held-out examples where none are held out."""
    for key in ("keep_best", "held_out_every"):
        if getattr(recipe.train, key) and not recipe.data.held_out:
            raise UserError(
                f"{key} needs examples that are held out of training",
                where=key_locations.describe(("train", key)),
                hint="set data.held_out to their number",
            )


def _check_one_report(recipe: Recipe, key_locations: KeyLocations) -> None:
    """Raise UserError where a report on the records is given and another one is to be made."""
    if recipe.data.report is not None and recipe.data.benchmarks is not None:
        raise UserError(
            "give either report (a file) or benchmarks (a folder, from which a report is made)",
            where=key_locations.describe(("data", "benchmarks"), ("data", "report"), ("data",)),
            hint="`report: null` takes away the one of a recipe that is extended",
        )
