"""The metadata of a GGUF file in, the configuration of transformers' LLaMA out; or the name of what it cannot express.

And a folder's configuration in, the one that a file is written from out.

Sources: llama.cpp's convert_hf_to_gguf.py (what it writes for LlamaForCausalLM) and gguf/constants.py (names of the keys).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from orca_bench.errors import UserError
from orca_bench.models.gguf.gguf_file import GgufFile

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from transformers import PretrainedConfig

ARCHITECTURE = "llama"
EMBEDDING = "token_embd.weight"
#: The tensor that has llama.cpp's factors of the frequencies of Llama 3, [head size / 2].
ROPE_FACTORS = "rope_freqs.weight"
# Llama 3's own values (its config.json): the scaled frequencies are known in the file, not what they were computed from.
_LLAMA3_ROPE = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
# What YaRN has where a file does not say it, in llama.cpp and in transformers; other values cannot be read.
_YARN_DEFAULTS = {
    "llama.rope.scaling.attn_factor": 1.0,
    "llama.rope.scaling.yarn_ext_factor": 1.0,
    "llama.rope.scaling.yarn_attn_factor": 1.0,
    "llama.rope.scaling.yarn_beta_fast": 32.0,
    "llama.rope.scaling.yarn_beta_slow": 1.0,
}
#: What a file holds of each type of rope scaling; of Llama 3's the factors of the frequencies.
_ROPE_KEYS = {
    "default": (),
    "linear": ("factor",),
    "yarn": ("factor", "original_max_position_embeddings"),
    "llama3": ("factor", *_LLAMA3_ROPE),
}
_MAX_FACTOR_ERROR = 1e-3  # relative, of a frequency; the factors stand in float32


def configuration(file: GgufFile) -> dict[str, Any]:
    """config.json of the model, without its dtype. Raises UserError for another architecture and for what a LLaMA lacks."""
    architecture = file.get("general.architecture", str)
    if architecture != ARCHITECTURE:
        raise UserError(
            f"a GGUF file of architecture {architecture}; only {ARCHITECTURE} can be read",
            where=file.path,
            hint="the model's own folder (config.json, safetensors) can be used instead",
        )
    if file.get("llama.expert_count", int, 0):
        raise UserError(
            f"a mixture of {file.get('llama.expert_count', int)} experts; only dense models can be read",
            where=file.path,
            hint="the model's own folder (config.json, safetensors) can be used instead",
        )
    hidden_size = _count(file, "llama.embedding_length")
    head_count = _count(file, "llama.attention.head_count")
    head_size = file.get("llama.attention.key_length", int, hidden_size // head_count)
    _check_head_size(file, head_size)
    special_ids = {
        f"{name}_token_id": file.get(f"tokenizer.ggml.{key}_token_id", int, None)
        for name, key in (("bos", "bos"), ("eos", "eos"), ("pad", "padding"))
    }
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "attention_bias": "blk.0.attn_q.bias" in file.tensors,
        "attention_dropout": 0.0,
        **special_ids,
        "head_dim": head_size,
        "hidden_act": "silu",
        "hidden_size": hidden_size,
        "initializer_range": 0.02,
        "intermediate_size": _count(file, "llama.feed_forward_length"),
        "max_position_embeddings": _count(file, "llama.context_length"),
        "mlp_bias": "blk.0.ffn_gate.bias" in file.tensors,
        "num_attention_heads": head_count,
        "num_hidden_layers": _block_count(file),
        "num_key_value_heads": _count(file, "llama.attention.head_count_kv", head_count),
        "rms_norm_eps": file.decimal("llama.attention.layer_norm_rms_epsilon"),
        "rope_parameters": _rope_parameters(file, head_size),
        "tie_word_embeddings": "output.weight" not in file.tensors,
        "use_cache": True,
        "vocab_size": _vocabulary_size(file),
    }


def _count(file: GgufFile, key: str, default: int | None = None) -> int:
    """A number of the architecture; raises UserError where it is not at least 1."""
    count = file.get(key, int) if default is None else file.get(key, int, default)
    if count < 1:
        raise UserError(f"{key} is {count}", where=file.path)
    return count


def _block_count(file: GgufFile) -> int:
    """The number of layers; raises UserError where the file has tensors of another number."""
    block_count = _count(file, "llama.block_count")
    stored_count = len({name.split(".")[1] for name in file.tensors if name.startswith("blk.")})
    if block_count != stored_count:
        raise UserError(
            f"llama.block_count is {block_count}, and tensors of {stored_count} layers are there", where=file.path
        )
    return block_count


def _vocabulary_size(file: GgufFile) -> int:
    """The rows of the embedding; raises UserError where the vocabulary has more tokens."""
    if EMBEDDING not in file.tensors:
        raise UserError(f"the file has no {EMBEDDING}", where=file.path)
    row_count = file.tensors[EMBEDDING].shape[0]
    token_count = len(file.get("tokenizer.ggml.tokens", list))
    if token_count > row_count:
        raise UserError(f"the vocabulary has {token_count} tokens and the embedding {row_count} rows", where=file.path)
    return row_count


def _check_head_size(file: GgufFile, head_size: int) -> None:
    for key in ("llama.rope.dimension_count", "llama.attention.value_length"):
        size = file.get(key, int, head_size)
        if size != head_size:
            raise UserError(f"{key} is {size} and a head has {head_size} numbers: no LLaMA", where=file.path)


def _rope_parameters(file: GgufFile, head_size: int) -> dict[str, Any]:
    """The rotary embedding: base, and the scaling that makes a longer context window."""
    parameters: dict[str, Any] = {"rope_theta": file.decimal("llama.rope.freq_base", 10000.0)}
    scaling_type = file.get("llama.rope.scaling.type", str, "none")
    # The key of files from before 2023-10, which know linear scaling only.
    factor = file.decimal("llama.rope.scaling.factor", file.decimal("llama.rope.scale_linear", 1.0))
    if ROPE_FACTORS in file.tensors:
        return parameters | _llama3_parameters(file, parameters["rope_theta"], head_size)
    if factor == 1.0 and scaling_type in ("none", "linear"):
        return parameters | {"rope_type": "default"}
    if scaling_type == "linear":
        return parameters | {"rope_type": "linear", "factor": factor}
    if scaling_type == "yarn":
        for key, default in _YARN_DEFAULTS.items():
            if file.decimal(key, default) != default:
                raise UserError(f"{key} is {file.decimal(key)}; only {default:g} can be read", where=file.path)
        original_window = _count(file, "llama.rope.scaling.original_context_length")
        return parameters | {
            "rope_type": "yarn",
            "factor": factor,
            "original_max_position_embeddings": original_window,
        }
    raise UserError(f"rope scaling of type {scaling_type!r} cannot be read", where=file.path)


def _llama3_parameters(file: GgufFile, rope_theta: float, head_size: int) -> dict[str, Any]:
    """The parameters of Llama 3's scaling that give the file's factors of the frequencies.

    Raises UserError where none of Llama 3's do.
    """
    import numpy as np

    file_factors = file.tensors[ROPE_FACTORS].dequantize().astype(np.float64)
    # The largest factor is the whole one, but for the rounding of float32.
    candidate = {"rope_type": "llama3", "factor": float(f"{file_factors.max():.5g}"), **_LLAMA3_ROPE}
    factors = llama3_rope_factors({"rope_theta": rope_theta, **candidate}, head_size)
    if factors.shape != file_factors.shape or np.abs(factors / file_factors - 1).max() > _MAX_FACTOR_ERROR:
        raise UserError(f"{ROPE_FACTORS} has factors that are not Llama 3's", where=file.path)
    return candidate


def llama_configuration(config: PretrainedConfig, model_path: str | Path) -> dict[str, Any]:
    """The configuration of a model folder as `configuration` builds it; raises UserError where it is no LLaMA's."""
    if config.model_type != "llama":
        raise UserError(f"a {config.model_type} model; only LLaMAs can be written as GGUF", where=model_path)
    values = config.to_dict()
    values["head_dim"] = values.get("head_dim") or config.hidden_size // config.num_attention_heads
    if config.hidden_act != "silu":
        raise UserError(f"hidden_act is {config.hidden_act}, and GGUF's LLaMA has silu", where=model_path)
    rope_parameters = dict(values["rope_parameters"])
    # The older spelling of rope_type, which transformers leaves beside it.
    if rope_parameters.get("type") == rope_parameters.get("rope_type"):
        rope_parameters.pop("type", None)
    return values | {"rope_parameters": rope_parameters}


