"""The student: its configuration and random weights from a recipe, and the trained weights written as a Hugging Face folder.

Its own module because it needs transformers and no DeepSpeed: planning and tests use it without an engine.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orca_bench import library_settings, tokenizers
from orca_bench.files import open_folder_replacement
from orca_bench.models import architecture, weight_shards
from orca_bench.models.model_folder import METADATA_FILE_NAME
from orca_bench.models.saved_weights import SavedWeights
from orca_bench.recipe import Architecture, Recipe, Train
from orca_bench.results.data_report import DATA_REPORT_FILE_NAME, DataReport, write_data_report
from orca_bench.tokenizers import Tokenizer

if TYPE_CHECKING:
    import torch
    from transformers import LlamaConfig, PretrainedConfig, PreTrainedModel

DTYPE_NAME_BY_PRECISION = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


def export_dtype_name(train_section: Train) -> str:
    """The type of the weights in model folders, in torch's word."""
    return DTYPE_NAME_BY_PRECISION[train_section.export_dtype or train_section.precision]


def student_config(recipe: Recipe, tokenizer: Tokenizer) -> PretrainedConfig:
    """The transformers config of the student, random or based; raises UserError where the base has none."""
    library_settings.prepare_libraries()
    if recipe.model.base is not None:
        return architecture.load_config(recipe.model.base)
    assert recipe.model.random is not None, "a recipe has a base or random weights"
    return _llama_config(recipe.model.random, tokenizer)


def _llama_config(architecture_section: Architecture, tokenizer: Tokenizer) -> LlamaConfig:
    from transformers import LlamaConfig

    config_fields = {key: value for key, value in architecture_section.model_dump().items() if value is not None}
    return LlamaConfig(
        **config_fields,
        vocab_size=tokenizer.vocab_size,
        bos_token_id=tokenizer.bos_id,
        eos_token_id=tokenizer.eos_id,
        pad_token_id=None,
    )


def build_model_without_numbers(model_config: PretrainedConfig) -> PreTrainedModel:
    """A model of this config on torch's meta device: names and shapes, and no memory for weights."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(model_config)


def count_parameters(model_config: PretrainedConfig) -> int:
    """Parameters of a model of this config, counted without allocating one."""
    return sum(parameter.numel() for parameter in build_model_without_numbers(model_config).parameters())


def build_random_model(model_config: PretrainedConfig, seed: int) -> PreTrainedModel:
    """A model of this config with random weights, float32; the same seed gives the same weights."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(model_config, dtype=torch.float32)


def save_model(
    model: PreTrainedModel,
    tokenizer: Tokenizer,
    model_folder: Path,
    training_origin: dict[str, str | int],
    data_report: DataReport | None = None,
) -> None:
    """Write a model in memory, in its own type, as `save_student` does."""
    state_dict = model.state_dict()
    saved_weights = SavedWeights.plan(model, str(model.dtype).removeprefix("torch."))
    save_student(
        model,
        tokenizer,
        model_folder,
        training_origin,
        saved_weights,
        lambda name: state_dict[name],
        data_report=data_report,
    )


def save_student(
    model: PreTrainedModel,
    tokenizer: Tokenizer,
    model_folder: Path,
    training_origin: dict[str, str | int],
    saved_weights: SavedWeights,
    weight_of: Callable[[str], torch.Tensor],
    max_shard_bytes: int = weight_shards.SHARD_BYTES,
    data_report: DataReport | None = None,
    write_further_files: Callable[[Path], None] = lambda folder: None,
) -> None:
    """Write weights (safetensors), config, tokenizer and chat template as a plain Hugging Face folder.

    The folder appears complete or not at all, and replaces an earlier one. `saved_weights` is the plan of the files of weights,
    and `weight_of` gives what it needs. `training_origin` (`run` and `step`) goes into orca_bench.json, with whether plain
    transformers gives the tokenizer's ids, and `data_report`, without texts, into data_report.json. `write_further_files` gets
    the folder before it is complete. Raises UserError where the disk does not take the folder.
    """
    with open_folder_replacement(model_folder) as new_folder:
        weight_shards.write_shards(
            saved_weights.byte_counts, saved_weights.file_tensors(weight_of), new_folder, max_shard_bytes
        )
        _write_small_files(model, saved_weights.dtype_name, tokenizer, new_folder, training_origin)
        if data_report is not None:
            write_data_report(new_folder / DATA_REPORT_FILE_NAME, data_report.without_texts())
        write_further_files(new_folder)


def _write_small_files(
    model: PreTrainedModel,
    dtype_name: str,
    tokenizer: Tokenizer,
    model_folder: Path,
    training_origin: dict[str, str | int],
) -> None:
    from transformers import GenerationConfig

    stop_ids = tokenizer.stop_ids[0] if len(tokenizer.stop_ids) == 1 else list(tokenizer.stop_ids)
    # A new one: settings of a base's may be refused when they are written, and servers take their defaults from them.
    GenerationConfig(
        bos_token_id=tokenizer.bos_id, eos_token_id=stop_ids, pad_token_id=tokenizer.pad_id
    ).save_pretrained(model_folder)
    published_config = _published_config(model.config, tokenizer)
    published_config.dtype, published_config.architectures = dtype_name, [type(model).__name__]
    published_config.save_pretrained(model_folder)
    disagreement = tokenizers.export_tokenizer(
        tokenizer, model_folder, architecture.context_window_tokens(model.config)
    )
    origin_fields: dict[str, Any] = {**training_origin, "tokenizer_agrees_with_sentencepiece": disagreement is None}
    if disagreement is not None:
        origin_fields["example"] = str(disagreement)
    (model_folder / METADATA_FILE_NAME).write_text(
        json.dumps(origin_fields, ensure_ascii=False) + "\n", encoding="utf-8"
    )


def _published_config(model_config: PretrainedConfig, tokenizer: Tokenizer) -> PretrainedConfig:
    """A model's configuration as it is published: with the ids of its tokenizer, and a cache, which training turns off."""
    published_config = copy.deepcopy(model_config)
    published_config.use_cache = True
    published_config.bos_token_id, published_config.eos_token_id = tokenizer.bos_id, tokenizer.eos_id
    published_config.pad_token_id = tokenizer.pad_id
    return published_config
