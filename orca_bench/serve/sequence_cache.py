"""Keys and values of single sequences, and attention of their new tokens: one or many of each sequence in the same pass.

The new tokens of all sequences are fed to the model as one row; each attends to its own sequence. Its own module because it
knows keys and values, and neither requests nor models. An evaluation keeps all sequences in one tensor (`CacheSlots`), as long
as the longest; requests to a server come and go with very unequal lengths, so here each has its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from orca_bench.evaluate.engine import tree_attention
from orca_bench.evaluate.engine.attention_interface import AttentionOptions, AttentionPattern, masked_attention
from orca_bench.evaluate.engine.tree_attention import QueryBlock


class SequenceCache:
    """Keys and values of a sequence of at most `capacity` tokens, of which `token_count` are computed.

    By layer, [1, key heads, capacity, head size]; allocated when the first tokens of a layer are written.
    """

    def __init__(self, capacity: int):
        self.capacity, self.token_count = capacity, 0
        self._keys_by_layer: dict[int, torch.Tensor] = {}
        self._values_by_layer: dict[int, torch.Tensor] = {}

    def write(
        self, layer_index: int, start: int, key: torch.Tensor, value: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write keys and values, [1, key heads, tokens, head size], from position `start` on; returns those up to their end."""
        count = key.shape[2]
        sequence_tensors = []
        for tensors_by_layer, new in ((self._keys_by_layer, key), (self._values_by_layer, value)):
            if layer_index not in tensors_by_layer:
                tensors_by_layer[layer_index] = new.new_empty((1, new.shape[1], self.capacity, new.shape[3]))
            tensor = tensors_by_layer[layer_index]
            tensor.narrow(2, start, count).copy_(new)
            sequence_tensors.append(tensor.narrow(2, 0, start + count))
        return sequence_tensors[0], sequence_tensors[1]

    def copy_prefix(self, token_count: int, capacity: int) -> SequenceCache:
        """A cache of this capacity with a copy of the first `token_count` tokens."""
        copy = SequenceCache(capacity)
        copy.token_count = token_count
        for source, target in (
            (self._keys_by_layer, copy._keys_by_layer),
            (self._values_by_layer, copy._values_by_layer),
        ):
            for layer_index, tensor in source.items():
                target[layer_index] = tensor.new_empty((1, tensor.shape[1], capacity, tensor.shape[3]))
                target[layer_index][:, :, :token_count] = tensor[:, :, :token_count]
        return copy


class SequencesAttention(AttentionPattern):
    """The next `new_token_counts[i]` tokens of the sequence of each cache; the token counts of the caches grow by them.

    `positions` has the position of each new token in its sequence.
    """

    def __init__(
        self,
        caches: Sequence[SequenceCache],
        new_token_counts: Sequence[int],
        window_tokens_by_mask: Sequence[int | None],
    ):
        super().__init__(window_tokens_by_mask)
        self._spans = [(cache, cache.token_count, count) for cache, count in zip(caches, new_token_counts, strict=True)]
        self.positions = [position for _, start, count in self._spans for position in range(start, start + count)]
        self._blocks_by_span_and_window: dict[tuple[int, int | None], list[QueryBlock]] = {}
        for cache, _, count in self._spans:
            cache.token_count += count

    def attend(
        self, layer_index: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, options: AttentionOptions
    ) -> torch.Tensor:
        """[1, heads, tokens, head size] of the new tokens, whose keys and values are [1, key heads, tokens, head size]."""
        outputs = []
        counts = [count for _, _, count in self._spans]
        tensors_by_span = zip(*(tensor.split(counts, dim=2) for tensor in (query, key, value)), strict=True)
        for span_index, (queries, new_keys, new_values) in enumerate(tensors_by_span):
            cache, start, count = self._spans[span_index]
            keys, values = cache.write(layer_index, start, new_keys, new_values)
            if count == 1:
                outputs.append(_attend_one_token(queries, keys, values, options))
                continue
            for block in self._query_blocks(span_index, query, options.window_tokens):
                columns = slice(block.first_column, block.end_column)
                block_queries = queries[:, :, block.first_token : block.end_token]
                outputs.append(
                    tree_attention.attend_block(
                        block_queries, keys[:, :, columns], values[:, :, columns], block, options
                    )
                )
        return torch.cat(outputs, dim=2)

    def _query_blocks(self, span_index: int, query: torch.Tensor, window_tokens: int | None) -> list[QueryBlock]:
        """The blocks in which the new tokens of a sequence attend; their masks have the type and device of `query`."""
        key = (span_index, window_tokens)
        if key not in self._blocks_by_span_and_window:
            _, start, count = self._spans[span_index]
            self._blocks_by_span_and_window[key] = tree_attention.query_blocks(
                start, 0, count, window_tokens, query.device, query.dtype
            )
        return self._blocks_by_span_and_window[key]


def _attend_one_token(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, options: AttentionOptions
) -> torch.Tensor:
    """[1, heads, 1, head size] of the last token of a sequence, of which it sees what the window leaves."""
    first_visible = tree_attention.first_visible_depth(keys.shape[2] - 1, options.window_tokens)
    # The queries of the heads that share keys go in as if they were tokens, which spares copies of the keys.
    queries = query.reshape(1, keys.shape[1], -1, query.shape[3])
    output = masked_attention(queries, keys[:, :, first_visible:], values[:, :, first_visible:], options)
    return output.reshape(1, query.shape[1], 1, -1)
