"""How a model attends, layer by layer: whether a prefix tree can stand in for its plain passes, and up to which length.

A model comes in, its `AttentionLayout` goes out, or `UnfitForTree` with the reason. The masks are not derived from the names in
the model's configuration: one short pass shows the rule of each mask that transformers makes for it, and the rule is applied to
tokens as far away as the context window goes. Its own module because it knows transformers' masks and nothing of requests.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from transformers import PretrainedConfig, PreTrainedModel

from orca_bench.evaluate.engine.attention_interface import (
    AttentionOptions,
    AttentionPattern,
    MaskFunction,
    UnfitForTree,
    use_attention_pattern,
)

_PROBE_TOKENS = 8
_MAX_MASK_TOKENS = 2**18  # tokens that the rule of a mask is applied to: more than a request of the suite has


@dataclass(frozen=True)
class AttentionLayout:
    """How the layers of a model attend.

    `window_tokens_by_mask` is the sliding window in tokens of each mask that the model makes, in order (None: a token attends
    to all before it), `window_tokens_by_layer` that of each time that a pass attends. `hidden_size` is the size of the last
    hidden state, and `cache_bytes_per_token` what the keys and values of one token take in all layers. Sequences of more than
    `max_tree_tokens` tokens must not be computed in a tree (None: there is no such bound).
    """

    window_tokens_by_mask: tuple[int | None, ...]
    window_tokens_by_layer: tuple[int | None, ...]
    hidden_size: int
    cache_bytes_per_token: int
    max_tree_tokens: int | None = None

    @property
    def layer_count(self) -> int:
        """How many times a pass attends."""
        return len(self.window_tokens_by_layer)


def decoder_of(model: PreTrainedModel) -> PreTrainedModel:
    """The module between a model's ids and its output head; raises UnfitForTree where that is no module of its own."""
    for decoder in (model.get_decoder(), model.base_model, getattr(model, "model", None)):
        if isinstance(decoder, PreTrainedModel) and decoder is not model:
            return decoder
    raise UnfitForTree("its decoder and its head are one module")


def probe_layout(model: PreTrainedModel) -> AttentionLayout:
    """How a model attends; raises UnfitForTree where a tree cannot follow it."""
    decoder, probe_pattern = decoder_of(model), _ProbePattern()
    ids = torch.arange(_PROBE_TOKENS, device=model.get_input_embeddings().weight.device)[None]
    with torch.inference_mode(), use_attention_pattern(decoder.config, probe_pattern):
        output = decoder(input_ids=ids, position_ids=ids, use_cache=False)
    if not probe_pattern.attended_layer_count:
        raise UnfitForTree("its attention does not go through transformers' attention interface")
    token_limits = [
        token_limit
        for token_limit in (*probe_pattern.token_limits_by_layer, _rope_token_limit(model.config))
        if token_limit is not None
    ]
    hidden_size = output.last_hidden_state.shape[-1]
    return AttentionLayout(
        tuple(probe_pattern.window_tokens_by_mask),
        tuple(probe_pattern.window_tokens_by_layer),
        hidden_size,
        probe_pattern.cache_bytes_per_token,
        min(token_limits, default=None),
    )


