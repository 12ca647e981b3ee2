"""Ids in, last hidden states and logits out: the passes of models built as LLaMA is, computed here and not by transformers.

For these architectures the layers are written out once more, for CPUs: the residual stream, the norms, attention and the
output head are in float32 whatever the type of the weights, each product writes what follows it (SiLU, product, sum) in the
same pass, and products go through oneDNN where MKL, which PyTorch takes for float32, is slow. Where AMX multiplies bfloat16,
the inputs of attention are of that type if the weights are. Attention is a pattern, as in any other model. Its own module
because it is all that knows the inside of a model; the self-check compares it with the model's own passes before anything is
scored.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.models.llama import modeling_llama
from transformers.models.mistral import modeling_mistral
from transformers.models.qwen2 import modeling_qwen2

from orca_bench.evaluate.engine import matrix_products
from orca_bench.evaluate.engine.attention_interface import AttentionOptions, AttentionPattern

#: The classes of transformers 5.23 whose passes are those below: (whole model, decoder, layer, attention, MLP, norm).
_CLASSES: tuple[tuple[type[nn.Module], ...], ...] = (
    (
        modeling_llama.LlamaForCausalLM,
        modeling_llama.LlamaModel,
        modeling_llama.LlamaDecoderLayer,
        modeling_llama.LlamaAttention,
        modeling_llama.LlamaMLP,
        modeling_llama.LlamaRMSNorm,
    ),
    (
        modeling_mistral.MistralForCausalLM,
        modeling_mistral.MistralModel,
        modeling_mistral.MistralDecoderLayer,
        modeling_mistral.MistralAttention,
        modeling_mistral.MistralMLP,
        modeling_mistral.MistralRMSNorm,
    ),
    (
        modeling_qwen2.Qwen2ForCausalLM,
        modeling_qwen2.Qwen2Model,
        modeling_qwen2.Qwen2DecoderLayer,
        modeling_qwen2.Qwen2Attention,
        modeling_qwen2.Qwen2MLP,
        modeling_qwen2.Qwen2RMSNorm,
    ),
)


class LlamaDecoder:
    """The passes of one model on a CPU; made by `llama_decoder_of`."""

    def __init__(self, model: Any, window_tokens_by_layer: Sequence[int | None]):
        self._model, self._decoder, self._window_tokens_by_layer = model, model.model, window_tokens_by_layer
        self._products = matrix_products.products_of_this_cpu()
        #: The type of queries, keys and values.
        self.attention_dtype = attention_dtype(model.dtype)
        #: By layer the weight and bias of queries and keys, float32: what is rounded after rotation is not rounded before it.
        self._query_key_weights: list[tuple[torch.Tensor, torch.Tensor | None]] = []
        if self.attention_dtype == torch.bfloat16:
            self._query_key_weights = [_query_key_weight(layer.self_attn) for layer in self._decoder.layers]
        head_weight = model.lm_head.weight.detach()
        #: In 16 bits a logit of 20 would have steps of 1/8.
        self._head_weight = head_weight.float()

    def last_hidden(
        self, token_ids: torch.Tensor, token_positions: torch.Tensor, pattern: AttentionPattern
    ) -> torch.Tensor:
        """The last hidden states, float32 [batch, tokens, hidden size], of ids and positions [batch, tokens] under a pattern."""
        embeddings = self._decoder.embed_tokens(token_ids)
        residual = embeddings.float()
        if residual is embeddings:  # what follows is added to it in place
            residual = embeddings.clone()
        cosines, sines = self._decoder.rotary_emb(residual, token_positions)
        tables = (cosines[:, :, None].float(), sines[:, :, None, : sines.shape[-1] // 2].float())
        for layer_index, layer in enumerate(self._decoder.layers):
            residual = self._add_attention(layer_index, layer, residual, tables, pattern)
            residual = self._add_mlp(layer, residual)
        pattern.attended_layer_count += len(self._decoder.layers)
        return _normalized(residual, self._decoder.norm, torch.float32)

    def logits(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """The logits, float32 [positions, vocabulary], of last hidden states [positions, hidden size]."""
        return self._products.linear(hidden_states.float(), self._head_weight, self._model.lm_head.bias)

    def _add_attention(
        self,
        layer_index: int,
        layer: Any,
        residual: torch.Tensor,
        tables: tuple[torch.Tensor, torch.Tensor],
        pattern: AttentionPattern,
    ) -> torch.Tensor:
        attention, products = layer.self_attn, self._products
        normalized = _normalized(residual, layer.input_layernorm, torch.float32)
        query, key, value = (
            tensor.view(*residual.shape[:-1], -1, attention.head_dim)
            for tensor in self._query_key_value(layer_index, attention, normalized)
        )
        output = pattern.attend(
            layer_index,
            _rotated(query, *tables).to(self.attention_dtype).transpose(1, 2),
            _rotated(key, *tables).to(self.attention_dtype).transpose(1, 2),
            value.transpose(1, 2),
            AttentionOptions(attention.scaling, window_tokens=self._window_tokens_by_layer[layer_index]),
        )
        output = output.transpose(1, 2).reshape(*residual.shape[:-1], -1).to(attention.o_proj.weight.dtype)
        return products.linear_added(output, attention.o_proj.weight, attention.o_proj.bias, residual)

    def _query_key_value(
        self, layer_index: int, attention: Any, normalized: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Queries and keys before rotation, float32, and values, [batch, tokens, heads × head size], of float32 inputs."""
        products, rounded = self._products, normalized.to(attention.v_proj.weight.dtype)
        value = products.linear(rounded, attention.v_proj.weight, attention.v_proj.bias).to(self.attention_dtype)
        if self._query_key_weights:
            weight, bias = self._query_key_weights[layer_index]
            query, key = products.linear_in_bfloat16(normalized, weight, bias).split(
                [len(attention.q_proj.weight), len(attention.k_proj.weight)], dim=-1
            )
            return query, key, value
        query, key = (
            products.linear(rounded, projection.weight, projection.bias).float()
            for projection in (attention.q_proj, attention.k_proj)
        )
        return query, key, value

    def _add_mlp(self, layer: Any, residual: torch.Tensor) -> torch.Tensor:
        mlp, products = layer.mlp, self._products
        normalized = _normalized(residual, layer.post_attention_layernorm, mlp.gate_proj.weight.dtype)
        gate = products.linear_silu(normalized, mlp.gate_proj.weight, mlp.gate_proj.bias)
        inner = products.linear_multiplied(normalized, mlp.up_proj.weight, mlp.up_proj.bias, gate)
        return products.linear_added(inner, mlp.down_proj.weight, mlp.down_proj.bias, residual)


