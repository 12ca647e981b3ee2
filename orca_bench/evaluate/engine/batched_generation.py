"""Prompts in, greedy continuations out: sequences of unequal length share a batch, and none waits for another.

The prompts are computed through the prefix tree, so what several share is computed once. A prompt's keys and values are then
copied into a slot, where the sequence grows token by token. A sequence that is finished leaves its slot at once, and the next
prompt is computed and takes it. Nothing is padded. Where slots are attended one by one, the next tokens are guessed from what
stands before, and the guesses verified together. Its own module because it decides only which sequence is computed when; the
engine computes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

import torch

from orca_bench.evaluate.engine import prefix_tree
from orca_bench.evaluate.engine.draft_attention import DraftAttention
from orca_bench.evaluate.engine.draft_tokens import DraftTokens
from orca_bench.evaluate.engine.kv_cache import CachedPath, CacheSlots
from orca_bench.evaluate.engine.prefix_tree import TreeBatch
from orca_bench.evaluate.engine.token_choice import RuleChooser, TokenChoice
from orca_bench.evaluate.engine.tree_attention import StepAttention
from orca_bench.evaluate.request_encoding import ScoredSequence

if TYPE_CHECKING:
    from orca_bench.evaluate.engine.tree_forward import TreeForward

#: Whether the continuation (ids so far) of the prompt of this number is complete; called after each token.
IsFinished = Callable[[int, list[int]], bool]


class NonFiniteLogit(Exception):
    """The model gave NaN or infinity while it continued the prompt of this number."""

    def __init__(self, prompt_index: int, logit: float):
        self.prompt_index, self.logit = prompt_index, logit


@dataclass
class _OpenSequence:
    """The prompt's number, the guesses, and the continuation so far of the sequence in a slot."""

    prompt_index: int
    drafts: DraftTokens
    continuation_ids: list[int] = field(default_factory=list)


