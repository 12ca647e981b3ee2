"""Keys and values that later passes need: of the path of a prefix tree, and of the sequences that are being generated.

In: the keys and values of each layer as they are computed. Out: the same, by layer. Its own module because it holds the memory
that an evaluation takes besides the model's weights; how much there may be is decided in `memory_budget`.
"""

from __future__ import annotations

import torch


class CachedPath:
    """The current path of a prefix tree.

    `keys_by_layer` and `values_by_layer` by layer, [1, heads, tokens, head size]; `hidden_states`, the last hidden states,
    [tokens, hidden].
    """

    def __init__(self) -> None:
        self.keys_by_layer: dict[int, torch.Tensor] = {}
        self.values_by_layer: dict[int, torch.Tensor] = {}
        self.hidden_states: torch.Tensor | None = None


class CacheSlots:
    """Keys and values of up to `slot_count` sequences, by layer [slots, heads, `tokens_per_slot`, head size].

    `token_counts_by_slot` has how many tokens of each slot are filled. With `attends_slot_by_slot` the queries of a step attend
    slot by slot, each to as many tokens as its sequence has, which was the faster on CPUs; else all at once under a mask.
    """

    def __init__(self, slot_count: int, tokens_per_slot: int, attends_slot_by_slot: bool):
        self.slot_count, self.tokens_per_slot, self.attends_slot_by_slot = (
            slot_count,
            tokens_per_slot,
            attends_slot_by_slot,
        )
        self.keys_by_layer: dict[int, torch.Tensor] = {}
        self.values_by_layer: dict[int, torch.Tensor] = {}
        self.token_counts_by_slot = [0] * slot_count

    def layer_keys_and_values(
        self, layer_index: int, key: torch.Tensor, value: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(keys, values) of a layer; allocated like `key` and `value`, [batch, heads, tokens, head size], at its first use."""
        if layer_index not in self.keys_by_layer:
            for tensors_by_layer, template in ((self.keys_by_layer, key), (self.values_by_layer, value)):
                # What a mask hides is still multiplied, by zero, and so must not be the NaN of fresh memory.
                allocate = template.new_empty if self.attends_slot_by_slot else template.new_zeros
                tensors_by_layer[layer_index] = allocate(
                    (self.slot_count, template.shape[1], self.tokens_per_slot, template.shape[3])
                )
        return self.keys_by_layer[layer_index], self.values_by_layer[layer_index]

    def copy_slot(self, source_slot: int, target_slot: int) -> None:
        """Copy the sequence of one slot into another."""
        token_count = self.token_counts_by_slot[target_slot] = self.token_counts_by_slot[source_slot]
        for tensors_by_layer in (self.keys_by_layer, self.values_by_layer):
            for tensor in tensors_by_layer.values():
                tensor[target_slot, :, :token_count] = tensor[source_slot, :, :token_count]
