"""A model's configuration in; whether it can be evaluated, its context window, vocabulary size and attention out.

Its own module because configurations have many names for the same thing, and other modules should not know them all.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from orca_bench import library_settings
from orca_bench.errors import UserError, one_line
from orca_bench.files import read_json
from orca_bench.recipe import CONTEXT_WINDOW

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

#: Decoders that transformers lists as causal language models and that continue pictures or sounds, not text alone.
_OTHER_INPUTS = ("git", "moshi", "musicgen", "musicgen_melody", "trocr", "whisper")
#: Encoders that transformers does not list among the masked language models.
_OTHER_ENCODERS = ("bert-generation",)
#: Models that draft tokens for another model and need its hidden states.
_DRAFTERS = ("gemma4_assistant", "gemma4_unified_assistant")
#: Names of the context window in configurations of transformers 5.23, the most usual first.
_WINDOWS = ("max_position_embeddings", "n_positions", "max_seq_len", "n_ctx", "seq_length", "max_sequence_length")
#: Models whose first learned positions are padding's (modeling_roberta.py, create_position_ids_from_input_ids).
_PADDED_POSITIONS = (
    "camembert",
    "data2vec-text",
    "roberta",
    "roberta-prelayernorm",
    "xlm-roberta",
    "xlm-roberta-xl",
    "xmod",
)

Model = TypeVar("Model")


def config_of(name: str | Path) -> PretrainedConfig:
    """The configuration of a folder, with which its model is to be loaded; raises UserError where there is none."""
    file = Path(name) / "config.json"
    if file.is_file() and not isinstance(read_json(file), dict):
        raise UserError("not a JSON object", where=file)
    library_settings.prepare()
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(name)
    except Exception as error:  # absent, unreachable or malformed: one thing to the user
        raise UserError(f"no configuration that transformers can read ({one_line(error, 200)})", where=name) from error
    _drop_pad_beyond_vocabulary(config)
    return config


def _drop_pad_beyond_vocabulary(config: PretrainedConfig) -> None:
    """Remove a pad id that the vocabulary does not have: folders of 2023 have `vocab_size` or -1. No padding is ever read here.

    For `vocab_size` torch 2.13 raises "Padding_idx must be within num_embeddings"; with -1 it does not train the last embedding.
    """
    for part in {id(part): part for part in (config, config.get_text_config(decoder=True))}.values():
        pad, size = getattr(part, "pad_token_id", None), getattr(part, "vocab_size", None)
        if part.model_type not in _PADDED_POSITIONS and isinstance(pad, int) and isinstance(size, int):
            part.pad_token_id = pad if 0 <= pad < size else None


def refusal(config: PretrainedConfig) -> str | None:
    """Why a model of this configuration cannot be evaluated here, as far as the configuration tells; None where it can."""
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    )

    kind = config.model_type
    name = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(kind)
    if config.is_encoder_decoder:
        return f"{kind} is an encoder and a decoder"
    if name is None:
        return f"{kind or 'this'} is no causal language model of transformers"
    if name.endswith("ForConditionalGeneration") or kind in _OTHER_INPUTS:
        return f"{kind} is made for pictures or sounds beside text"
    if kind == "xlnet" or (kind == "xlm" and not config.causal):
        return f"{kind} is not causal: it predicts a token from both sides"
    if kind in _DRAFTERS:
        return f"{kind} drafts for another model, whose hidden states it needs"
    if kind == "reformer":
        return "reformer's hashed attention depends on chance and on the length of the input"
    encoders = (*MODEL_FOR_MASKED_LM_MAPPING_NAMES, *_OTHER_ENCODERS)
    if kind in encoders and kind != "xlm" and not getattr(config, "is_decoder", False):
        return f"{kind} is an encoder, unless its config.json says is_decoder"
    return None


def window(config: PretrainedConfig) -> int:
    """The context window in tokens of a configuration; 2,048 where it names none (ALiBi, recurrent models).

    Raises UserError where it names one without a token.
    """
    return named_window(config) or CONTEXT_WINDOW


def named_window(config: PretrainedConfig) -> int | None:
    """The context window in tokens that a configuration names; None where it names none.

    Raises UserError where that is no positive number.
    """
    for part in (config, config.get_text_config(decoder=True)):
        for name in _WINDOWS:
            tokens = getattr(part, name, None)
            if not isinstance(tokens, int) or isinstance(tokens, bool):
                continue
            padding = (part.pad_token_id or 0) + 1 if part.model_type in _PADDED_POSITIONS else 0
            if tokens <= padding:
                raise UserError(
                    f"{name} is {tokens}, which leaves no context window",
                    where=Path(config.name_or_path or "") / "config.json",
                    hint="it is the number of tokens that the model was made for",
                )
            return tokens - padding
    return None


def vocabulary_size(model: PreTrainedModel) -> int:
    """How many token ids a model takes."""
    return min(model.config.get_text_config(decoder=True).vocab_size, len(model.get_input_embeddings().weight))


def with_attention(load: Callable[[str], Model]) -> Model:
    """What `load(implementation)` gives with sdpa, or with eager attention where the model has no other."""
    try:
        return load("sdpa")
    except ValueError as error:
        # transformers 5.23 (modeling_utils._sdpa_can_dispatch) says it before any weight is read, by this name only.
        if "scaled_dot_product_attention" not in str(error):
            raise
    return load("eager")