class Generation:
    """The greedy continuation of some prompts, at most `max_new_tokens` each, with at most `max_cache_tokens` in the slots.

    `max_batch_tokens` is the size of a batch of the prefix tree. `token_choices` are the rules of prompts whose next token is not
    simply the likeliest, by number. `continuations` has the ids of the continuations that are complete so far, by the number of
    the prompt.
    """

    def __init__(
        self,
        tree_forward: TreeForward,
        prompt_ids: Sequence[Sequence[int]],
        is_finished: IsFinished,
        max_new_tokens: int,
        max_batch_tokens: int,
        max_cache_tokens: int,
        token_choices: Mapping[int, TokenChoice] = MappingProxyType({}),
    ):
        self._tree_forward, self._prompt_ids, self._is_finished, self._max_batch_tokens = (
            tree_forward,
            prompt_ids,
            is_finished,
            max_batch_tokens,
        )
        tokens_per_slot = max(map(len, prompt_ids)) + max_new_tokens
        slot_count = max(1, min(max_cache_tokens // tokens_per_slot, len(prompt_ids)))
        self._slots = CacheSlots(
            slot_count, tokens_per_slot, attends_slot_by_slot=tree_forward.attention_method == "runs"
        )
        self._token_choosers = {index: RuleChooser(rule, prompt_ids[index]) for index, rule in token_choices.items()}
        self._cached_path = CachedPath()
        self._open_sequences: list[_OpenSequence] = []  # by slot
        self.continuations: dict[int, list[int]] = {}

    def run(self) -> Iterator[int]:
        """Continue all prompts to their ends; yields how many have just ended. Raises NonFiniteLogit."""
        for batch, next_cached_indices in self._prompt_batches():
            while self._slots.slot_count - len(self._open_sequences) < len(batch.ended_paths):
                yield from self._generate_next_tokens()
            yield from self._begin_prompts_of_batch(batch, next_cached_indices)
        while self._open_sequences:
            yield from self._generate_next_tokens()

    def _prompt_batches(self) -> Iterator[tuple[TreeBatch, list[int]]]:
        """The batches of the prompts' tree, each with the indices that the batch after it needs."""
        # A sequence's last token is not fed: after each prompt comes a token that only fills its position.
        sequences = [ScoredSequence([*prompt, 0], len(prompt)) for prompt in self._prompt_ids]
        # A batch waits until all that end in it have slots, so few may; but of short prompts several fill a batch.
        max_ended_paths = max(1, self._slots.slot_count // 8)
        return prefix_tree.with_next_cached_indices(
            prefix_tree.tree_batches(sequences, self._max_batch_tokens, max_ended_paths)
        )

    def _begin_prompts_of_batch(self, batch: TreeBatch, next_cached_indices: list[int]) -> Iterator[int]:
        """Compute a batch of prompts; those that end in it get slots and their first token."""
        first_slot = len(self._open_sequences)
        slot_paths = [(first_slot + i, ended_path.path_indices) for i, ended_path in enumerate(batch.ended_paths)]
        hidden_states, self._cached_path = self._tree_forward.compute_batch(
            batch, self._cached_path, next_cached_indices, self._slots, slot_paths
        )
        if not batch.ended_paths:
            return
        self._open_sequences += [
            _OpenSequence(path.sequence_index, DraftTokens(self._prompt_ids[path.sequence_index]))
            for path in batch.ended_paths
        ]
        last_token_indices = torch.tensor(
            [ended_path.path_indices[-1] for ended_path in batch.ended_paths], device=hidden_states.device
        )
        drafts: list[list[int]] = [[] for _ in batch.ended_paths]
        yield from self._append_next_tokens(first_slot, hidden_states.index_select(0, last_token_indices), drafts)

    def _generate_next_tokens(self) -> Iterator[int]:
        """Compute one more token of every open sequence, or several where those that were guessed are right."""
        drafts = self._draft_tokens()
        if any(drafts):
            yield from self._verify_drafts(drafts)
            return
        step_attention = StepAttention(
            self._slots,
            len(self._open_sequences),
            self._tree_forward.device,
            self._tree_forward.layout.window_tokens_by_mask,
        )
        last_token_ids = torch.tensor(
            [[sequence.continuation_ids[-1]] for sequence in self._open_sequences], device=self._tree_forward.device
        )
        token_positions = torch.tensor(
            [[position] for position in step_attention.positions], device=self._tree_forward.device
        )
        yield from self._append_next_tokens(
            0, self._tree_forward.last_hidden(last_token_ids, token_positions, step_attention)[:, -1], drafts
        )

    def _draft_tokens(self) -> list[list[int]]:
        """The guessed next tokens of every open sequence: none where one is not simply the likeliest, or layers have windows."""
        has_window = any(window is not None for window in self._tree_forward.layout.window_tokens_by_layer)
        if has_window or not self._slots.attends_slot_by_slot:
            return [[] for _ in self._open_sequences]
        return [
            # What is guessed has room in the slot, behind the last token.
            sequence.drafts.propose(self._slots.tokens_per_slot - self._slots.token_counts_by_slot[slot] - 1)
            if sequence.prompt_index not in self._token_choosers
            else []
            for slot, sequence in enumerate(self._open_sequences)
        ]

    def _verify_drafts(self, drafts: list[list[int]]) -> Iterator[int]:
        """Compute the last token and the guessed ones of every open sequence, and append what greedy decoding gives."""
        attention = DraftAttention(
            self._slots, [1 + len(draft) for draft in drafts], self._tree_forward.layout.window_tokens_by_mask
        )
        fed_token_ids = [
            token_id
            for sequence, draft in zip(self._open_sequences, drafts, strict=True)
            for token_id in (sequence.continuation_ids[-1], *draft)
        ]
        device = self._tree_forward.device
        token_ids, positions = (torch.tensor([ids], device=device) for ids in (fed_token_ids, attention.positions))
        hidden_states = self._tree_forward.last_hidden(token_ids, positions, attention)[0]
        yield from self._append_next_tokens(0, hidden_states, drafts)

    def _append_next_tokens(
        self, first_slot: int, hidden_states: torch.Tensor, drafts: Sequence[Sequence[int]]
    ) -> Iterator[int]:
        """Append the next tokens to the sequences of the slots from `first_slot` on; those that are finished leave.

        `hidden_states` is [tokens, hidden size]: of each sequence its last token and then its guessed ones. A guessed token's
        own prediction counts as long as all guesses up to it were right.
        """
        logits = self._tree_forward.logits(hidden_states)
        highest_logits, likeliest_token_ids = (tensor.tolist() for tensor in logits.max(dim=-1))
        finished_slots, first_position = [], 0
        for slot, draft in enumerate(drafts, start=first_slot):
            sequence, accepted_count = self._open_sequences[slot], 0
            chooser = self._token_choosers.get(sequence.prompt_index)
            for position in range(first_position, first_position + 1 + len(draft)):
                token_id = likeliest_token_ids[position]
                if not math.isfinite(highest_logits[position]):
                    raise NonFiniteLogit(sequence.prompt_index, highest_logits[position])
                if chooser is not None:
                    token_id = chooser.choose(logits[position], sequence.continuation_ids)
                sequence.continuation_ids.append(token_id)
                sequence.drafts.append(token_id)
                if self._is_finished(sequence.prompt_index, sequence.continuation_ids):
                    finished_slots.append(slot)
                    break
                if accepted_count == len(draft) or draft[accepted_count] != token_id:
                    break
                accepted_count += 1
            sequence.drafts.note_result(draft, accepted_count)
            # Keys and values of wrong guesses are written over.
            self._slots.token_counts_by_slot[slot] -= len(draft) - accepted_count
            first_position += 1 + len(draft)
        for slot in reversed(finished_slots):  # from the back, so that what moves into a slot is not itself finished
            self.continuations[self._open_sequences[slot].prompt_index] = self._open_sequences[slot].continuation_ids
            moved_sequence = self._open_sequences.pop()
            if slot < len(self._open_sequences):
                self._open_sequences[slot] = moved_sequence
                self._slots.copy_slot(len(self._open_sequences), slot)
        if finished_slots:
            yield len(finished_slots)
