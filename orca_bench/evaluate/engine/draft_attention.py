"""Attention of several new tokens of each growing sequence: the pattern of a step in which guessed tokens are verified.

The new tokens of all sequences are fed as one sequence; each attends to its own slot and to the new tokens of its sequence
before it. Its own module because a step of one new token for each sequence (`tree_attention.StepAttention`) needs no masks.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from orca_bench.evaluate.engine.attention_interface import AttentionOptions, AttentionPattern, masked_attention
from orca_bench.evaluate.engine.kv_cache import CacheSlots


class DraftAttention(AttentionPattern):
    """`new_token_counts[i]` more tokens for the sequence in slot i; the lengths of the slots grow by them.

    `positions` has the position of each new token in its sequence. Layers with a sliding window are not served.
    """

    def __init__(self, slots: CacheSlots, new_token_counts: Sequence[int], window_tokens_by_mask: Sequence[int | None]):
        super().__init__(window_tokens_by_mask)
        self._slots = slots
        self._starts_and_ends = [
            (start, start + count) for start, count in zip(slots.token_counts_by_slot, new_token_counts, strict=False)
        ]
        self.positions = [position for start, end in self._starts_and_ends for position in range(start, end)]
        self._masks_by_slot_and_copies: dict[tuple[int, int], torch.Tensor] = {}
        slots.token_counts_by_slot[: len(new_token_counts)] = [end for _, end in self._starts_and_ends]

    def attend(
        self, layer_index: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, options: AttentionOptions
    ) -> torch.Tensor:
        """[1, heads, tokens, head size] of the new tokens, whose keys and values are [1, key heads, tokens, head size].

        Values may have another head size than queries and keys: the output has theirs.
        """
        keys, values = self._slots.layer_keys_and_values(layer_index, key, value)
        head_count, head_size, key_head_count = query.shape[1], query.shape[3], key.shape[1]
        outputs, first_token = [], 0
        for slot, (start, end) in enumerate(self._starts_and_ends):
            new_tokens = slice(first_token, first_token + end - start)
            first_token = new_tokens.stop
            keys[slot, :, start:end], values[slot, :, start:end] = key[0, :, new_tokens], value[0, :, new_tokens]
            queries = query[:, :, new_tokens]
            # The queries of the heads that share keys go in as if they were tokens, which reads the keys once.
            copies = 1 if options.sinks is not None else head_count // key_head_count
            output = masked_attention(
                queries.reshape(1, head_count // copies, -1, head_size),
                keys[slot : slot + 1, :, :end],
                values[slot : slot + 1, :, :end],
                options,
                self._mask(slot, copies, query),
            )
            outputs.append(output.reshape(*queries.shape[:3], -1))
        return torch.cat(outputs, dim=2)

    def _mask(self, slot: int, copies: int, query: torch.Tensor) -> torch.Tensor | None:
        """The mask [copies × new tokens, all tokens] of a slot; None where there is one new token."""
        start, end = self._starts_and_ends[slot]
        if end - start == 1:
            return None
        if (slot, copies) not in self._masks_by_slot_and_copies:
            mask = query.new_zeros(end - start, end)
            mask[:, start:] = torch.full_like(mask[:, start:], float("-inf")).triu(1)
            self._masks_by_slot_and_copies[slot, copies] = mask.repeat(copies, 1)
        return self._masks_by_slot_and_copies[slot, copies]