def check_rope_parameters(parameters: dict[str, Any], head_size: int, where: Path) -> None:
    """Raise UserError where a GGUF file cannot hold a LLaMA's rope_parameters: where they would not come back from it."""
    rope_type = parameters.get("rope_type", "default")
    if rope_type not in _ROPE_KEYS:
        raise UserError(f"rope scaling of type {rope_type!r} cannot be written as GGUF", where=where)
    file_keys = ("rope_theta", "rope_type", *_ROPE_KEYS[rope_type])
    parameters_of_file = {key: parameters[key] for key in file_keys if key in parameters}
    if rope_type == "llama3":
        factors = llama3_rope_factors(parameters, head_size)
        parameters_of_file |= {"factor": float(f"{factors.max():.5g}"), **_LLAMA3_ROPE}
    elif rope_type == "linear" and parameters["factor"] == 1:
        parameters_of_file["rope_type"] = "default"
    for key, value in parameters.items():
        if key not in parameters_of_file or parameters_of_file[key] != value:
            limit = f"only {parameters_of_file[key]!r}" if key in parameters_of_file else "it has no place there"
            raise UserError(
                f"{key} {value!r} of rope_parameters, scaling of type {rope_type!r}, cannot be written as GGUF ({limit})",
                where=where,
            )


def llama3_rope_factors(rope_parameters: dict[str, Any], head_size: int) -> NDArray[np.float64]:
    """By what Llama 3's scaling divides each frequency of the rotary embedding, [head size / 2]."""
    import numpy as np
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    config = LlamaConfig(head_dim=head_size, rope_parameters=dict(rope_parameters), max_position_embeddings=131072)
    frequencies, _ = ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")
    unscaled_frequencies = rope_parameters["rope_theta"] ** -(np.arange(0, head_size, 2) / head_size)
    return unscaled_frequencies / frequencies.double().numpy()
