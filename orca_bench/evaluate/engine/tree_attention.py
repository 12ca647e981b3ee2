"""Attention in a prefix tree, and in sequences that each grow by a token: what of the computed keys each query sees.

Registered with transformers as one more attention implementation, so that any of its models whose attention goes through
that interface can be asked; inside `attending` a `Seen` attends. In a tree each token of a row sees the kept path and, of the
row, its own ancestors, of which a layer may see only the nearest (a sliding window). Two ways of the same thing: `runs`
attends run by run, each to just its own ancestors, and was the faster on CPUs; `mask` gives one kernel a boolean mask, for
GPUs, where launching many kernels should cost more than the mask wastes (not measured).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface

from orca_bench.evaluate.engine.prefix_tree import Run, TreeBatch

NAME = "orca_bench_tree"
KINDS = ("runs", "mask")
_PART = 256  # tokens of a run that attend together under a mask
#: What models pass to their attention that changes no number here: dropout is 0 outside training, and the mask has the window.
_WITHOUT_EFFECT = {"dropout", "sliding_window", "position_ids", "cache_position", "use_cache", "position_embeddings"}


class Unfit(Exception):
    """A model's attention cannot be computed in a tree; `str()` is the reason, to follow "because"."""


class Variant(NamedTuple):
    """How one layer attends: the factor of its scores (None: 1/sqrt(head size)), the bound of a tanh over them, a logit for
    each head that takes weight without a value ("sinks", [heads]), and how many tokens each token sees (None: all before it).
    """

    scaling: float | None = None
    softcap: float | None = None
    sinks: torch.Tensor | None = None
    window: int | None = None


class Seen:
    """What each query of one forward pass sees. `windows` has the sliding window of each mask that the model makes, in order."""

    def __init__(self, windows: Sequence[int | None] = (None,)):
        self._windows, self._masks, self.layers = windows, 0, 0

    def attend(self, layer: int, query, key, value, variant: Variant) -> torch.Tensor:
        """Attention of one layer; all are [batch, heads, tokens, head size], keys and values of as many heads as there are."""
        raise NotImplementedError

    def mask(self, mask_function: Callable, device) -> torch.Tensor:
        """What stands for one of the model's masks: [number of the mask, 1, 1, 1], which survives slices and devices."""
        self._masks += 1
        return torch.zeros(1, dtype=torch.bool, device=device).expand(self._masks, 1, 1, 1)

    def window(self, mask: torch.Tensor | None) -> int | None:
        """The sliding window of a layer that is given this mask; raises Unfit where the mask is the model's own work."""
        if mask is None:
            return None
        if mask.dtype != torch.bool or tuple(mask.shape[1:]) != (1, 1, 1) or not len(mask) <= self._masks:
            raise Unfit("it adds a mask of its own to its attention")
        window = self._windows[len(mask) - 1]
        if window == 0:
            raise Unfit("its attention skips tokens")
        return window


class Path:
    """The keys and values of the kept path by layer, [1, heads, tokens, head size], and its last hidden states."""

    def __init__(self):
        self.keys: dict[int, torch.Tensor] = {}
        self.values: dict[int, torch.Tensor] = {}
        self.hidden: torch.Tensor | None = None