class _ProbePattern(AttentionPattern):
    """A pass in which each token attends to itself alone, and the rules of the masks are noted."""

    def __init__(self) -> None:
        super().__init__()
        self.window_tokens_by_mask: list[int | None] = []
        self.token_limits_by_mask: list[int | None] = []
        self.token_limits_by_layer: list[int | None] = []
        self.window_tokens_by_layer: list[int | None] = []
        self.cache_bytes_per_token = 0

    def mask(self, mask_function: MaskFunction, device: torch.device) -> torch.Tensor:
        window_tokens, token_limit = _window_and_token_limit(mask_function, device)
        self.window_tokens_by_mask.append(window_tokens)
        self.token_limits_by_mask.append(token_limit)
        self._window_tokens_by_mask = self.window_tokens_by_mask
        return super().mask(mask_function, device)

    def window_tokens(self, mask: torch.Tensor | None) -> int | None:
        window_tokens = super().window_tokens(mask)
        if mask is not None:
            self.token_limits_by_layer.append(self.token_limits_by_mask[len(mask) - 1])
        return window_tokens

    def attend(
        self, layer_index: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, options: AttentionOptions
    ) -> torch.Tensor:
        self.window_tokens_by_layer.append(options.window_tokens)
        self.cache_bytes_per_token += sum(
            tensor.shape[1] * tensor.shape[3] * tensor.dtype.itemsize for tensor in (key, value)
        )
        return value.repeat_interleave(query.shape[1] // value.shape[1], dim=1)


def _window_and_token_limit(mask_function: MaskFunction, device: torch.device) -> tuple[int | None, int | None]:
    """(the sliding window of a mask, None where it has none; the length up to which this is the whole rule, None for ever).

    The window is 0 where a token attends to others than the nearest: no layer may use such a mask.
    """
    key_indices, zero_index = (
        torch.arange(_MAX_MASK_TOKENS, device=device),
        torch.zeros((), dtype=torch.long, device=device),
    )

    def count_visible_tokens(query_index: int) -> int | None:
        """To how many tokens a query attends, itself among them; None where these are not the nearest."""
        is_visible = mask_function(
            zero_index, zero_index, torch.tensor(query_index, device=device), key_indices
        ).broadcast_to(key_indices.shape)
        visible_token_count = int(is_visible.sum())
        return (
            visible_token_count
            if visible_token_count and bool(is_visible[query_index + 1 - visible_token_count : query_index + 1].all())
            else None
        )

    visible_counts_by_query = {
        query_index: count_visible_tokens(query_index)
        for query_index in (
            0,
            1,
            5,
            _MAX_MASK_TOKENS // 3,
            _MAX_MASK_TOKENS // 2,
            _MAX_MASK_TOKENS - 2,
            _MAX_MASK_TOKENS - 1,
        )
    }
    window_tokens = max(visible_token_count or 0 for visible_token_count in visible_counts_by_query.values())
    if None in visible_counts_by_query.values():
        return 0, None
    if all(
        visible_token_count == min(query_index + 1, window_tokens)
        for query_index, visible_token_count in visible_counts_by_query.items()
    ):
        return (None, None) if window_tokens == _MAX_MASK_TOKENS else (window_tokens, None)
    longest_causal_length, shortest_blocked_length = (
        1,
        _MAX_MASK_TOKENS,
    )  # some rule of blocks: the first `longest_causal_length` tokens attend to all before them, `shortest_blocked_length` do not
    while shortest_blocked_length - longest_causal_length > 1:
        tested_length = (longest_causal_length + shortest_blocked_length) // 2
        longest_causal_length, shortest_blocked_length = (
            (tested_length, shortest_blocked_length)
            if count_visible_tokens(tested_length - 1) == tested_length
            else (longest_causal_length, tested_length)
        )
    return None, longest_causal_length


def _rope_token_limit(config: PretrainedConfig) -> int | None:
    """The length from which on a model's rotary frequencies depend on how long the whole input is.

    transformers 5.23 (modeling_rope_utils.dynamic_rope_update) takes them from the largest position of the pass, so that in a
    batch a long sequence would change the short ones.
    """
    parameters = getattr(config.get_text_config(), "rope_parameters", None) or {}
    layer_parameters = [entry for entry in parameters.values() if isinstance(entry, dict)]
    token_limits = []
    for rope_parameters in layer_parameters or [parameters]:
        rope_type = str(rope_parameters.get("rope_type", rope_parameters.get("type", "default")))
        if "dynamic" in rope_type or rope_type == "longrope":
            original_max_tokens = (
                rope_parameters.get("original_max_position_embeddings")
                or config.get_text_config().max_position_embeddings
            )
            token_limits.append(original_max_tokens - 1)
    return min(token_limits, default=None)
