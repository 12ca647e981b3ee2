"""What one forward pass computes: token ids of some examples, padded or packed, and the positions whose next token is scored.

Its own module because the engine, the loop and the check of packed attention share it, and none of them needs another.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from orca_bench.train.example_encoding import EncodedExamples
from orca_bench.train.packed_attention import packing_arguments

if TYPE_CHECKING:
    import torch

EMPTY_PLACE = -1  # a place in a batch that no example is left for


@dataclass(frozen=True)
class MicroBatch:
    """One forward pass.

    token_ids: int64 [sequences, length]; forward_arguments: the further arguments of the model's forward pass; scored_positions:
    int64 [scored], positions in the flattened ids whose next token is scored; targets: int64 [scored], those next tokens.
    """

    token_ids: torch.Tensor
    scored_positions: torch.Tensor
    targets: torch.Tensor
    forward_arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ScoredSequence:
    """Token ids, int64 [length], of which those from `prompt_length` on are scored."""

    token_ids: np.ndarray
    prompt_length: int

    @property
    def positions(self) -> np.ndarray:
        """The positions whose next token is scored, int64; the first token has no position before it."""
        return np.arange(max(self.prompt_length, 1), len(self.token_ids)) - 1


def read_sequences(examples: EncodedExamples, example_indices: np.ndarray) -> list[ScoredSequence]:
    """The sequences of these examples; one of a single token, none of it scored, for each EMPTY_PLACE."""
    return [
        ScoredSequence(np.zeros(1, np.int64), 1)
        if index == EMPTY_PLACE
        else ScoredSequence(examples.example(index).astype(np.int64), int(examples.prompt_lengths[index]))
        for index in example_indices
    ]


def pad(sequences: list[ScoredSequence], device: torch.device) -> MicroBatch:
    """A sequence a row, padded on the right with id 0 that is not attended to."""
    import torch

    lengths = torch.tensor([len(sequence.token_ids) for sequence in sequences])
    width = max(2, int(lengths.max()))
    token_ids = torch.zeros((len(sequences), width), dtype=torch.long)
    for row, sequence in enumerate(sequences):
        token_ids[row, : len(sequence.token_ids)] = torch.from_numpy(sequence.token_ids)
    is_attended = torch.arange(width)[None, :] < lengths[:, None]
    row_starts = [row * width for row in range(len(sequences))]
    return _micro_batch(sequences, row_starts, token_ids, {"attention_mask": is_attended.long().to(device)}, device)


def pack(sequences: list[ScoredSequence], device: torch.device) -> MicroBatch:
    """All sequences in one row without padding; one of a single token, none of it scored, where there are none."""
    import torch

    sequences = sequences or [ScoredSequence(np.zeros(1, np.int64), 1)]
    lengths = [len(sequence.token_ids) for sequence in sequences]
    token_ids = torch.from_numpy(np.concatenate([sequence.token_ids for sequence in sequences]))[None]
    starts = (np.cumsum(lengths) - lengths).tolist()
    return _micro_batch(sequences, starts, token_ids, packing_arguments(lengths, device), device)


def _micro_batch(
    sequences: list[ScoredSequence],
    starts: list[int],
    token_ids: torch.Tensor,
    forward_arguments: dict[str, Any],
    device: torch.device,
) -> MicroBatch:
    """The micro batch of sequences that begin at `starts` in the flattened ids."""
    import torch

    positions = np.concatenate(
        [start + sequence.positions for start, sequence in zip(starts, sequences, strict=True)], dtype=np.int64
    )
    scored_positions = torch.from_numpy(positions)
    targets = token_ids.flatten()[scored_positions + 1]
    return MicroBatch(token_ids.to(device), scored_positions.to(device), targets.to(device), forward_arguments)
