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
_FARTHEST = 2**18  # tokens that the rule of a mask is applied to: more than a request of the suite has


@dataclass(frozen=True)
class Layout:
    """How the layers of a model attend.

    `windows` is the sliding window in tokens of each mask that the model makes, in order (None: a token attends to all before
    it). `layers` is how many times a pass attends, `width` the size of the last hidden state, and `cache_bytes` what the keys and
    values of one token take in all layers. Sequences of more than `limit` tokens must not be computed in a tree (None: there is
    no such bound).
    """

    windows: tuple[int | None, ...]
    layers: int
    width: int
    cache_bytes: int
    limit: int | None = None


def decoder_of(model: PreTrainedModel) -> PreTrainedModel:
    """The module between a model's ids and its output head; raises Unfit where that is no module of its own."""
    for decoder in (model.get_decoder(), model.base_model, getattr(model, "model", None)):
        if isinstance(decoder, PreTrainedModel) and decoder is not model:
            return decoder
    raise Unfit("its decoder and its head are one module")


def layout_of(model: PreTrainedModel) -> Layout:
    """How a model attends; raises Unfit where a tree cannot follow it."""
    decoder, probe = decoder_of(model), _Probe()
    ids = torch.arange(_PROBE_TOKENS, device=model.get_input_embeddings().weight.device)[None]
    with torch.inference_mode(), attending(decoder.config, probe):
        out = decoder(input_ids=ids, position_ids=ids, use_cache=False)
    if not probe.layers:
        raise Unfit("its attention does not go through transformers' attention interface")
    limits = [limit for limit in (*probe.used_limits, _rope_limit(model.config)) if limit is not None]
    width = out.last_hidden_state.shape[-1]
    return Layout(tuple(probe.rules), probe.layers, width, probe.cache_bytes, min(limits, default=None))


class _Probe(AttentionPattern):
    """A pass in which each token attends to itself alone, and the rules of the masks are noted."""

    def __init__(self) -> None:
        super().__init__()
        self.rules: list[int | None] = []
        self.limits: list[int | None] = []
        self.used_limits: list[int | None] = []
        self.cache_bytes = 0

    def mask(self, mask_function: MaskFunction, device: torch.device) -> torch.Tensor:
        window, limit = _rule(mask_function, device)
        self.rules.append(window)
        self.limits.append(limit)
        self._windows = self.rules
        return super().mask(mask_function, device)

    def window(self, mask: torch.Tensor | None) -> int | None:
        window = super().window(mask)
        if mask is not None:
            self.used_limits.append(self.limits[len(mask) - 1])
        return window

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, options: AttentionOptions
    ) -> torch.Tensor:
        self.cache_bytes += sum(like.shape[1] * like.shape[3] * like.dtype.itemsize for like in (key, value))
        return value.repeat_interleave(query.shape[1] // value.shape[1], dim=1)


def _rule(mask_function: MaskFunction, device: torch.device) -> tuple[int | None, int | None]:
    """(the sliding window of a mask, None where it has none; the length up to which this is the whole rule, None for ever).

    The window is 0 where a token attends to others than the nearest: no layer may use such a mask.
    """
    keys, zero = torch.arange(_FARTHEST, device=device), torch.zeros((), dtype=torch.long, device=device)

    def visible_tokens(query: int) -> int | None:
        """To how many tokens a query attends, itself among them; None where these are not the nearest."""
        visible = mask_function(zero, zero, torch.tensor(query, device=device), keys).broadcast_to(keys.shape)
        count = int(visible.sum())
        return count if count and bool(visible[query + 1 - count : query + 1].all()) else None

    counts = {
        query: visible_tokens(query)
        for query in (0, 1, 5, _FARTHEST // 3, _FARTHEST // 2, _FARTHEST - 2, _FARTHEST - 1)
    }
    window = max(count or 0 for count in counts.values())
    if None in counts.values():
        return 0, None
    if all(count == min(query + 1, window) for query, count in counts.items()):
        return (None, None) if window == _FARTHEST else (window, None)
    low, high = 1, _FARTHEST  # some rule of blocks: the first `low` tokens attend to all before them, `high` do not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if visible_tokens(middle - 1) == middle else (low, middle)
    return None, low


def _rope_limit(config: PretrainedConfig) -> int | None:
    """The length from which on a model's rotary frequencies depend on how long the whole input is.

    transformers 5.23 (modeling_rope_utils.dynamic_rope_update) takes them from the largest position of the pass, so that in a
    batch a long sequence would change the short ones.
    """
    parameters = getattr(config.get_text_config(), "rope_parameters", None) or {}
    by_layer = [entry for entry in parameters.values() if isinstance(entry, dict)]
    lengths = []
    for rope in by_layer or [parameters]:
        kind = str(rope.get("rope_type", rope.get("type", "default")))
        if "dynamic" in kind or kind == "longrope":
            original = rope.get("original_max_position_embeddings") or config.get_text_config().max_position_embeddings
            lengths.append(original - 1)
    return min(lengths, default=None)