class Slots:
    """Keys and values of up to `count` sequences of up to `capacity` tokens, by layer [count, heads, capacity, head size].

    `lengths` says how many tokens of each slot there are. `each` says how they are attended to: slot by slot, each query to
    as many tokens as its sequence has, which was the faster on CPUs; or by one kernel with a mask.
    """

    def __init__(self, count: int, capacity: int, each: bool):
        self.count, self.capacity, self.each = count, capacity, each
        self.keys: dict[int, torch.Tensor] = {}
        self.values: dict[int, torch.Tensor] = {}
        self.lengths = [0] * count

    def of(self, layer: int, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(keys, values) of a layer, made like `key` and `value`, [batch, heads, tokens, head size], at its first use."""
        if layer not in self.keys:
            for slots, like in ((self.keys, key), (self.values, value)):
                # What a mask hides is still multiplied, by zero, and so must not be the NaN of fresh memory.
                make = like.new_empty if self.each else like.new_zeros
                slots[layer] = make((self.count, like.shape[1], self.capacity, like.shape[3]))
        return self.keys[layer], self.values[layer]

    def move(self, source: int, target: int) -> None:
        """Let the sequence of one slot stand in another."""
        length = self.lengths[target] = self.lengths[source]
        for kept in (self.keys, self.values):
            for tensor in kept.values():
                tensor[target, :, :length] = tensor[source, :, :length]


class Tree(Seen):
    """One row during its forward pass: what is kept before it, and what of it will be.

    `taken` are (slot, places of a path): the sequences that are to be continued in `slots`.
    """

    def __init__(self, row: TreeBatch, path: Path, keep: Sequence[int], kind: str, device, dtype, windows=(None,)):
        super().__init__(windows)
        self.row, self.path, self.kind, self.after = row, path, kind, Path()
        self.slots, self.taken = None, []
        self.keep = torch.tensor(keep, dtype=torch.long, device=device)
        self._device, self._dtype = device, dtype
        self._by_window: dict[int | None, object] = {}

    def take(self, slots: Slots, taken: Sequence[tuple[int, Sequence[int]]]) -> None:
        """Have the keys and values of these paths written into slots."""
        self.slots = slots
        self.taken = [(slot, torch.tensor(places, device=self.keep.device)) for slot, places in taken]
        for slot, places in taken:
            slots.lengths[slot] = len(places)

    def attend(self, layer: int, query, key, value, variant: Variant) -> torch.Tensor:
        """[1, heads, tokens, head size] of the row's tokens."""
        if layer in self.path.keys:
            key = torch.cat([self.path.keys[layer], key], dim=2)
            value = torch.cat([self.path.values[layer], value], dim=2)
        if len(self.keep):
            keep = self.keep.to(key.device)
            self.after.keys[layer] = key.index_select(2, keep)
            self.after.values[layer] = value.index_select(2, keep)
        for slot, places in self.taken:
            keys, values = self.slots.of(layer, key, value)
            keys[slot, :, : len(places)] = key[0].index_select(1, places.to(key.device))
            values[slot, :, : len(places)] = value[0].index_select(1, places.to(key.device))
        groups = query.shape[1] // key.shape[1]
        if groups > 1:
            key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
        if self.kind == "mask":
            return _attention(query, key, value, variant, self._mask(variant.window).to(key.device))
        return self._attend_runs(query, key, value, variant)

    def _mask(self, window: int | None) -> torch.Tensor:
        if window not in self._by_window:
            self._by_window[window] = mask(self.row, self._device, window)
        return self._by_window[window]

    def _attend_runs(self, query, key, value, variant: Variant) -> torch.Tensor:
        if variant.window not in self._by_window:
            runs = [_run(self.row, run, self._device, self._dtype, variant.window) for run in self.row.runs]
            self._by_window[variant.window] = runs
        parts_out = []
        for places, parts in self._by_window[variant.window]:
            if isinstance(places, slice):
                keys, values = key[:, :, places], value[:, :, places]
            else:
                places = places.to(key.device)
                keys, values = key.index_select(2, places), value.index_select(2, places)
            for part in parts:
                own, columns = slice(part.start, part.end), slice(part.first, part.last)
                hidden = None if part.mask is None else part.mask.to(key.device)
                out = _attention(
                    query[:, :, own], keys[:, :, columns], values[:, :, columns], variant, hidden, part.causal
                )
                parts_out.append(out)
        return torch.cat(parts_out, dim=2)


class Step(Seen):
    """One more token of each sequence in the first `count` slots; their lengths grow by it."""

    def __init__(self, slots: Slots, count: int, device, windows=(None,)):
        super().__init__(windows)
        self.slots = slots
        self.places = list(slots.lengths[:count])
        self.longest = max(self.places) + 1
        self.rows = torch.arange(count, device=device)
        self.columns = torch.tensor(self.places, device=device)
        self._masks_of: dict[tuple, torch.Tensor] = {}
        slots.lengths[:count] = [place + 1 for place in self.places]

    def attend(self, layer: int, query, key, value, variant: Variant) -> torch.Tensor:
        """[count, heads, 1, head size] of the new tokens."""
        keys, values = self.slots.of(layer, key, value)
        rows, columns = self.rows.to(key.device), self.columns.to(key.device)
        keys[rows, :, columns], values[rows, :, columns] = key[:, :, 0], value[:, :, 0]
        # The queries of the heads that share keys are asked as if they were tokens, which spares copies of the keys.
        batch, heads, _, size = query.shape
        queries = query.view(batch, key.shape[1], -1, size)
        if self.slots.each:
            parts = []
            for i, place in enumerate(self.places):
                one, columns = slice(i, i + 1), slice(_first(place, variant.window), place + 1)
                parts.append(_attention(queries[one], keys[one, :, columns], values[one, :, columns], variant))
            out = torch.cat(parts)
        else:
            keys, values = keys[:batch, :, : self.longest], values[:batch, :, : self.longest]
            visible = self._visible(variant.window, key.device).expand(-1, -1, queries.shape[2], -1)
            out = _attention(queries, keys, values, variant, visible)
        return out.reshape(batch, heads, 1, -1)

    def _visible(self, window: int | None, device) -> torch.Tensor:
        """Which of the slots' columns each sequence sees, bool [count, 1, 1, columns]."""
        if (window, device) not in self._masks_of:
            columns = self.columns.to(device)[:, None]
            places = torch.arange(self.longest, device=device)
            visible = places <= columns
            if window is not None:
                visible &= places > columns - window
            self._masks_of[window, device] = visible[:, None, None]
        return self._masks_of[window, device]


def mask(row: TreeBatch, device, window: int | None = None) -> torch.Tensor:
    """Who sees whom: bool [tokens, kept + tokens], true where the column is the row's token itself or an ancestor of it,
    and with a window one of the nearest `window` of these.
    """
    ends = torch.from_numpy(row.ends()).to(device)
    places = torch.arange(len(ends), device=device)
    asking = places[len(row.kept) :, None]
    visible = (places <= asking) & (asking < ends)
    if window is not None:
        depths = torch.tensor([*range(len(row.kept)), *row.depths], device=device)
        visible &= depths[len(row.kept) :, None] - depths < window
    return visible


class _Part(NamedTuple):
    """Tokens `start` to `end` of a row that attend together to columns `first` to `last` of what their run sees."""

    start: int
    end: int
    first: int
    last: int
    mask: torch.Tensor | None
    causal: bool


def _run(row: TreeBatch, run: Run, device, dtype, window: int | None) -> tuple[slice | torch.Tensor, list[_Part]]:
    """The places that a run sees, its ancestors and itself, in the order of their depths; and its parts.

    A long run behind other tokens is parted, so that no part computes much of what its mask then hides.
    """
    own = range(len(row.kept) + run.start, len(row.kept) + run.end)
    before = len(run.before)
    if before in (0, own.start):
        places = slice(own.start - before, own.stop)
    else:
        places = torch.tensor([*run.before, *own], dtype=torch.long, device=device)
    if before == 0 and (window is None or len(own) <= window):
        return places, [_Part(run.start, run.end, 0, len(own), None, True)]
    parts = []
    for start in range(run.start, run.end, _PART):
        end = min(start + _PART, run.end)
        size, last = end - start, before + end - run.start
        first = _first(last - size, window)
        hidden = None
        if size > 1:
            hidden = torch.zeros((size, last - first), dtype=dtype, device=device)
            own_columns = torch.full((size, size), float("-inf"), dtype=dtype, device=device).triu(1)
            hidden[:, last - first - size :] = own_columns
            if window is not None:
                depths, columns = torch.arange(last - size, last)[:, None], torch.arange(first, last)
                hidden.masked_fill_((columns <= depths - window).to(device), float("-inf"))
        parts.append(_Part(start, end, first, last, hidden, False))
    return places, parts


def _first(depth: int, window: int | None) -> int:
    """The depth of the first token that the token at this depth sees."""
    return 0 if window is None else max(0, depth + 1 - window)


def _attention(query, key, value, variant: Variant, mask: torch.Tensor | None = None, causal: bool = False):
    """Attention under a mask, true or 0 where a key is seen; with a cap or sinks as transformers' eager functions do it."""
    if variant.softcap is None and variant.sinks is None:
        return scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=causal, scale=variant.scaling)
    scaling = query.shape[-1] ** -0.5 if variant.scaling is None else variant.scaling
    scores = (query @ key.transpose(-1, -2)) * scaling
    if variant.softcap is not None:
        scores = torch.tanh(scores / variant.softcap) * variant.softcap
    if causal:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else scores + mask
    if variant.sinks is not None:
        sinks = variant.sinks.to(scores).reshape(1, query.shape[1], -1, 1)
        scores = torch.cat([scores, sinks.expand(*scores.shape[:-1], 1)], dim=-1)
    weights = scores.softmax(dim=-1, dtype=torch.float32).to(query.dtype)
    return weights[..., : key.shape[-2]] @ value


