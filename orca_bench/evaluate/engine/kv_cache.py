"""Keys and values that later passes need: of the path of a prefix tree, and of the sequences that are being generated.

In: the keys and values of each layer as they are computed. Out: the same, by layer. Its own module because it holds the memory
that an evaluation takes besides the model's weights; how much there may be is decided in `memory_budget`.
"""

from __future__ import annotations

import torch


class CachedPath:
    """The current path of a prefix tree.

    `keys` and `values` by layer, [1, heads, tokens, head size]; `hidden_states`, the last hidden states, [tokens, hidden].
    """

    def __init__(self) -> None:
        self.keys: dict[int, torch.Tensor] = {}
        self.values: dict[int, torch.Tensor] = {}
        self.hidden_states: torch.Tensor | None = None


class CacheSlots:
    """Keys and values of up to `slot_count` sequences of up to `capacity` tokens, by layer [count, heads, capacity, head size].

    `lengths` has how many tokens of each slot are filled. With `one_by_one` the queries of a step attend slot by slot, each to
    as many tokens as its sequence has, which was the faster on CPUs; else all at once under a mask.
    """

    def __init__(self, slot_count: int, capacity: int, one_by_one: bool):
        self.slot_count, self.capacity, self.one_by_one = slot_count, capacity, one_by_one
        self.keys: dict[int, torch.Tensor] = {}
        self.values: dict[int, torch.Tensor] = {}
        self.lengths = [0] * slot_count

    def of_layer(self, layer_index: int, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(keys, values) of a layer; allocated like `key` and `value`, [batch, heads, tokens, head size], at its first use."""
        if layer_index not in self.keys:
            for tensors_by_layer, template in ((self.keys, key), (self.values, value)):
                # What a mask hides is still multiplied, by zero, and so must not be the NaN of fresh memory.
                allocate = template.new_empty if self.one_by_one else template.new_zeros
                tensors_by_layer[layer_index] = allocate(
                    (self.slot_count, template.shape[1], self.capacity, template.shape[3])
                )
        return self.keys[layer_index], self.values[layer_index]

    def copy_slot(self, source_slot: int, target_slot: int) -> None:
        """Copy the sequence of one slot into another."""
        length = self.lengths[target_slot] = self.lengths[source_slot]
        for tensors_by_layer in (self.keys, self.values):
            for tensor in tensors_by_layer.values():
                tensor[target_slot, :, :length] = tensor[source_slot, :, :length]
