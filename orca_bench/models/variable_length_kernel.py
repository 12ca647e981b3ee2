"""Causal attention of sequences of unequal lengths in one call of PyTorch's kernel for them (FlashAttention), on GPUs.

Sequences that stand one after another come in, and their attention comes out, for any size of a head. Its own module because
training calls the kernel for packed examples, and evaluation for the spans of a prefix tree.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_HEAD_SIZE_MULTIPLE = 8  # of the kernel; open_llama_3b's heads have 100


@functools.cache
def has_kernel(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether the kernel runs on a device in a type: PyTorch has it for CUDA from compute capability 8.0, in half precision."""
    import torch

    return (
        device.type == "cuda"
        and torch.version.hip is None
        and dtype in (torch.bfloat16, torch.float16)
        and torch.cuda.get_device_capability(device) >= (8, 0)
    )


def attend_sequences(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    query_starts: torch.Tensor,
    key_starts: torch.Tensor,
    max_query_length: int,
    max_key_length: int,
    score_scaling: float | None,
    window_tokens: int | None,
) -> torch.Tensor:
    """[query tokens, heads, head size] of queries of that shape, where those of each sequence are the last of its keys.

    key, value: [key tokens, key heads, head size]; query_starts, key_starts: int32 [sequences + 1], where each begins and ends.
    Scores are divided by the root of the head size where `score_scaling` is None; of a window each query sees the nearest keys.
    """
    import torch
    from torch.nn.attention.varlen import varlen_attn

    head_size = query.shape[-1]
    if missing_size := -head_size % _HEAD_SIZE_MULTIPLE:  # zeros change no product
        query, key, value = (torch.nn.functional.pad(states, (0, missing_size)) for states in (query, key, value))
    tokens_before = -1 if window_tokens is None else window_tokens - 1
    output = varlen_attn(
        query,
        key,
        value,
        query_starts,
        key_starts,
        max_query_length,
        max_key_length,
        scale=head_size**-0.5 if score_scaling is None else score_scaling,
        window_size=(tokens_before, 0),
        **(_grouped_heads_options(varlen_attn) if query.shape[1] != key.shape[1] else {}),
    )
    assert not isinstance(output, tuple)
    return output[..., :head_size]


@functools.cache
def _grouped_heads_options(varlen_attn: Callable[..., Any]) -> dict[str, Any]:
    """What lets there be fewer heads of keys than of queries: PyTorch 2.13 has an option for it, 2.11 takes them without one."""
    return {"enable_gqa": True} if "enable_gqa" in inspect.signature(varlen_attn).parameters else {}