def attention_dtype(weight_dtype: torch.dtype) -> torch.dtype:
    """The type of queries, keys and values beside weights of a type.

    PyTorch 2.13's attention in bfloat16 multiplies with AMX, with scores, softmax and sums in float32; without AMX it takes three
    times as long as in float32.
    """
    has_fast_attention = weight_dtype == torch.bfloat16 and torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if has_fast_attention else torch.float32


def llama_decoder_of(model: PreTrainedModel, window_tokens_by_layer: Sequence[int | None]) -> LlamaDecoder | None:
    """The passes of a model that is built as LLaMA is and lies on a CPU; None for any other.

    `window_tokens_by_layer` is each layer's sliding window (None: none). Nothing else than the very classes of transformers is
    taken, without hooks, adapters or quantised matrices, since what such a part does would be left out.
    """
    for classes in _CLASSES:
        if type(model) is classes[0]:
            return LlamaDecoder(model, window_tokens_by_layer) if _is_plain(model, classes) else None
    return None


def _is_plain(model: Any, classes: tuple[type[nn.Module], ...]) -> bool:
    _, decoder_class, layer_class, attention_class, mlp_class, norm_class = classes
    decoder = model.model
    known_classes = {*classes, nn.Linear, nn.Embedding, nn.ModuleList}
    modules = [module for module in model.modules() if module not in (decoder.rotary_emb, *_activations(decoder))]
    weights = [module.weight for layer in decoder.layers for module in layer.modules() if type(module) is nn.Linear]
    return (
        type(decoder) is decoder_class
        and all(type(module) in known_classes for module in modules)
        and all(
            (type(layer), type(layer.self_attn), type(layer.mlp)) == (layer_class, attention_class, mlp_class)
            for layer in decoder.layers
        )
        and type(decoder.norm) is norm_class
        and not any(module._forward_hooks or module._forward_pre_hooks for module in decoder.modules())
        and model.config.hidden_act in ("silu", "swish")
        and len({weight.dtype for weight in weights}) == 1
        and weights[0].dtype in (torch.float32, torch.bfloat16)
        and all(parameter.device.type == "cpu" for parameter in model.parameters())
    )


def _query_key_weight(attention: Any) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The weights of queries and keys, float32 [outputs of both, hidden size], and their biases, float32 [outputs of both]."""
    projections = (attention.q_proj, attention.k_proj)
    biases = [projection.bias.detach().float() for projection in projections if projection.bias is not None]
    weight = torch.cat([projection.weight.detach().float() for projection in projections])
    return weight, torch.cat(biases) if biases else None


def _activations(decoder: Any) -> list[nn.Module]:
    return [layer.mlp.act_fn for layer in decoder.layers if hasattr(layer, "mlp")]


def _normalized(hidden_states: torch.Tensor, norm: Any, dtype: torch.dtype) -> torch.Tensor:
    """The RMS norm, computed in float32, of float32 [batch, tokens, hidden size]."""
    return functional.rms_norm(hidden_states, hidden_states.shape[-1:], norm.weight.float(), norm.variance_epsilon).to(
        dtype
    )


def _rotated(heads: torch.Tensor, cosines: torch.Tensor, half_sines: torch.Tensor) -> torch.Tensor:
    """Queries or keys, float32 [batch, tokens, heads, head size], at their positions.

    The halves of a head are the two coordinates of its planes (transformers' `rotate_half`). `cosines` is [batch, tokens, 1, head
    size], `half_sines` [batch, tokens, 1, head size / 2].
    """
    half = heads.shape[-1] // 2
    rotated = heads * cosines
    rotated[..., :half].addcmul_(heads[..., half:], half_sines, value=-1)
    rotated[..., half:].addcmul_(heads[..., :half], half_sines)
    return rotated
