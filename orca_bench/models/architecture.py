"""A model's configuration in; whether it can be evaluated, its context window, vocabulary size and attention out.

Its own module because configurations have many names for the same thing, and other modules should not know them all.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from orca_bench import library_settings
from orca_bench.errors import UserError, Where, one_line
from orca_bench.files import read_json
from orca_bench.recipe import CONTEXT_WINDOW

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

    from orca_bench.tokenizers import Tokenizer

#: Decoders that transformers lists as causal language models and that continue pictures or sounds, not text alone.
_NON_TEXT_MODEL_TYPES = ("git", "moshi", "musicgen", "musicgen_melody", "trocr", "whisper")
#: Encoders that transformers does not list among the masked language models.
_UNLISTED_ENCODER_TYPES = ("bert-generation",)
#: Models that draft tokens for another model and need its hidden states.
_DRAFT_MODEL_TYPES = ("gemma4_assistant", "gemma4_unified_assistant")
#: Names of the context window in configurations of transformers 5.23, the most usual first.
_WINDOW_KEYS = ("max_position_embeddings", "n_positions", "max_seq_len", "n_ctx", "seq_length", "max_sequence_length")
#: Models whose first learned positions are padding's (modeling_roberta.py, create_position_ids_from_input_ids).
_PADDED_POSITION_MODEL_TYPES = (
    "camembert",
    "data2vec-text",
    "roberta",
    "roberta-prelayernorm",
    "xlm-roberta",
    "xlm-roberta-xl",
    "xmod",
)

Model = TypeVar("Model")


def load_config(folder_or_id: str | Path) -> PretrainedConfig:
    """The configuration of a folder, with which its model is to be loaded; raises UserError where there is none.

    `models.model_folder.ModelFolder.config` has it, read once.
    """
    config_path = Path(folder_or_id) / "config.json"
    if config_path.is_file() and not isinstance(read_json(config_path), dict):
        raise UserError("not a JSON object", where=config_path)
    library_settings.prepare_libraries()
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(folder_or_id)
    except Exception as error:  # absent, unreachable or malformed: one thing to the user
        raise UserError(
            f"no configuration that transformers can read ({one_line(error, 200)})", where=folder_or_id
        ) from error
    _drop_pad_beyond_vocabulary(config)
    return config


def _drop_pad_beyond_vocabulary(config: PretrainedConfig) -> None:
    """Remove a pad id that the vocabulary does not have: folders of 2023 have `vocab_size` or -1. No padding is ever read here.

    For `vocab_size` torch 2.13 raises "Padding_idx must be within num_embeddings"; with -1 it does not train the last embedding.
    """
    for sub_config in {
        id(sub_config): sub_config for sub_config in (config, config.get_text_config(decoder=True))
    }.values():
        pad_id, vocab_size = getattr(sub_config, "pad_token_id", None), getattr(sub_config, "vocab_size", None)
        if (
            sub_config.model_type not in _PADDED_POSITION_MODEL_TYPES
            and isinstance(pad_id, int)
            and isinstance(vocab_size, int)
        ):
            sub_config.pad_token_id = pad_id if 0 <= pad_id < vocab_size else None


def unsupported_reason(config: PretrainedConfig) -> str | None:
    """Why a model of this configuration cannot be evaluated here, as far as the configuration tells; None where it can."""
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    )

    model_type = config.model_type
    class_name = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(model_type)
    if config.is_encoder_decoder:
        return f"{model_type} is an encoder and a decoder"
    if class_name is None:
        return f"{model_type or 'this'} is no causal language model of transformers"
    if class_name.endswith("ForConditionalGeneration") or model_type in _NON_TEXT_MODEL_TYPES:
        return f"{model_type} is made for pictures or sounds beside text"
    if model_type == "xlnet" or (model_type == "xlm" and not config.causal):
        return f"{model_type} is not causal: it predicts a token from both sides"
    if model_type in _DRAFT_MODEL_TYPES:
        return f"{model_type} drafts for another model, whose hidden states it needs"
    if model_type == "reformer":
        return "reformer's hashed attention depends on chance and on the length of the input"
    encoder_types = (*MODEL_FOR_MASKED_LM_MAPPING_NAMES, *_UNLISTED_ENCODER_TYPES)
    if model_type in encoder_types and model_type != "xlm" and not getattr(config, "is_decoder", False):
        return f"{model_type} is an encoder, unless its config.json says is_decoder"
    return None


def context_window_tokens(config: PretrainedConfig) -> int:
    """The context window in tokens of a configuration; 2,048 where it names none (ALiBi, recurrent models).

    Raises UserError where it names one without a token.
    """
    return configured_window_tokens(config) or CONTEXT_WINDOW


class AttentionSizes(NamedTuple):
    """The sizes of a model's attention: layers, numbers a token, heads of queries, heads of keys and values, numbers a head."""

    layer_count: int
    hidden_size: int
    head_count: int
    key_head_count: int
    head_size: int


