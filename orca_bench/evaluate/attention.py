"""Attention in a prefix tree, and in sequences that each grow by a token: what of the computed keys each query sees.

Registered with transformers as one more attention implementation, so that any of its models whose attention goes through
that interface can be asked; a forward pass is given a `Seen`, which attends. In a tree each token of a row sees the kept path
and, of the row, its own ancestors. Two ways of the same thing: `runs` attends run by run, each to just its own ancestors, and
was the faster on CPUs; `mask` gives one kernel a boolean mask, for GPUs, where launching many kernels should cost more than
the mask wastes (not measured).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol as Interface

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from orca_bench.evaluate.tree import Row, Run

NAME = "orca_bench_tree"
KINDS = ("runs", "mask")
_PART = 256  # tokens of a run that attend together under a mask


class Seen(Interface):
    """What each query of one forward pass sees."""

    def attend(self, layer: int, query, key, value, scaling: float):
        """Attention of one layer; all are [batch, heads, tokens, head size], keys and values of as many heads as there are."""


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

    def of(self, layer: int, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(keys, values) of a layer, made like `like`, [batch, heads, tokens, head size], at its first use."""
        if layer not in self.keys:
            shape = (self.count, like.shape[1], self.capacity, like.shape[3])
            # What a mask hides is still multiplied, by zero, and so must not be the NaN of fresh memory.
            make = like.new_empty if self.each else like.new_zeros
            self.keys[layer], self.values[layer] = make(shape), make(shape)
        return self.keys[layer], self.values[layer]

    def move(self, source: int, target: int) -> None:
        """Let the sequence of one slot stand in another."""
        length = self.lengths[target] = self.lengths[source]
        for kept in (self.keys, self.values):
            for tensor in kept.values():
                tensor[target, :, :length] = tensor[source, :, :length]


class Tree:
    """One row during its forward pass: what is kept before it, and what of it will be.

    `taken` are (slot, places of a path): the sequences that are to be continued in `slots`.
    """

    def __init__(self, row: Row, path: Path, keep: Sequence[int], kind: str, device, dtype):
        self.row, self.path, self.kind, self.after = row, path, kind, Path()
        self.slots, self.taken = None, []
        self.keep = torch.tensor(keep, dtype=torch.long, device=device)
        if kind == "mask":
            self.mask = mask(row, device)
        else:
            self.runs = [_run(row, run, device, dtype) for run in row.runs]

    def take(self, slots: Slots, taken: Sequence[tuple[int, Sequence[int]]]) -> None:
        """Have the keys and values of these paths written into slots."""
        self.slots = slots
        self.taken = [(slot, torch.tensor(places, device=self.keep.device)) for slot, places in taken]
        for slot, places in taken:
            slots.lengths[slot] = len(places)

    def attend(self, layer: int, query, key, value, scaling: float):
        """[1, heads, tokens, head size] of the row's tokens."""
        if layer in self.path.keys:
            key = torch.cat([self.path.keys[layer], key], dim=2)
            value = torch.cat([self.path.values[layer], value], dim=2)
        if len(self.keep):
            keep = self.keep.to(key.device)
            self.after.keys[layer] = key.index_select(2, keep)
            self.after.values[layer] = value.index_select(2, keep)
        for slot, places in self.taken:
            keys, values = self.slots.of(layer, key)
            keys[slot, :, : len(places)] = key[0].index_select(1, places.to(key.device))
            values[slot, :, : len(places)] = value[0].index_select(1, places.to(key.device))
        groups = query.shape[1] // key.shape[1]
        if groups > 1:
            key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
        if self.kind == "mask":
            return scaled_dot_product_attention(query, key, value, attn_mask=self.mask.to(key.device), scale=scaling)
        done = []
        for seen, parts in self.runs:
            if isinstance(seen, slice):
                keys, values = key[:, :, seen], value[:, :, seen]
            else:
                seen = seen.to(key.device)
                keys, values = key.index_select(2, seen), value.index_select(2, seen)
            for start, end, length, part, causal in parts:
                asked, keys_, values_ = query[:, :, start:end], keys[:, :, :length], values[:, :, :length]
                part = part if part is None else part.to(key.device)
                done.append(
                    scaled_dot_product_attention(asked, keys_, values_, attn_mask=part, is_causal=causal, scale=scaling)
                )
        return torch.cat(done, dim=2)


