"""Attention in a prefix tree, and in sequences that each grow by a token: to which of the computed keys each query attends.

`TreeAttention` is the pattern of one batch of the tree: each token attends to the cached path and, of the batch, to its own
ancestors, of which a layer may use only the nearest (a sliding window). There are two ways to compute the same: `runs` attends
run by run, each to just its own ancestors, and was the faster on CPUs; `mask` gives one kernel a boolean mask, for GPUs, where
launching many kernels should cost more than the mask wastes (not measured). `StepAttention` is the pattern of one step of
generation. Its own module because it knows keys and values and neither models nor requests.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from orca_bench.evaluate.engine.attention_interface import AttentionOptions, AttentionPattern, attention
from orca_bench.evaluate.engine.kv_cache import CachedPath, CacheSlots
from orca_bench.evaluate.engine.prefix_tree import TokenSpan, TreeBatch

KINDS = ("runs", "mask")
_PART_TOKENS = 256  # tokens of a run that attend together under a mask


class TreeAttention(AttentionPattern):
    """One batch of the tree during its forward pass, after the cached `path`.

    `keep` are the indices of the batch that the next one needs; `next_path` is filled with their keys and values. `kind` is one
    of KINDS.
    """

    def __init__(
        self,
        batch: TreeBatch,
        path: CachedPath,
        keep: Sequence[int],
        kind: str,
        device: torch.device,
        dtype: torch.dtype,
        windows: Sequence[int | None] = (None,),
    ):
        super().__init__(windows)
        self.batch, self.path, self.kind, self.next_path = batch, path, kind, CachedPath()
        self.keep = torch.tensor(keep, dtype=torch.long, device=device)
        self._slots: CacheSlots | None = None
        self._slot_paths: list[tuple[int, torch.Tensor]] = []
        self._device, self._dtype = device, dtype
        self._masks_by_window: dict[int | None, torch.Tensor] = {}
        self._runs_by_window: dict[int | None, list[_AttendingRun]] = {}

    def fill_slots(self, slots: CacheSlots, paths: Sequence[tuple[int, Sequence[int]]]) -> None:
        """Have the keys and values of sequences, (slot, indices of its path), written into slots during the pass."""
        self._slots = slots
        self._slot_paths = [(slot, torch.tensor(indices, device=self.keep.device)) for slot, indices in paths]
        for slot, indices in paths:
            slots.lengths[slot] = len(indices)

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, options: AttentionOptions
    ) -> torch.Tensor:
        """[1, heads, tokens, head size] of the batch's tokens, whose keys and values are [1, key heads, tokens, head size]."""
        if layer in self.path.keys:
            key = torch.cat([self.path.keys[layer], key], dim=2)
            value = torch.cat([self.path.values[layer], value], dim=2)
        self._cache(layer, key, value)
        groups = query.shape[1] // key.shape[1]
        if groups > 1:
            key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
        if self.kind == "mask":
            return attention(query, key, value, options, self._mask(options.window).to(key.device))
        return self._attend_runs(query, key, value, options)

    def _cache(self, layer: int, key: torch.Tensor, value: torch.Tensor) -> None:
        """Copy what the next batch and the slots need of the keys and values, [1, key heads, cached + tokens, head size]."""
        if len(self.keep):
            keep = self.keep.to(key.device)
            self.next_path.keys[layer] = key.index_select(2, keep)
            self.next_path.values[layer] = value.index_select(2, keep)
        if self._slots is None:
            return
        keys, values = self._slots.of_layer(layer, key, value)
        for slot, indices in self._slot_paths:
            keys[slot, :, : len(indices)] = key[0].index_select(1, indices.to(key.device))
            values[slot, :, : len(indices)] = value[0].index_select(1, indices.to(key.device))

    def _mask(self, window: int | None) -> torch.Tensor:
        if window not in self._masks_by_window:
            self._masks_by_window[window] = tree_mask(self.batch, self._device, window)
        return self._masks_by_window[window]

    def _attend_runs(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, options: AttentionOptions
    ) -> torch.Tensor:
        if options.window not in self._runs_by_window:
            self._runs_by_window[options.window] = [
                _attending_run(self.batch, run, self._device, self._dtype, options.window) for run in self.batch.runs
            ]
        outputs = []
        for indices, parts in self._runs_by_window[options.window]:
            if isinstance(indices, slice):
                keys, values = key[:, :, indices], value[:, :, indices]
            else:
                indices = indices.to(key.device)
                keys, values = key.index_select(2, indices), value.index_select(2, indices)
            for part in parts:
                own, columns = slice(part.start, part.end), slice(part.first, part.last)
                mask = None if part.mask is None else part.mask.to(key.device)
                outputs.append(
                    attention(query[:, :, own], keys[:, :, columns], values[:, :, columns], options, mask, part.causal)
                )
        return torch.cat(outputs, dim=2)


