"""How a model attends, layer by layer: whether a prefix tree can stand in for its plain passes, and up to which length.

A model comes in, its `Layout` goes out, or `Unfit` with the reason. The model's masks are not read from the names of its
configuration: one short pass shows the rule of each mask that transformers makes for it, and the rule is asked about tokens
as far away as the context window goes. Its own module because it knows transformers' masks and nothing of requests.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from orca_bench.evaluate.engine.tree_attention import Seen, Unfit, Variant, attending

_PROBE_TOKENS = 8
_FARTHEST = 2**18  # tokens that the rule of a mask is asked about: more than a request of the suite has


@dataclass(frozen=True)
class Layout:
    """`windows`: the sliding window of each mask that the model makes, in order (None: all before a token is seen).

    `layers` is how many times a pass attends, `width` the size of the last hidden state, and `kept_bytes` what the keys and
    values of one token take. Sequences of more than `limit` tokens are not to be computed in a tree (None: there is no such
    bound).
    """

    windows: tuple[int | None, ...]
    layers: int
    width: int
    kept_bytes: int
    limit: int | None = None


def decoder_of(model) -> torch.nn.Module:
    """The module between a model's ids and its output head; raises Unfit where the model has none of its own."""
    for decoder in (model.get_decoder(), model.base_model, getattr(model, "model", None)):
        if isinstance(decoder, PreTrainedModel) and decoder is not model:
            return decoder
    raise Unfit("its decoder and its head are one module")


def of(model) -> Layout:
    """The layout of a model; raises Unfit where it has none that a tree can follow."""
    decoder, probe = decoder_of(model), _Probe()
    ids = torch.arange(_PROBE_TOKENS, device=model.get_input_embeddings().weight.device)[None]
    with torch.inference_mode(), attending(decoder.config, probe):
        out = decoder(input_ids=ids, position_ids=ids, use_cache=False)
    if not probe.layers:
        raise Unfit("its attention does not go through transformers' attention interface")
    limits = [limit for limit in (*probe.used_limits, _rope_limit(model.config)) if limit is not None]
    width = out.last_hidden_state.shape[-1]
    return Layout(tuple(probe.rules), probe.layers, width, probe.kept_bytes, min(limits, default=None))


class _Probe(Seen):
    """A pass in which each token sees itself alone, and the rules of the masks are noted."""

    def __init__(self):
        super().__init__()
        self.rules: list[int | None] = []
        self.limits: list[int | None] = []
        self.used_limits: list[int | None] = []
        self.kept_bytes = 0

    def mask(self, mask_function: Callable, device) -> torch.Tensor:
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

    def attend(self, layer: int, query, key, value, variant: Variant) -> torch.Tensor:
        self.kept_bytes += sum(like.shape[1] * like.shape[3] * like.dtype.itemsize for like in (key, value))
        return value.repeat_interleave(query.shape[1] // value.shape[1], dim=1)


def _rule(mask_function: Callable, device) -> tuple[int | None, int | None]:
    """(the sliding window of a mask, None where all is seen; the length up to which this is the whole rule, None for ever).

    The window is 0 where tokens are seen that are not the nearest: no layer may use such a mask.

    `mask_function(batch, head, query, key)` is transformers' (masking_utils): whether a query sees a key.
    """
    keys, zero = torch.arange(_FARTHEST, device=device), torch.zeros((), dtype=torch.long, device=device)

    def seen(query: int) -> int | None:
        """How many of the tokens before a query, itself among them, it sees; None where these are not the nearest."""
        visible = mask_function(zero, zero, torch.tensor(query, device=device), keys).broadcast_to(keys.shape)
        count = int(visible.sum())
        return count if count and bool(visible[query + 1 - count : query + 1].all()) else None

    counts = {query: seen(query) for query in (0, 1, 5, _FARTHEST // 3, _FARTHEST // 2, _FARTHEST - 2, _FARTHEST - 1)}
    if None in counts.values():
        return 0, None
    window = max(counts.values())
    if all(count == min(query + 1, window) for query, count in counts.items()):
        return (None, None) if window == _FARTHEST else (window, None)
    low, high = 1, _FARTHEST  # some rule of blocks: the first `low` tokens see all before them, `high` do not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if seen(middle - 1) == middle else (low, middle)
    return None, low


def _rope_limit(config) -> int | None:
    """The length from which on a model's rotary frequencies depend on how long the whole input is.

    transformers 5.23 (modeling_rope_utils.dynamic_rope_update) takes them from the largest position of the pass, so that in a
    row a long sequence would change the short ones.
    """
    parameters = getattr(config.get_text_config(), "rope_parameters", None) or {}
    by_layer = [entry for entry in parameters.values() if isinstance(entry, dict)]
    lengths = []
    for rope in by_layer or [parameters]:
        kind = rope.get("rope_type", rope.get("type", "default"))
        if "dynamic" in kind or kind == "longrope":
            original = rope.get("original_max_position_embeddings") or config.get_text_config().max_position_embeddings
            lengths.append(original - 1)
    return min(lengths, default=None)