class Step:
    """One more token of each sequence in the first `count` slots; their lengths grow by it."""

    def __init__(self, slots: Slots, count: int, device):
        self.slots = slots
        self.places = list(slots.lengths[:count])
        self.longest = max(self.places) + 1
        self.rows = torch.arange(count, device=device)
        self.columns = torch.tensor(self.places, device=device)
        self.mask = (
            None if slots.each else (torch.arange(self.longest, device=device) <= self.columns[:, None])[:, None, None]
        )
        slots.lengths[:count] = [place + 1 for place in self.places]

    def attend(self, layer: int, query, key, value, scaling: float):
        """[count, heads, 1, head size] of the new tokens."""
        keys, values = self.slots.of(layer, key)
        rows, columns = self.rows.to(key.device), self.columns.to(key.device)
        keys[rows, :, columns], values[rows, :, columns] = key[:, :, 0], value[:, :, 0]
        # The queries of the heads that share keys are asked as if they were tokens, which spares copies of the keys.
        batch, heads, _, size = query.shape
        asked = query.view(batch, key.shape[1], -1, size)
        if self.slots.each:
            found = [
                scaled_dot_product_attention(
                    asked[i : i + 1], keys[i : i + 1, :, : n + 1], values[i : i + 1, :, : n + 1], scale=scaling
                )
                for i, n in enumerate(self.places)
            ]
            out = torch.cat(found)
        else:
            keys, values = keys[:batch, :, : self.longest], values[:batch, :, : self.longest]
            seen = self.mask.to(key.device).expand(-1, -1, asked.shape[2], -1)
            out = scaled_dot_product_attention(asked, keys, values, attn_mask=seen, scale=scaling)
        return out.reshape(batch, heads, 1, size)


def mask(row: Row, device) -> torch.Tensor:
    """Who sees whom: bool [tokens, kept + tokens], true where the column is the row's token itself or an ancestor."""
    ends = torch.from_numpy(row.ends()).to(device)
    places = torch.arange(len(ends), device=device)
    asking = places[len(row.kept) :, None]
    return (places <= asking) & (asking < ends)


def _run(row: Row, run: Run, device, dtype):
    """(the places that a run sees, its parts); a part is (start, end, how much of those it sees, mask, plain causal).

    A long run behind other tokens is parted, so that no part computes much of what its mask then hides.
    """
    own = range(len(row.kept) + run.start, len(row.kept) + run.end)
    before = len(run.before)
    if before in (0, own.start):
        places = slice(own.start - before, own.stop)
    else:
        places = torch.tensor([*run.before, *own], dtype=torch.long, device=device)
    if before == 0:
        return places, [(run.start, run.end, len(own), None, True)]
    parts = []
    for start in range(run.start, run.end, _PART):
        end = min(start + _PART, run.end)
        size, seen = end - start, before + end - run.start
        mask = None
        if size > 1:
            mask = torch.zeros((size, seen), dtype=dtype, device=device)
            mask[:, seen - size :] = torch.full((size, size), float("-inf"), dtype=dtype, device=device).triu(1)
        parts.append((start, end, seen, mask, False))
    return places, parts


def _attend(module, query, key, value, attention_mask, scaling=None, seen: Seen | None = None, **_):
    if seen is None:
        raise RuntimeError(
            f"{type(module).__name__} does not say to its attention what is seen; this model cannot be scored here"
        )
    out = seen.attend(module.layer_idx, query, key, value, scaling)
    return out.transpose(1, 2).contiguous(), None


AttentionInterface.register(NAME, _attend)


@contextmanager
def own_attention(config) -> Iterator[None]:
    """Let a model attend as it is told by `seen`, inside the block."""
    before = config._attn_implementation
    config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = before
