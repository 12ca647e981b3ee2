"""Attention in a prefix tree, and in sequences that each grow by a token: to which of the computed keys each query attends.

`TreeAttention` is the pattern of one batch of the tree: each token attends to the cached path and, of the batch, to its own
ancestors, of which a layer may use only the nearest (a sliding window). There are three ways to compute the same: `runs` attends
span by span, each to just its own ancestors, and is the fastest on CPUs; `lengths` gives one kernel all spans as sequences of
unequal lengths, is the fastest on GPUs in half precision (a layer's attention 1.4 to 4.4 times as fast as by `mask`,
results/bench/gpu.md), and is `mask` elsewhere; `mask` gives one kernel a boolean mask. `StepAttention` is the pattern of one
step of generation. Its own module because it knows keys and values and neither models nor requests.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from orca_bench.evaluate.engine import product_attention
from orca_bench.evaluate.engine.attention_interface import AttentionOptions, AttentionPattern, masked_attention
from orca_bench.evaluate.engine.kv_cache import CachedPath, CacheSlots
from orca_bench.evaluate.engine.prefix_tree import TokenSpan, TreeBatch
from orca_bench.evaluate.engine.variable_length_attention import GatheredSpans
from orca_bench.models import variable_length_kernel

ATTENTION_METHODS = ("runs", "mask", "lengths")
_QUERY_BLOCK_TOKENS = 256  # tokens of a span that attend together under a mask


def default_attention_method(device: torch.device, dtype: torch.dtype) -> str:
    """The fastest of ATTENTION_METHODS on a device, for a model of a type; see the module."""
    if device.type == "cpu":
        return "runs"
    return "lengths" if variable_length_kernel.has_kernel(device, dtype) else "mask"


class TreeAttention(AttentionPattern):
    """One batch of the tree during its forward pass, after the path `cached_path`.

    `next_cached_indices` are the indices of the batch that the next one needs; `next_cached_path` is filled with their keys and
    values. `attention_method` is one of ATTENTION_METHODS.
    """

    def __init__(
        self,
        batch: TreeBatch,
        cached_path: CachedPath,
        next_cached_indices: Sequence[int],
        attention_method: str,
        device: torch.device,
        dtype: torch.dtype,
        window_tokens_by_mask: Sequence[int | None] = (None,),
    ):
        super().__init__(window_tokens_by_mask)
        self.batch, self.cached_path, self.attention_method, self.next_cached_path = (
            batch,
            cached_path,
            attention_method,
            CachedPath(),
        )
        self.next_cached_indices = torch.tensor(next_cached_indices, dtype=torch.long, device=device)
        self._slots: CacheSlots | None = None
        self._slot_paths: list[tuple[int, torch.Tensor]] = []
        self._device, self._dtype = device, dtype
        self._masks_by_window: dict[int | None, torch.Tensor] = {}
        self._spans_by_window: dict[int | None, list[_SpanAttention]] = {}
        self._gathered_spans = GatheredSpans(batch, device) if attention_method == "lengths" else None

    def fill_slots(self, slots: CacheSlots, slot_paths: Sequence[tuple[int, Sequence[int]]]) -> None:
        """Have the keys and values of sequences, (slot, indices of its path), written into slots during the pass."""
        self._slots = slots
        self._slot_paths = [
            (slot, torch.tensor(path_indices, device=self.next_cached_indices.device))
            for slot, path_indices in slot_paths
        ]
        for slot, path_indices in slot_paths:
            slots.token_counts_by_slot[slot] = len(path_indices)

    def attend(
        self, layer_index: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, options: AttentionOptions
    ) -> torch.Tensor:
        """[1, heads, tokens, head size] of the batch's tokens, whose keys and values are [1, key heads, tokens, head size]."""
        if layer_index in self.cached_path.keys_by_layer:
            key = torch.cat([self.cached_path.keys_by_layer[layer_index], key], dim=2)
            value = torch.cat([self.cached_path.values_by_layer[layer_index], value], dim=2)
        self._copy_to_caches(layer_index, key, value)
        if self._gathered_spans is not None and self._gathered_spans.can_attend(query, value, options):
            return self._gathered_spans.attend(query, key, value, options)
        if self.attention_method != "runs":
            return masked_attention(
                query, key, value, options, self._mask_of_window(options.window_tokens).to(key.device)
            )
        return self._attend_spans(query, key, value, options)

    def _copy_to_caches(self, layer_index: int, key: torch.Tensor, value: torch.Tensor) -> None:
        """Copy what the next batch and the slots need of the keys and values, [1, key heads, cached + tokens, head size]."""
        if len(self.next_cached_indices):
            device_indices = self.next_cached_indices.to(key.device)
            self.next_cached_path.keys_by_layer[layer_index] = key.index_select(2, device_indices)
            self.next_cached_path.values_by_layer[layer_index] = value.index_select(2, device_indices)
        if self._slots is None:
            return
        keys, values = self._slots.layer_keys_and_values(layer_index, key, value)
        for slot, path_indices in self._slot_paths:
            keys[slot, :, : len(path_indices)] = key[0].index_select(1, path_indices.to(key.device))
            values[slot, :, : len(path_indices)] = value[0].index_select(1, path_indices.to(key.device))

    def _mask_of_window(self, window_tokens: int | None) -> torch.Tensor:
        if window_tokens not in self._masks_by_window:
            self._masks_by_window[window_tokens] = tree_mask(self.batch, self._device, window_tokens)
        return self._masks_by_window[window_tokens]

    def _attend_spans(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, options: AttentionOptions
    ) -> torch.Tensor:
        if options.window_tokens not in self._spans_by_window:
            self._spans_by_window[options.window_tokens] = [
                _span_attention(self.batch, span, self._device, self._dtype, options.window_tokens)
                for span in self.batch.token_spans
            ]
        output_blocks = []
        for key_indices, query_blocks in self._spans_by_window[options.window_tokens]:
            if isinstance(key_indices, slice):
                keys, values = key[:, :, key_indices], value[:, :, key_indices]
            else:
                key_indices = key_indices.to(key.device)
                keys, values = key.index_select(2, key_indices), value.index_select(2, key_indices)
            for query_block in query_blocks:
                query_slice, key_slice = (
                    slice(query_block.first_token, query_block.end_token),
                    slice(query_block.first_column, query_block.end_column),
                )
                output_blocks.append(
                    attend_block(
                        query[:, :, query_slice], keys[:, :, key_slice], values[:, :, key_slice], query_block, options
                    )
                )
        return torch.cat(output_blocks, dim=2)