_SEEN: ContextVar[Seen | None] = ContextVar("seen", default=None)


def _attend(module, query, key, value, attention_mask, scaling=None, softcap=None, s_aux=None, is_causal=None, **more):
    seen = _SEEN.get()
    for name, option in more.items():
        off = option is None or (isinstance(option, (bool, int, float)) and not option)
        if not off and name not in _WITHOUT_EFFECT:
            raise Unfit(f"its attention takes {name}")
    if not (getattr(module, "is_causal", True) if is_causal is None else is_causal):
        raise Unfit("its attention is not causal")
    variant = Variant(scaling, softcap, s_aux, seen.window(attention_mask))
    layer, seen.layers = seen.layers, seen.layers + 1
    out = seen.attend(layer, query, key, value, variant)
    return out.transpose(1, 2).contiguous(), None


def _mask(mask_function: Callable, device=None, **_) -> torch.Tensor:
    return _SEEN.get().mask(mask_function, device)


AttentionInterface.register(NAME, _attend)
AttentionMaskInterface.register(NAME, _mask)


@contextmanager
def attending(config, seen: Seen) -> Iterator[None]:
    """Let a model attend as `seen` does, inside the block."""
    before, token = config._attn_implementation, _SEEN.set(seen)
    config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = before
        _SEEN.reset(token)
