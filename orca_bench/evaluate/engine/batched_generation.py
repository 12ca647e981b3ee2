"""Prompts in, greedy continuations out: sequences of unequal length share a batch, and none waits for another.

The prompts are computed through the prefix tree, so what several share is computed once. A prompt's keys and values are then
copied into a slot, where the sequence grows token by token. A sequence that is finished leaves its slot at once, and the next
prompt is computed and takes it. Nothing is padded. Its own module because it decides only which sequence is computed when; the
engine computes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from orca_bench.evaluate.engine import prefix_tree
from orca_bench.evaluate.engine.kv_cache import CachedPath, CacheSlots
from orca_bench.evaluate.engine.prefix_tree import TreeBatch
from orca_bench.evaluate.engine.tree_attention import StepAttention
from orca_bench.evaluate.request_encoding import ScoredSequence

if TYPE_CHECKING:
    from orca_bench.evaluate.engine.tree_forward import TreeForward

#: Whether the continuation (ids so far) of the prompt of this number is complete; called after each token.
IsFinished = Callable[[int, list[int]], bool]


class NotANumber(Exception):
    """The model gave NaN or infinity while it continued the prompt of this number."""

    def __init__(self, prompt_index: int, logit: float):
        self.prompt_index, self.logit = prompt_index, logit


@dataclass
class _Sequence:
    """The prompt's number and the continuation so far of the sequence in a slot."""

    prompt_index: int
    token_ids: list[int] = field(default_factory=list)


class Generation:
    """The greedy continuation of some prompts, at most `max_new_tokens` each, with at most `cache_tokens` in the slots.

    `batch_tokens` is the size of a batch of the prefix tree. `continuations` has the ids of each prompt's continuation that is
    complete so far, by number.
    """

    def __init__(
        self,
        forward: TreeForward,
        prompts: Sequence[Sequence[int]],
        is_finished: IsFinished,
        max_new_tokens: int,
        batch_tokens: int,
        cache_tokens: int,
    ):
        self._forward, self._prompts, self._is_finished, self._batch_tokens = (
            forward,
            prompts,
            is_finished,
            batch_tokens,
        )
        slot_capacity = max(map(len, prompts)) + max_new_tokens
        slot_count = max(1, min(cache_tokens // slot_capacity, len(prompts)))
        self._slots = CacheSlots(slot_count, slot_capacity, one_by_one=forward.attention == "runs")
        self._cached_path = CachedPath()
        self._open_sequences: list[_Sequence] = []  # by slot
        self.continuations: dict[int, list[int]] = {}

    def run(self) -> Iterator[int]:
        """Continue all prompts to their ends; yields how many have just ended. Raises NotANumber."""
        for batch, next_cached_indices in self._batches():
            while self._slots.slot_count - len(self._open_sequences) < len(batch.ended_paths):
                yield from self._step()
            yield from self._begin_prompts(batch, next_cached_indices)
        while self._open_sequences:
            yield from self._step()

    def _batches(self) -> Iterator[tuple[TreeBatch, list[int]]]:
        """The batches of the prompts' tree, each with the indices that the batch after it needs."""
        # A sequence's last token is not fed: after each prompt comes a token that only fills its position.
        sequences = [ScoredSequence([*prompt, 0], len(prompt)) for prompt in self._prompts]
        # A batch waits until all that end in it have slots, so few may; but of short prompts several fill a batch.
        max_ended_paths = max(1, self._slots.slot_count // 8)
        return prefix_tree.with_next_cached(prefix_tree.batches(sequences, self._batch_tokens, max_ended_paths))

    def _begin_prompts(self, batch: TreeBatch, next_cached_indices: list[int]) -> Iterator[int]:
        """Compute a batch of prompts; those that end in it get slots and their first token."""
        first_slot = len(self._open_sequences)
        slot_paths = [(first_slot + i, ended_path.indices) for i, ended_path in enumerate(batch.ended_paths)]
        hidden_states, self._cached_path = self._forward.compute_batch(
            batch, self._cached_path, next_cached_indices, self._slots, slot_paths
        )
        if not batch.ended_paths:
            return
        self._open_sequences += [_Sequence(ended_path.sequence_index) for ended_path in batch.ended_paths]
        last_indices = torch.tensor(
            [ended_path.indices[-1] for ended_path in batch.ended_paths], device=hidden_states.device
        )
        yield from self._append(first_slot, hidden_states.index_select(0, last_indices))

    def _step(self) -> Iterator[int]:
        """Compute one more token of every open sequence."""
        attention = StepAttention(
            self._slots, len(self._open_sequences), self._forward.device, self._forward.layout.windows
        )
        last_ids = torch.tensor(
            [[sequence.token_ids[-1]] for sequence in self._open_sequences], device=self._forward.device
        )
        positions = torch.tensor([[position] for position in attention.positions], device=self._forward.device)
        yield from self._append(0, self._forward.last_hidden(last_ids, positions, attention)[:, -1])

    def _append(self, first_slot: int, hidden_states: torch.Tensor) -> Iterator[int]:
        """Append the likeliest token to the sequences of the slots from `first_slot` on; those that are finished leave.

        `hidden_states` is [sequences, hidden size].
        """
        logits, token_ids = self._forward.logits(hidden_states).max(dim=-1)
        for sequence, token_id, logit in zip(
            self._open_sequences[first_slot:], token_ids.tolist(), logits.tolist(), strict=True
        ):
            if not math.isfinite(logit):
                raise NotANumber(sequence.prompt_index, logit)
            sequence.token_ids.append(token_id)
        finished_slots = [
            slot
            for slot in range(first_slot, len(self._open_sequences))
            if self._is_finished(self._open_sequences[slot].prompt_index, self._open_sequences[slot].token_ids)
        ]
        for slot in reversed(finished_slots):  # from the back, so that what moves into a slot is not itself finished
            self.continuations[self._open_sequences[slot].prompt_index] = self._open_sequences[slot].token_ids
            moved_sequence = self._open_sequences.pop()
            if slot < len(self._open_sequences):
                self._open_sequences[slot] = moved_sequence
                self._slots.copy_slot(len(self._open_sequences), slot)
        if finished_slots:
            yield len(finished_slots)
