"""The name of a file's type in, the type of each of its matrices out, as llama.cpp's llama-quantize chooses them for a LLaMA.

A file of a K-quant is a mixture: matrices in which rounding costs most (attn_v, ffn_down, the output head) have more bits, some
of them in some layers only, and a matrix whose rows are no whole number of 256 weights has another type. Source: llama.cpp,
src/llama-quant.cpp, `llama_tensor_get_type_impl`, `tensor_type_fallback` and `llama_ftype_get_default_type` (commit 007dbbf).
f32 to q4_0 are one type throughout, which llama-quantize writes with `--pure`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

#: The type of most matrices of a mixture, by the name of the file's type.
_MIXTURES = {
    "q6_k": "Q6_K",
    "q5_k_m": "Q5_K",
    "q5_k_s": "Q5_K",
    "q4_k_m": "Q4_K",
    "q4_k_s": "Q4_K",
    "iq4_nl": "IQ4_NL",
    "iq4_xs": "IQ4_XS",
    "q3_k_l": "Q3_K",
    "q3_k_m": "Q3_K",
    "q3_k_s": "Q3_K",
    "q2_k": "Q2_K",
}
#: What a type becomes in a matrix whose rows are no whole number of 256 weights. These are blocks of 32.
_FALLBACK_TYPES = {
    "Q2_K": "Q4_0",
    "Q3_K": "Q4_0",
    "IQ4_XS": "IQ4_NL",
    "Q4_K": "Q5_0",
    "Q5_K": "Q5_1",
    "Q6_K": "Q8_0",
}
#: The type of a matrix whose rows are no whole number of 32 weights either.
_LAST_FALLBACK_TYPE = "F16"


@dataclass(frozen=True)
class ModelShape:
    """What of a LLaMA decides about types: layers, query heads, key heads, and whether the output head is the embedding."""

    layer_count: int
    head_count: int
    key_head_count: int
    is_tied: bool

    @classmethod
    def of(cls, configuration: dict[str, Any]) -> ModelShape:
        """The shape in a configuration of transformers' LLaMA."""
        return cls(
            configuration["num_hidden_layers"],
            configuration["num_attention_heads"],
            configuration["num_key_value_heads"],
            configuration["tie_word_embeddings"],
        )

    @property
    def has_few_key_heads(self) -> bool:
        """Whether four query heads or more share a key head, so that more bits for attn_v cost little."""
        return self.head_count // self.key_head_count >= 4

    @property
    def is_70b(self) -> bool:
        """Whether llama.cpp takes the model for LLaMA 2 70B (src/llama-model.cpp, `LLM_TYPE_70B`)."""
        return self.layer_count == 80 and self.head_count != self.key_head_count


def tensor_type(
    name: str, shape: tuple[int, ...], file_type: str, model: ModelShape, with_importance: bool = False
) -> str:
    """The type of a tensor, as `gguf` names it: F32 for a vector.

    `name` is the file's (blk.0.attn_v.weight), `shape` [outputs, inputs], `file_type` a key of `FILE_TYPES`. `with_importance`:
    an importance matrix is used.
    """
    if len(shape) == 1:
        return "F32"
    if file_type not in _MIXTURES:
        return _type_of_row_size(file_type.upper(), shape[-1])
    base = _MIXTURES[file_type]
    if name == "output.weight" or (model.is_tied and name == "token_embd.weight"):
        target = "Q8_0" if shape[-1] % _block_size(base) else "Q6_K"
    elif name.startswith("blk."):
        _, layer_text, part, _ = name.split(".")
        target = _block_matrix_type(part, int(layer_text), file_type, model, with_importance)
    else:
        target = base
    return _type_of_row_size(target, shape[-1])


def _block_matrix_type(part: str, layer: int, file_type: str, model: ModelShape, with_importance: bool) -> str:
    base = _MIXTURES[file_type]
    if part == "attn_v":
        return _attn_v_type(base, layer, file_type, model)
    if part == "attn_output":
        return {"q2_k": "Q3_K", "q3_k_m": "Q4_K", "q3_k_l": "Q5_K"}.get(file_type, base)
    if part != "ffn_down":
        return base
    is_early = layer < model.layer_count // 8
    if file_type in ("q4_k_m", "q5_k_m"):
        return "Q6_K" if _has_more_bits(layer, model.layer_count) else base
    if file_type == "q3_k_m":
        return "Q5_K" if layer < model.layer_count // 16 else "Q4_K"
    if file_type == "q4_k_s" or (base.startswith("IQ4") and not with_importance):
        return "Q5_K" if is_early else base
    return {"q2_k": "Q3_K", "q3_k_l": "Q5_K"}.get(file_type, base)


def _attn_v_type(base: str, layer: int, file_type: str, model: ModelShape) -> str:
    target = base
    if file_type == "q2_k":
        target = "Q4_K" if model.has_few_key_heads else "Q3_K"
    elif file_type == "q3_k_m":
        target = "Q5_K" if layer < 2 else "Q4_K"
    elif file_type == "q3_k_l" or (base.startswith("IQ4") and model.has_few_key_heads):
        target = "Q5_K"
    elif file_type in ("q4_k_m", "q5_k_m") and _has_more_bits(layer, model.layer_count):
        target = "Q6_K"
    elif file_type == "q4_k_s" and layer < 4:
        target = "Q5_K"
    return "Q5_K" if model.is_70b and target in ("Q3_K", "Q4_K") else target


def _has_more_bits(layer: int, layer_count: int) -> bool:
    """llama.cpp's `use_more_bits`: the first and the last eighth of the layers, and every third between them."""
    eighth = layer_count // 8
    return layer < eighth or layer >= 7 * layer_count // 8 or (layer - eighth) % 3 == 2


def _type_of_row_size(target: str, row_size: int) -> str:
    """A type that fits rows of `row_size` weights: the target, or what llama.cpp takes instead."""
    if row_size % _block_size(target) == 0:
        return target
    fallback = _FALLBACK_TYPES.get(target, _LAST_FALLBACK_TYPE)
    return fallback if row_size % _block_size(fallback) == 0 else _LAST_FALLBACK_TYPE


def _block_size(type_name: str) -> int:
    """How many weights of a row share a block."""
    import gguf

    weight_count, _ = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[type_name]]
    return weight_count