def attention_sizes(config: PretrainedConfig) -> AttentionSizes | None:
    """The sizes of a model's attention; None where its configuration does not give them in LLaMA's names, one for all layers."""
    text_config = config.get_text_config()
    sizes = [getattr(text_config, name, None) for name in ("num_hidden_layers", "hidden_size", "num_attention_heads")]
    layer_count, hidden_size, head_count = (size if isinstance(size, int) else 0 for size in sizes)
    if not (layer_count and hidden_size and head_count):
        return None
    key_head_count = getattr(text_config, "num_key_value_heads", None) or head_count
    head_size = getattr(text_config, "head_dim", None) or hidden_size // head_count
    return AttentionSizes(layer_count, hidden_size, head_count, key_head_count, head_size)


def configured_window_tokens(config: PretrainedConfig) -> int | None:
    """The context window in tokens that a configuration names; None where it names none.

    Raises UserError where that is no positive number.
    """
    for sub_config in (config, config.get_text_config(decoder=True)):
        for window_key in _WINDOW_KEYS:
            window_tokens = getattr(sub_config, window_key, None)
            if not isinstance(window_tokens, int) or isinstance(window_tokens, bool):
                continue
            padding_positions = (
                (sub_config.pad_token_id or 0) + 1 if sub_config.model_type in _PADDED_POSITION_MODEL_TYPES else 0
            )
            if window_tokens <= padding_positions:
                raise UserError(
                    f"{window_key} is {window_tokens}, which leaves no context window",
                    where=Path(config.name_or_path or "") / "config.json",
                    hint="it is the number of tokens that the model was made for",
                )
            return window_tokens - padding_positions
    return None


def vocabulary_size(model: PreTrainedModel) -> int:
    """How many token ids a model takes."""
    return min(model.config.get_text_config(decoder=True).vocab_size, len(model.get_input_embeddings().weight))


def check_vocabulary(tokenizer: Tokenizer, model_vocabulary_size: int, where: Where, hint: str) -> None:
    """Raise UserError, with `where` and `hint`, where a tokenizer has ids that a model does not take."""
    if model_vocabulary_size < tokenizer.min_model_vocab_size:
        raise UserError(
            f"the tokenizer has {tokenizer.min_model_vocab_size} ids and the model takes {model_vocabulary_size}",
            where=where,
            hint=hint,
        )


def load_with_attention(load_with_implementation: Callable[[str], Model]) -> Model:
    """What `load_with_implementation` gives with sdpa, or with eager attention where the model has no other."""
    try:
        return load_with_implementation("sdpa")
    except ValueError as error:
        # transformers 5.23 (modeling_utils._sdpa_can_dispatch) says it before any weight is read, by this name only.
        if "scaled_dot_product_attention" not in str(error):
            raise
    return load_with_implementation("eager")
