"""How a model attends, layer by layer: whether a prefix tree can stand in for its plain passes, and up to which length.

A model comes in, its `Layout` goes out, or `Unfit` with the reason. The masks are not derived from the names in the model's
configuration: one short pass shows the rule of each mask that transformers makes for it, and the rule is applied to tokens
as far away as the context window goes. Its own module because it knows transformers' masks and nothing of requests.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from transformers import PretrainedConfig, PreTrainedModel

from orca_bench.evaluate.engine.attention_interface import (
    AttentionOptions,
    AttentionPattern,
    MaskFunction,
    Unfit,
    attending,
)

_PROBE_TOKENS = 8
_MAX_MASK_TOKENS = 2**18  # tokens that the rule of a mask is applied to: more than a request of the suite has


@dataclass(frozen=True)
class Layout:
    """How the layers of a model attend.

    `windows` is the sliding window in tokens of each mask that the model makes, in order (None: a token attends to all before
    it). `layer_count` is how many times a pass attends, `hidden_size` the size of the last hidden state, and `cache_bytes` what
    the keys and values of one token take in all layers. Sequences of more than `tree_limit` tokens must not be computed in a tree
    (None: there is no such bound).
    """

    windows: tuple[int | None, ...]
    layer_count: int
    hidden_size: int
    cache_bytes: int
    tree_limit: int | None = None


def decoder_of(model: PreTrainedModel) -> PreTrainedModel:
    """The module between a model's ids and its output head; raises Unfit where that is no module of its own."""
    for decoder in (model.get_decoder(), model.base_model, getattr(model, "model", None)):
        if isinstance(decoder, PreTrainedModel) and decoder is not model:
            return decoder
    raise Unfit("its decoder and its head are one module")


def layout_of(model: PreTrainedModel) -> Layout:
    """How a model attends; raises Unfit where a tree cannot follow it."""
    decoder, probe_pattern = decoder_of(model), _ProbePattern()
    ids = torch.arange(_PROBE_TOKENS, device=model.get_input_embeddings().weight.device)[None]
    with torch.inference_mode(), attending(decoder.config, probe_pattern):
        output = decoder(input_ids=ids, position_ids=ids, use_cache=False)
    if not probe_pattern.layer_count:
        raise Unfit("its attention does not go through transformers' attention interface")
    limits = [limit for limit in (*probe_pattern.layer_limits, _rope_limit(model.config)) if limit is not None]
    hidden_size = output.last_hidden_state.shape[-1]
    return Layout(
        tuple(probe_pattern.windows_by_mask),
        probe_pattern.layer_count,
        hidden_size,
        probe_pattern.cache_bytes,
        min(limits, default=None),
    )


class _ProbePattern(AttentionPattern):
    """A pass in which each token attends to itself alone, and the rules of the masks are noted."""

    def __init__(self) -> None:
        super().__init__()
        self.windows_by_mask: list[int | None] = []
        self.limits_by_mask: list[int | None] = []
        self.layer_limits: list[int | None] = []
        self.cache_bytes = 0

    def mask(self, mask_function: MaskFunction, device: torch.device) -> torch.Tensor:
        window, limit = _window_and_limit(mask_function, device)
        self.windows_by_mask.append(window)
        self.limits_by_mask.append(limit)
        self._windows_by_mask = self.windows_by_mask
        return super().mask(mask_function, device)

    def window(self, mask: torch.Tensor | None) -> int | None:
        window = super().window(mask)
        if mask is not None:
            self.layer_limits.append(self.limits_by_mask[len(mask) - 1])
        return window

    def attend(
        self, layer_index: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, options: AttentionOptions
    ) -> torch.Tensor:
        self.cache_bytes += sum(tensor.shape[1] * tensor.shape[3] * tensor.dtype.itemsize for tensor in (key, value))
        return value.repeat_interleave(query.shape[1] // value.shape[1], dim=1)


def _window_and_limit(mask_function: MaskFunction, device: torch.device) -> tuple[int | None, int | None]:
    """(the sliding window of a mask, None where it has none; the length up to which this is the whole rule, None for ever).

    The window is 0 where a token attends to others than the nearest: no layer may use such a mask.
    """
    key_indices, zero_index = (
        torch.arange(_MAX_MASK_TOKENS, device=device),
        torch.zeros((), dtype=torch.long, device=device),
    )

    def visible_tokens(query_index: int) -> int | None:
        """To how many tokens a query attends, itself among them; None where these are not the nearest."""
        is_visible = mask_function(
            zero_index, zero_index, torch.tensor(query_index, device=device), key_indices
        ).broadcast_to(key_indices.shape)
        visible_count = int(is_visible.sum())
        return (
            visible_count
            if visible_count and bool(is_visible[query_index + 1 - visible_count : query_index + 1].all())
            else None
        )

    visible_counts = {
        query_index: visible_tokens(query_index)
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
    window = max(visible_count or 0 for visible_count in visible_counts.values())
    if None in visible_counts.values():
        return 0, None
    if all(visible_count == min(query_index + 1, window) for query_index, visible_count in visible_counts.items()):
        return (None, None) if window == _MAX_MASK_TOKENS else (window, None)
    longest_matching, shortest_differing = (
        1,
        _MAX_MASK_TOKENS,
    )  # some rule of blocks: the first `longest_matching` tokens attend to all before them, `shortest_differing` do not
    while shortest_differing - longest_matching > 1:
        tested_length = (longest_matching + shortest_differing) // 2
        longest_matching, shortest_differing = (
            (tested_length, shortest_differing)
            if visible_tokens(tested_length - 1) == tested_length
            else (longest_matching, tested_length)
        )
    return None, longest_matching


def _rope_limit(config: PretrainedConfig) -> int | None:
    """The length from which on a model's rotary frequencies depend on how long the whole input is.

    transformers 5.23 (modeling_rope_utils.dynamic_rope_update) takes them from the largest position of the pass, so that in a
    batch a long sequence would change the short ones.
    """
    parameters = getattr(config.get_text_config(), "rope_parameters", None) or {}
    layer_parameters = [entry for entry in parameters.values() if isinstance(entry, dict)]
    limits = []
    for rope_parameters in layer_parameters or [parameters]:
        rope_type = str(rope_parameters.get("rope_type", rope_parameters.get("type", "default")))
        if "dynamic" in rope_type or rope_type == "longrope":
            original_length = (
                rope_parameters.get("original_max_position_embeddings")
                or config.get_text_config().max_position_embeddings
            )
            limits.append(original_length - 1)
    return min(limits, default=None)
