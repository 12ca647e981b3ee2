"""The student's weights: from random numbers or from a model folder, and out again as a plain Hugging Face folder."""

from __future__ import annotations

import copy
import json
from pathlib import Path

from orca_bench import library_settings, tokenizers
from orca_bench.files import replacing_folder
from orca_bench.models import architecture
from orca_bench.recipe import Architecture, Recipe
from orca_bench.tokenizers import Tokenizer

DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


def config(recipe: Recipe, tokenizer: Tokenizer):
    """The transformers config of the student, random or based; raises UserError where the base has none."""
    library_settings.prepare()
    if recipe.model.random is None:
        return architecture.config_of(recipe.model.base)
    from transformers import LlamaConfig

    return _llama_config(recipe.model.random, tokenizer, LlamaConfig)


def _llama_config(shape: Architecture, tokenizer: Tokenizer, kind):
    options = {key: value for key, value in shape.model_dump().items() if value is not None}
    return kind(
        **options,
        vocab_size=tokenizer.vocab_size,
        bos_token_id=tokenizer.bos_id,
        eos_token_id=tokenizer.eos_id,
        pad_token_id=None,
    )


def count_parameters(model_config) -> int:
    """Parameters of a model of this config, counted without allocating one."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(model_config)
    return sum(p.numel() for p in model.parameters())


def random_model(model_config, seed: int):
    """A model of this config from random weights, float32: the same for the same seed."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(model_config, dtype=torch.float32)


def save(model, state: dict, tokenizer: Tokenizer, folder: Path, origin: dict) -> None:
    """Write weights (safetensors), config, tokenizer and chat template as a plain Hugging Face folder.

    The folder appears whole or not at all, and takes the place of an earlier one.

    `state` maps parameter names to whole tensors, in the dtype they are to be kept in. `origin`, the run and the step, goes
    with what was found of the tokenizer into orca_bench.json.
    """
    with replacing_folder(folder) as whole:
        _write(model, state, tokenizer, whole, origin)


def _write(model, state: dict, tokenizer: Tokenizer, folder: Path, origin: dict) -> None:
    from transformers import GenerationConfig

    stop_ids = tokenizer.stop_ids[0] if len(tokenizer.stop_ids) == 1 else list(tokenizer.stop_ids)
    # A new one: settings of a base's may be refused when they are written, and servers take their defaults from them.
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_id, eos_token_id=stop_ids, pad_token_id=tokenizer.pad_id
    )
    model.save_pretrained(folder, state_dict=state)
    _config_to_use(model.config, tokenizer).save_pretrained(folder)
    disagreement = tokenizers.export(tokenizer, folder, architecture.window(model.config))
    note = origin | {"tokenizer_agrees_with_sentencepiece": disagreement is None}
    if disagreement is not None:
        note["example"] = str(disagreement)
    (folder / "orca_bench.json").write_text(json.dumps(note, ensure_ascii=False) + "\n", encoding="utf-8")


def _config_to_use(model_config, tokenizer: Tokenizer):
    """A model's configuration as it is published: with the ids of its tokenizer, and a cache, which training turns off."""
    published = copy.deepcopy(model_config)
    published.use_cache = True
    published.bos_token_id, published.eos_token_id = tokenizer.bos_id, tokenizer.eos_id
    published.pad_token_id = tokenizer.pad_id
    return published