class StepAttention(AttentionPattern):
    """One more token for each sequence in the first `sequence_count` slots; their lengths grow by it.

    `positions` has the position of each new token in its sequence.
    """

    def __init__(
        self,
        slots: CacheSlots,
        sequence_count: int,
        device: torch.device,
        window_tokens_by_mask: Sequence[int | None] = (None,),
    ):
        super().__init__(window_tokens_by_mask)
        self.positions = list(slots.token_counts_by_slot[:sequence_count])
        self._slots = slots
        self._longest_token_count = max(self.positions) + 1
        self._slot_indices = torch.arange(sequence_count, device=device)
        self._new_columns = torch.tensor(self.positions, device=device)
        self._masks_by_window: dict[tuple[int | None, torch.device], torch.Tensor] = {}
        slots.token_counts_by_slot[:sequence_count] = [position + 1 for position in self.positions]

    def attend(
        self, layer_index: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, options: AttentionOptions
    ) -> torch.Tensor:
        """[count, heads, 1, head size] of the new tokens, whose keys and values are [count, key heads, 1, head size]."""
        keys, values = self._slots.layer_keys_and_values(layer_index, key, value)
        slot_indices, column_indices = self._slot_indices.to(key.device), self._new_columns.to(key.device)
        keys[slot_indices, :, column_indices], values[slot_indices, :, column_indices] = key[:, :, 0], value[:, :, 0]
        # The queries of the heads that share keys go in as if they were tokens, which spares copies of the keys.
        sequence_count, head_count, _, head_size = query.shape
        queries = query.view(sequence_count, key.shape[1], -1, head_size)
        if self._slots.attends_slot_by_slot:
            slot_outputs = []
            for slot, position in enumerate(self.positions):
                slot_slice, visible_slice = (
                    slice(slot, slot + 1),
                    slice(first_visible_depth(position, options.window_tokens), position + 1),
                )
                slot_outputs.append(
                    masked_attention(
                        queries[slot_slice],
                        keys[slot_slice, :, visible_slice],
                        values[slot_slice, :, visible_slice],
                        options,
                    )
                )
            output = torch.cat(slot_outputs)
        else:
            keys, values = (
                keys[:sequence_count, :, : self._longest_token_count],
                values[:sequence_count, :, : self._longest_token_count],
            )
            attention_mask = self._mask_of_window(options.window_tokens, key.device).expand(
                -1, -1, queries.shape[2], -1
            )
            output = masked_attention(queries, keys, values, options, attention_mask)
        return output.reshape(sequence_count, head_count, 1, -1)

    def _mask_of_window(self, window_tokens: int | None, device: torch.device) -> torch.Tensor:
        """To which columns of its slot each sequence attends, bool [count, 1, 1, columns]."""
        if (window_tokens, device) not in self._masks_by_window:
            last_column = self._new_columns.to(device)[:, None]
            column_indices = torch.arange(self._longest_token_count, device=device)
            is_visible = column_indices <= last_column
            if window_tokens is not None:
                is_visible &= column_indices > last_column - window_tokens
            self._masks_by_window[window_tokens, device] = is_visible[:, None, None]
        return self._masks_by_window[window_tokens, device]