class StepAttention(AttentionPattern):
    """One more token for each sequence in the first `count` slots; their lengths grow by it.

    `positions` has the position of each new token in its sequence.
    """

    def __init__(self, slots: CacheSlots, count: int, device: torch.device, windows: Sequence[int | None] = (None,)):
        super().__init__(windows)
        self.positions = list(slots.lengths[:count])
        self._slots = slots
        self._longest = max(self.positions) + 1
        self._slot_numbers = torch.arange(count, device=device)
        self._columns = torch.tensor(self.positions, device=device)
        self._masks_by_window: dict[tuple[int | None, torch.device], torch.Tensor] = {}
        slots.lengths[:count] = [position + 1 for position in self.positions]

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, options: AttentionOptions
    ) -> torch.Tensor:
        """[count, heads, 1, head size] of the new tokens, whose keys and values are [count, key heads, 1, head size]."""
        keys, values = self._slots.of_layer(layer, key, value)
        slots, columns = self._slot_numbers.to(key.device), self._columns.to(key.device)
        keys[slots, :, columns], values[slots, :, columns] = key[:, :, 0], value[:, :, 0]
        # The queries of the heads that share keys go in as if they were tokens, which spares copies of the keys.
        batch, heads, _, size = query.shape
        queries = query.view(batch, key.shape[1], -1, size)
        if self._slots.one_by_one:
            outputs = []
            for i, position in enumerate(self.positions):
                one, seen_columns = slice(i, i + 1), slice(_first_depth(position, options.window), position + 1)
                outputs.append(
                    attention(queries[one], keys[one, :, seen_columns], values[one, :, seen_columns], options)
                )
            out = torch.cat(outputs)
        else:
            keys, values = keys[:batch, :, : self._longest], values[:batch, :, : self._longest]
            mask = self._mask(options.window, key.device).expand(-1, -1, queries.shape[2], -1)
            out = attention(queries, keys, values, options, mask)
        return out.reshape(batch, heads, 1, -1)

    def _mask(self, window: int | None, device: torch.device) -> torch.Tensor:
        """To which columns of its slot each sequence attends, bool [count, 1, 1, columns]."""
        if (window, device) not in self._masks_by_window:
            last = self._columns.to(device)[:, None]
            columns = torch.arange(self._longest, device=device)
            visible = columns <= last
            if window is not None:
                visible &= columns > last - window
            self._masks_by_window[window, device] = visible[:, None, None]
        return self._masks_by_window[window, device]


def tree_mask(batch: TreeBatch, device: torch.device | str, window: int | None = None) -> torch.Tensor:
    """Who attends to whom: bool [tokens, cached + tokens], true where the column is the token itself or an ancestor of it,
    and with a window one of the nearest `window` of these.
    """
    ends = torch.from_numpy(batch.subtree_ends()).to(device)
    indices = torch.arange(len(ends), device=device)
    own = indices[len(batch.cached) :, None]
    visible = (indices <= own) & (own < ends)
    if window is not None:
        depths = torch.tensor([*range(len(batch.cached)), *batch.depths], device=device)
        visible &= depths[len(batch.cached) :, None] - depths < window
    return visible


class _Part(NamedTuple):
    """Tokens `start` to `end` of a batch that attend together to columns `first` to `last` of their run's.

    `mask` is [tokens, columns], 0 where a column is attended to and -inf elsewhere; None: to all, or `causal`.
    """

    start: int
    end: int
    first: int
    last: int
    mask: torch.Tensor | None
    causal: bool


class _AttendingRun(NamedTuple):
    """A run during its attention: the indices of its columns, its ancestors and itself in the order of depth; its parts."""

    columns: slice | torch.Tensor
    parts: list[_Part]


def _attending_run(
    batch: TreeBatch, run: TokenSpan, device: torch.device, dtype: torch.dtype, window: int | None
) -> _AttendingRun:
    """A run, in parts; a long run after other tokens has several, so that no part computes much of what its mask hides."""
    own = range(len(batch.cached) + run.start, len(batch.cached) + run.end)
    ancestors = len(run.ancestors)
    columns: slice | torch.Tensor
    if ancestors in (0, own.start):
        columns = slice(own.start - ancestors, own.stop)
    else:
        columns = torch.tensor([*run.ancestors, *own], dtype=torch.long, device=device)
    if ancestors == 0 and (window is None or len(own) <= window):
        return _AttendingRun(columns, [_Part(run.start, run.end, 0, len(own), None, True)])
    parts = []
    for start in range(run.start, run.end, _PART_TOKENS):
        end = min(start + _PART_TOKENS, run.end)
        size, last = end - start, ancestors + end - run.start
        first = _first_depth(last - size, window)
        mask = _part_mask(size, first, last, window, device, dtype) if size > 1 else None
        parts.append(_Part(start, end, first, last, mask, False))
    return _AttendingRun(columns, parts)


def _part_mask(
    size: int, first: int, last: int, window: int | None, device: torch.device, dtype: torch.dtype
) -> torch.Tensor:
    """[size, last - first]: 0 where the last `size` of the depths `first` to `last` attend to a depth, -inf elsewhere."""
    mask = torch.zeros((size, last - first), dtype=dtype, device=device)
    own_columns = torch.full((size, size), float("-inf"), dtype=dtype, device=device).triu(1)
    mask[:, last - first - size :] = own_columns
    if window is not None:
        depths, columns = torch.arange(last - size, last)[:, None], torch.arange(first, last)
        mask.masked_fill_((columns <= depths - window).to(device), float("-inf"))
    return mask


def _first_depth(depth: int, window: int | None) -> int:
    """The depth of the first token that the token at this depth attends to."""
    return 0 if window is None else max(0, depth + 1 - window)
