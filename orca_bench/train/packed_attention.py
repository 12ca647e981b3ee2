"""Attention among examples that stand one after another in a row, none of which sees another.

Registered with transformers under a name of its own, so that the model's own code calls it; a pass names the examples'
lengths in the keyword arguments that transformers has for attention of variable length (`cu_seq_lens_q`, `max_length_q`). On
a GPU in half precision one kernel of PyTorch's computes all examples; elsewhere each example is computed alone. Both cost
what the examples cost: nothing is computed and masked away.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orca_bench.models.attention_options import unknown_option
from orca_bench.models.variable_length_kernel import attend_sequences, has_kernel

if TYPE_CHECKING:
    import torch

#: The name of this attention in a transformers configuration.
PACKED_ATTENTION = "orca_bench_packed"

_LENGTH_OPTION_NAMES = frozenset({"cu_seq_lens_k", "max_length_k"})


class PackedLengthsMissing(Exception):
    """A model does not hand the lengths of the packed examples on to its attention."""


def register_packed_attention() -> None:
    """Make the attention known to transformers; may be repeated."""
    from transformers import AttentionInterface

    AttentionInterface.register(PACKED_ATTENTION, packed_attention)


def packing_arguments(sequence_lengths: list[int], device: torch.device) -> dict[str, Any]:
    """The keyword arguments of a model's forward pass over a row of examples of these lengths, positions among them.

    position_ids: int64 [1, tokens], from 0 in each example; cu_seq_lens: int32 [examples + 1], where each begins and ends.
    """
    import torch

    lengths = torch.tensor(sequence_lengths)
    boundaries = torch.nn.functional.pad(lengths.cumsum(0), (1, 0))
    position_ids = torch.arange(int(boundaries[-1])) - boundaries[:-1].repeat_interleave(lengths)
    cu_seq_lens = boundaries.to(torch.int32).to(device, non_blocking=True)
    longest = max(sequence_lengths)
    return {
        "position_ids": position_ids[None].to(device, non_blocking=True),
        "cu_seq_lens_q": cu_seq_lens,
        "cu_seq_lens_k": cu_seq_lens,
        "max_length_q": longest,
        "max_length_k": longest,
        "sequence_lengths": sequence_lengths,
    }


def packed_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    is_causal: bool | None = None,
    sequence_lengths: list[int] | None = None,
    cu_seq_lens_q: torch.Tensor | None = None,
    max_length_q: int | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention within each example, as transformers calls it.

    query: [1, heads, tokens, head size]; key, value: [1, key heads, tokens, head size]. Returns [1, tokens, heads, head size].
    Raises PackedLengthsMissing where the model does not pass the lengths on, and NotImplementedError for attention that is
    changed in another way than by a sliding window.
    """
    if sequence_lengths is None or cu_seq_lens_q is None or max_length_q is None:
        raise PackedLengthsMissing(type(module).__name__)
    if dropout:
        raise NotImplementedError("attention with dropout")
    if (option_name := unknown_option(options, _LENGTH_OPTION_NAMES)) is not None:
        raise NotImplementedError(f"attention that takes {option_name}")
    if not (getattr(module, "is_causal", True) if is_causal is None else is_causal):
        raise NotImplementedError("attention that is not causal")
    if attention_mask is not None:
        raise NotImplementedError("attention with a mask of its own")
    if query.shape[1] != key.shape[1]:
        copies = query.shape[1] // key.shape[1]
        key, value = (states.repeat_interleave(copies, dim=1) for states in (key, value))
    if has_kernel(query.device, query.dtype):
        return _attend_in_one_kernel(query, key, value, scaling, sliding_window, cu_seq_lens_q, max_length_q), None
    return _attend_one_by_one(query, key, value, scaling, sliding_window, sequence_lengths), None


def _attend_in_one_kernel(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scaling: float | None,
    sliding_window: int | None,
    cu_seq_lens: torch.Tensor,
    longest: int,
) -> torch.Tensor:
    """All examples in one call of PyTorch's kernel: [1, tokens, heads, head size]."""
    query, key, value = (states[0].transpose(0, 1).contiguous() for states in (query, key, value))
    return attend_sequences(query, key, value, cu_seq_lens, cu_seq_lens, longest, longest, scaling, sliding_window)[
        None
    ]


def _attend_one_by_one(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scaling: float | None,
    sliding_window: int | None,
    sequence_lengths: list[int],
) -> torch.Tensor:
    """Each example alone: [1, tokens, heads, head size]. `split`, whose gradient is one concatenation, and no slices."""
    import torch

    parts = [states.split(sequence_lengths, dim=2) for states in (query, key, value)]
    attended = []
    for query_part, key_part, value_part in zip(*parts, strict=True):
        length = query_part.shape[2]
        needs_window = sliding_window is not None and length > sliding_window
        mask = None
        if needs_window:
            distance = torch.arange(length)[:, None] - torch.arange(length)[None, :]
            mask = ((distance >= 0) & (distance < sliding_window)).to(query.device)
        attended.append(
            torch.nn.functional.scaled_dot_product_attention(
                query_part, key_part, value_part, attn_mask=mask, is_causal=mask is None, scale=scaling
            )
        )
    return torch.cat(attended, dim=2).transpose(1, 2)
