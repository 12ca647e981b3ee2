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

from orca_bench.evaluate.tree import Row

NAME = "orca_bench_tree"
KINDS = ("runs", "mask")


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
        parts = []
        for start, end, seen, mask, causal in self.runs:
            keys, values = (
                (key[:, :, :seen], value[:, :, :seen])
                if isinstance(seen, int)
                else (key.index_select(2, seen), value.index_select(2, seen))
            )
            parts.append(
                scaled_dot_product_attention(
                    query[:, :, start:end], keys, values, attn_mask=mask, is_causal=causal, scale=scaling
                )
            )
        return torch.cat(parts, dim=2)


def _run(row: Row, run, device, dtype):
    """(start, end, what is seen: a length from place 0 or an index, mask, whether plain causal) of one run."""
    own = range(len(row.kept) + run.start, len(row.kept) + run.end)
    size, before = run.end - run.start, len(run.before)
    contiguous = before == own.start
    seen = own.stop if contiguous else torch.tensor([*run.before, *own], dtype=torch.long, device=device)
    if size == 1 or before == 0:
        return run.start, run.end, seen, None, size > 1
    mask = torch.zeros((size, before + size), dtype=dtype, device=device)
    mask[:, before:] = torch.full((size, size), float("-inf"), dtype=dtype, device=device).triu(1)
    return run.start, run.end, seen, mask, False


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
