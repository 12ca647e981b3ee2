"""How a pattern of attention is put into a model of transformers: the attention function that all its layers then call.

A model and an `AttentionPattern` come in; inside `use_attention_pattern` every layer of the model attends as the pattern says.
The function is registered with transformers as one more attention implementation, so that any model whose attention goes
through that interface can be used. What a layer asks for that is not known here raises `UnfitForTree`. Its own module because
it knows transformers and no tree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, PretrainedConfig

from orca_bench.models.attention_options import unknown_option

ATTENTION_NAME = "orca_bench_tree"

#: transformers' (masking_utils) rule of a mask: whether, by batch, head, query and key indices, a query attends to a key.
MaskFunction = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


class UnfitForTree(Exception):
    """A model's attention cannot be computed in a tree; `str()` is the reason, to follow "because"."""


class AttentionOptions(NamedTuple):
    """How one layer attends.

    `score_scaling` is the factor of its scores (None: 1/sqrt(head size)), `softcap` the bound of a tanh over them, `sinks`
    [heads] a logit for each head that takes weight without a value, `window_tokens` to how many tokens each token attends,
    itself among them (None: to all before it).
    """

    score_scaling: float | None = None
    softcap: float | None = None
    sinks: torch.Tensor | None = None
    window_tokens: int | None = None


class AttentionPattern:
    """To which keys each query of one forward pass attends.

    `window_tokens_by_mask` has the sliding window of each mask that the model makes, in order. `attended_layer_count` is how
    many layers have attended.
    """

    def __init__(self, window_tokens_by_mask: Sequence[int | None] = (None,)):
        self._window_tokens_by_mask, self._mask_count, self.attended_layer_count = window_tokens_by_mask, 0, 0

    def attend(
        self, layer_index: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, options: AttentionOptions
    ) -> torch.Tensor:
        """Attention of one layer; all are [batch, heads, tokens, head size]. Keys and values may have fewer heads."""
        raise NotImplementedError

    def mask(self, mask_function: MaskFunction, device: torch.device) -> torch.Tensor:
        """What stands for one of the model's masks: [number of the mask, 1, 1, 1], a shape that survives slices and devices."""
        self._mask_count += 1
        return torch.zeros(1, dtype=torch.bool, device=device).expand(self._mask_count, 1, 1, 1)

    def window_tokens(self, mask: torch.Tensor | None) -> int | None:
        """The sliding window of a layer that gets this mask; raises UnfitForTree where the mask is the model's own work."""
        if mask is None:
            return None
        if mask.dtype != torch.bool or tuple(mask.shape[1:]) != (1, 1, 1) or not len(mask) <= self._mask_count:
            raise UnfitForTree("it adds a mask of its own to its attention")
        window_tokens = self._window_tokens_by_mask[len(mask) - 1]
        if window_tokens == 0:
            raise UnfitForTree("its attention skips tokens")
        return window_tokens


_CURRENT_PATTERN: ContextVar[AttentionPattern | None] = ContextVar("pattern", default=None)


@contextmanager
def use_attention_pattern(config: PretrainedConfig, pattern: AttentionPattern) -> Iterator[None]:
    """Inside the block, let the model of this configuration attend as `pattern` says."""
    original_implementation_name, context_reset_token = config._attn_implementation, _CURRENT_PATTERN.set(pattern)
    config._attn_implementation = ATTENTION_NAME
    try:
        yield
    finally:
        config._attn_implementation = original_implementation_name
        _CURRENT_PATTERN.reset(context_reset_token)


def attend_layer(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    is_causal: bool | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """What transformers calls for each layer, with its parameters' names; the output is [batch, tokens, heads, head size].

    Raises UnfitForTree where the layer's attention is not causal, or has an option that is not known here.
    """
    pattern = _CURRENT_PATTERN.get()
    if pattern is None:
        raise RuntimeError(f"the attention {ATTENTION_NAME} is used outside of `attending`")
    if (option_name := unknown_option(options)) is not None:
        raise UnfitForTree(f"its attention takes {option_name}")
    if not (getattr(module, "is_causal", True) if is_causal is None else is_causal):
        raise UnfitForTree("its attention is not causal")
    layer_options = AttentionOptions(scaling, softcap, s_aux, pattern.window_tokens(attention_mask))
    layer_index, pattern.attended_layer_count = pattern.attended_layer_count, pattern.attended_layer_count + 1
    output = pattern.attend(layer_index, query, key, value, layer_options)
    return output.transpose(1, 2).contiguous(), None


def _make_mask(mask_function: MaskFunction, device: torch.device | None = None, **_: Any) -> torch.Tensor:
    """What transformers calls for each mask of a model."""
    pattern = _CURRENT_PATTERN.get()
    if pattern is None:
        raise RuntimeError(f"the attention {ATTENTION_NAME} is used outside of `attending`")
    return pattern.mask(mask_function, device)


AttentionInterface.register(ATTENTION_NAME, attend_layer)
AttentionMaskInterface.register(ATTENTION_NAME, _make_mask)


def masked_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    options: AttentionOptions,
    mask: torch.Tensor | None = None,
    is_causal: bool = False,
) -> torch.Tensor:
    """Attention under a mask [..., queries, keys], true or 0 where a key is attended to; with `is_causal`, under none but that.

    query is [batch, heads, queries, head size], key and value are [batch, heads, keys, head size], where several heads of the
    query may share one of theirs. With a cap or sinks it is computed as transformers' eager functions for Gemma 2 and gpt-oss do
    it.
    """
    heads_per_key_head = query.shape[1] // key.shape[1]
    is_eager = options.softcap is not None or options.sinks is not None
    if heads_per_key_head > 1 and (is_eager or query.device.type != "cpu"):
        key, value = (
            key.repeat_interleave(heads_per_key_head, dim=1),
            value.repeat_interleave(heads_per_key_head, dim=1),
        )
    if not is_eager:
        return scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=mask,
            is_causal=is_causal,
            scale=options.score_scaling,
            enable_gqa=query.shape[1] != key.shape[1],
        )
    score_scaling = query.shape[-1] ** -0.5 if options.score_scaling is None else options.score_scaling
    attention_scores = (query @ key.transpose(-1, -2)) * score_scaling
    if options.softcap is not None:
        attention_scores = torch.tanh(attention_scores / options.softcap) * options.softcap
    if is_causal:
        mask = torch.ones(attention_scores.shape[-2:], dtype=torch.bool, device=attention_scores.device).tril()
    if mask is not None:
        attention_scores = (
            attention_scores.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else attention_scores + mask
        )
    if options.sinks is not None:
        sinks = options.sinks.to(attention_scores).reshape(1, query.shape[1], -1, 1)
        attention_scores = torch.cat([attention_scores, sinks.expand(*attention_scores.shape[:-1], 1)], dim=-1)
    attention_weights = attention_scores.softmax(dim=-1, dtype=torch.float32).to(query.dtype)
    return attention_weights[..., : key.shape[-2]] @ value
