"""A recipe in, what it trains on out: the shape of its model and the lengths of its examples.

Its own module because a plan is made before the records are on this machine too: then their number and their length come from the
user, and the shape from a table of published models.
"""

from __future__ import annotations

import numpy as np

from orca_bench import tokenizers
from orca_bench.errors import UserError
from orca_bench.models.model_folder import ModelFolder
from orca_bench.recipe import Recipe
from orca_bench.train import lora_targets, resolved_sources, student_model
from orca_bench.train.model_shape import ModelShape, published_shape
from orca_bench.train.run_plan import Workload
from orca_bench.train.train_recipe import SilentTrainingDisplay, TrainingDisplay, UnreachableSource, describe_training

#: Standard deviation of the logarithm of an example's length, of Alpaca and Dolly with LLaMA's tokenizer
#: (tests/benchmarks/training_lengths.json).
_LOG_LENGTH_DEVIATION = 0.51
_HALVINGS = 60


def read_workload(recipe: Recipe, display: TrainingDisplay = SilentTrainingDisplay()) -> Workload:
    """The workload of a recipe whose records, tokenizer and configuration can be read here, or are fetched from the hub.

    Raises UserError for wrong input, and where the hub cannot be reached: then with the options that replace the records.
    """
    try:
        prepared = describe_training(recipe, display)
    except UnreachableSource as error:
        raise UserError(
            f"the records cannot be counted here: {error}",
            where="plan",
            hint="give their number with --records, and their mean length with --tokens-per-record",
        ) from error
    lengths = prepared.examples.lengths
    return Workload(prepared.shape, lengths, int(lengths.max()), prepared.has_quantized_base)


def described_workload(recipe: Recipe, record_count: int, tokens_per_record: int | None) -> Workload:
    """The workload of `record_count` records of `tokens_per_record` tokens in the mean; None: all of `data.max_length`.

    The longest is taken to have `data.max_length` tokens. No record is read. Raises UserError where the numbers are not
    possible or the model's shape is not known here.
    """
    max_length = recipe.data.max_length
    if record_count < 1:
        raise UserError(f"{record_count} records", where="--records", hint="give a number above 0")
    if tokens_per_record is not None and not 1 <= tokens_per_record <= max_length:
        raise UserError(
            f"{tokens_per_record} tokens, and an example has 1 to data.max_length {max_length}",
            where="--tokens-per-record",
            hint=f"give 1 to {max_length}",
        )
    shape, has_quantized_base = published_shape(recipe.model.base), False
    if shape is None:
        shape, has_quantized_base = _configured_shape(recipe)
    if recipe.train.lora is not None:
        lora_targets.check_targets(recipe.train.lora, shape.linear_layers)
    if tokens_per_record is None:
        lengths: np.ndarray = np.full(record_count, max_length, np.int64)
    else:
        lengths = _spread_lengths(record_count, tokens_per_record, max_length)
    return Workload(shape, lengths, max_length, has_quantized_base)


def _spread_lengths(count: int, mean: int, max_length: int) -> np.ndarray:
    """Lengths of `count` examples with this mean, int64: a log-normal distribution cut at `max_length`, in random order.

    Its spread is that of Alpaca and Dolly (`_LOG_LENGTH_DEVIATION`).
    """
    deviates = np.random.default_rng(0).standard_normal(count)
    factors = np.exp(_LOG_LENGTH_DEVIATION * (deviates - deviates.mean()))
    low, high = 0.0, 1e3 * max_length  # of the median, between which the mean of the cut lengths rises
    for _ in range(_HALVINGS):
        median = (low + high) / 2
        low, high = (median, high) if np.minimum(median * factors, max_length).mean() < mean else (low, median)
    return np.clip(np.rint(high * factors), 1, max_length).astype(np.int64)


def _configured_shape(recipe: Recipe) -> tuple[ModelShape, bool]:
    """(the shape by the base's configuration, or by the recipe's random model and the size of its tokenizer; whether the base is
    quantised). Raises UserError where the recipe has LoRA beside a quantised base.
    """
    resolved_recipe, _ = resolved_sources.resolve_recipe_sources(recipe, {}, with_weights=False)
    tokenizer = tokenizers.load_tokenizer(resolved_recipe.model.tokenizer_source)
    base, has_quantized_base = resolved_recipe.model.base, False
    if base is not None:
        has_quantized_base = lora_targets.is_quantized(ModelFolder(base))
        if recipe.train.lora is not None:
            lora_targets.check_base(recipe, ModelFolder(base), show_message=lambda line: None)
    return ModelShape.of_config(student_model.student_config(resolved_recipe, tokenizer)), has_quantized_base