def tree_mask(batch: TreeBatch, device: torch.device | str, window_tokens: int | None = None) -> torch.Tensor:
    """Who attends to whom: bool [tokens, cached + tokens], true where the column is the token itself or an ancestor of it,
    and with a window one of the nearest `window_tokens` of these.
    """
    subtree_ends = torch.from_numpy(batch.subtree_ends()).to(device)
    column_indices = torch.arange(len(subtree_ends), device=device)
    query_indices = column_indices[len(batch.cached_indices) :, None]
    is_visible = (column_indices <= query_indices) & (query_indices < subtree_ends)
    if window_tokens is not None:
        depths = torch.tensor([*range(len(batch.cached_indices)), *batch.token_depths], device=device)
        is_visible &= depths[len(batch.cached_indices) :, None] - depths < window_tokens
    return is_visible


class QueryBlock(NamedTuple):
    """Tokens `first_token` to `end_token` of a batch that attend together to columns `first_column` to `end_column`.

    `attention_mask` is [tokens, columns], 0 where a column is attended to and -inf elsewhere; None: to all, or `is_causal`.
    """

    first_token: int
    end_token: int
    first_column: int
    end_column: int
    attention_mask: torch.Tensor | None
    is_causal: bool


def attend_block(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, block: QueryBlock, options: AttentionOptions
) -> torch.Tensor:
    """[1, heads, queries, head size] of the block's queries over the keys and values of its columns, [1, heads, columns, …]."""
    is_plain = options.softcap is None and options.sinks is None and options.window_tokens is None
    if is_plain and product_attention.is_faster(query, key):
        return product_attention.causal_attention(query, key, value, options.score_scaling)
    attention_mask = None if block.attention_mask is None else block.attention_mask.to(key.device)
    return masked_attention(query, key, value, options, attention_mask, block.is_causal)


class _SpanAttention(NamedTuple):
    """A span during its attention: `key_indices` are its ancestors and itself in the order of depth; and its query blocks."""

    key_indices: slice | torch.Tensor
    query_blocks: list[QueryBlock]


def _span_attention(
    batch: TreeBatch, span: TokenSpan, device: torch.device, dtype: torch.dtype, window_tokens: int | None
) -> _SpanAttention:
    """A span in query blocks; a long one after other tokens has several, so that none computes much of what its mask hides."""
    span_indices = range(len(batch.cached_indices) + span.start, len(batch.cached_indices) + span.end)
    ancestor_count = len(span.ancestor_indices)
    key_indices: slice | torch.Tensor
    if ancestor_count in (0, span_indices.start):
        key_indices = slice(span_indices.start - ancestor_count, span_indices.stop)
    else:
        key_indices = torch.tensor([*span.ancestor_indices, *span_indices], dtype=torch.long, device=device)
    return _SpanAttention(key_indices, query_blocks(ancestor_count, span.start, span.end, window_tokens, device, dtype))


def query_blocks(
    ancestor_count: int, start: int, end: int, window_tokens: int | None, device: torch.device, dtype: torch.dtype
) -> list[QueryBlock]:
    """The blocks in which tokens `start` to `end` of a batch attend, each to itself, those before it and `ancestor_count` more.

    Columns are counted from the first ancestor on.
    """
    token_count = end - start
    if ancestor_count == 0 and token_count <= min(window_tokens or _QUERY_BLOCK_TOKENS, _QUERY_BLOCK_TOKENS):
        return [QueryBlock(start, end, 0, token_count, None, True)]
    blocks = []
    for block_start in range(start, end, _QUERY_BLOCK_TOKENS):
        block_end = min(block_start + _QUERY_BLOCK_TOKENS, end)
        query_count, last_column = block_end - block_start, ancestor_count + block_end - start
        first_column = first_visible_depth(last_column - query_count, window_tokens)
        attention_mask = (
            _block_mask(query_count, first_column, last_column, window_tokens, device, dtype)
            if query_count > 1
            else None
        )
        blocks.append(QueryBlock(block_start, block_end, first_column, last_column, attention_mask, False))
    return blocks


def _block_mask(
    query_count: int,
    first_column: int,
    last_column: int,
    window_tokens: int | None,
    device: torch.device,
    dtype: torch.dtype,
) -> torch.Tensor:
    """The mask [query_count, last_column - first_column]: 0 where a query attends to a depth, -inf elsewhere.

    The queries are the last `query_count` of the depths `first_column` to `last_column`.
    """
    attention_mask = torch.zeros((query_count, last_column - first_column), dtype=dtype, device=device)
    causal_mask = torch.full((query_count, query_count), float("-inf"), dtype=dtype, device=device).triu(1)
    attention_mask[:, last_column - first_column - query_count :] = causal_mask
    if window_tokens is not None:
        query_depths, key_depths = (
            torch.arange(last_column - query_count, last_column)[:, None],
            torch.arange(first_column, last_column),
        )
        attention_mask.masked_fill_((key_depths <= query_depths - window_tokens).to(device), float("-inf"))
    return attention_mask


def first_visible_depth(depth: int, window_tokens: int | None) -> int:
    """The depth of the first token that the token at this depth attends to."""
    return 0 if window_tokens is None else max(0, depth + 1 - window_tokens)
