"""Attention in a prefix tree: each token of a row sees the kept path and, of the row, its own ancestors.

Registered with transformers as one more attention implementation, so that any of its models whose attention goes through
that interface can be asked. Two ways of the same thing: `runs` attends run by run, each to just its own ancestors, and was
the faster on CPUs; `mask` gives one kernel a boolean mask, for GPUs, where launching many kernels should cost more than the
mask wastes (not measured).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from orca_bench.evaluate.tree import Row, Run

NAME = "orca_bench_tree"
KINDS = ("runs", "mask")
_PART = 256  # tokens of a run that attend together under a mask


class Path:
    """The keys and values of the kept path by layer, [1, heads, tokens, head size], and its last hidden states."""

    def __init__(self):
        self.keys: dict[int, torch.Tensor] = {}
        self.values: dict[int, torch.Tensor] = {}
        self.hidden: torch.Tensor | None = None


class Tree:
    """One row during its forward pass: what is kept before it, and what of it will be."""

    def __init__(self, row: Row, path: Path, keep: Sequence[int], kind: str, device, dtype):
        self.row, self.path, self.kind, self.after = row, path, kind, Path()
        self.keep = torch.tensor(keep, dtype=torch.long, device=device)
        if kind == "mask":
            self.mask = torch.from_numpy(row.mask()).to(device)
        else:
            self.runs = [_run(row, run, device, dtype) for run in row.runs]

    def attend(self, layer: int, query, key, value, groups: int, scaling: float):
        """[1, heads, tokens, head size] of the row's tokens."""
        if layer in self.path.keys:
            key = torch.cat([self.path.keys[layer], key], dim=2)
            value = torch.cat([self.path.values[layer], value], dim=2)
        if len(self.keep):
            self.after.keys[layer] = key.index_select(2, self.keep)
            self.after.values[layer] = value.index_select(2, self.keep)
        if groups > 1:
            key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
        if self.kind == "mask":
            return scaled_dot_product_attention(query, key, value, attn_mask=self.mask, scale=scaling)
        done = []
        for seen, parts in self.runs:
            if isinstance(seen, slice):
                keys, values = key[:, :, seen], value[:, :, seen]
            else:
                keys, values = key.index_select(2, seen), value.index_select(2, seen)
            for start, end, length, mask, causal in parts:
                asked = query[:, :, start:end]
                done.append(
                    scaled_dot_product_attention(
                        asked,
                        keys[:, :, :length],
                        values[:, :, :length],
                        attn_mask=mask,
                        is_causal=causal,
                        scale=scaling,
                    )
                )
        return torch.cat(done, dim=2)


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


def _attend(module, query, key, value, attention_mask, scaling=None, tree: Tree | None = None, **_):
    if tree is None:
        raise RuntimeError(
            f"{type(module).__name__} does not hand the tree to its attention; this model cannot be scored here"
        )
    groups = query.shape[1] // key.shape[1]
    out = tree.attend(module.layer_idx, query, key, value, groups, scaling)
    return out.transpose(1, 2).contiguous(), None


AttentionInterface.register(NAME, _attend)


@contextmanager
def tree_attention(config) -> Iterator[None]:
    """Let a model attend in trees inside the block."""
    before = config._attn_implementation
    config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = before
