"""The attention of a whole batch of the prefix tree in one call of PyTorch's kernel for sequences of unequal lengths, on GPUs.

A batch comes in; queries, keys and values of a layer then go through the kernel as one sequence for each span, whose keys are
its ancestors and itself. So nothing is computed and masked away, at the price of a copy of the keys and values that several
spans share. Its own module because the kernel is one of CUDA in half precision, and the rest of the engine runs anywhere.
"""

from __future__ import annotations

import functools
import inspect
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from orca_bench.evaluate.engine.attention_interface import AttentionOptions
from orca_bench.evaluate.engine.prefix_tree import TreeBatch

#: The most keys that are copied, over the keys that there are. Beyond it a mask is used, which takes less memory.
MAX_COPIES_OF_KEYS = 16
_HEAD_SIZE_MULTIPLE = 8  # of PyTorch's kernel


class GatheredSpans:
    """The spans of one batch on a device: which keys each of them gets. `copies_of_keys` is the mean over all keys."""

    def __init__(self, batch: TreeBatch, device: torch.device):
        key_indices, query_lengths, key_lengths = span_keys(batch)
        self.copies_of_keys = len(key_indices) / (len(batch.cached_indices) + len(batch.token_ids))
        self._key_indices = torch.from_numpy(key_indices).to(device)
        self._query_starts, self._key_starts = (_starts(lengths, device) for lengths in (query_lengths, key_lengths))
        self._max_query_length, self._max_key_length = max(query_lengths), max(key_lengths)

    def can_attend(self, query: torch.Tensor, value: torch.Tensor, options: AttentionOptions) -> bool:
        """Whether the kernel computes what a layer asks for; shapes as in `attend`."""
        return (
            has_kernel(query.device, query.dtype)
            and query.shape[-1] == value.shape[-1] <= 256
            and options.softcap is None
            and options.sinks is None
            and self.copies_of_keys <= MAX_COPIES_OF_KEYS
        )

    def attend(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, options: AttentionOptions
    ) -> torch.Tensor:
        """[1, heads, tokens, head size] of queries of that shape.

        Keys and values are [1, key heads, cached + tokens, head size].
        """
        head_size, heads_per_key_head = query.shape[-1], query.shape[1] // key.shape[1]
        score_scaling = head_size**-0.5 if options.score_scaling is None else options.score_scaling
        if missing_size := -head_size % _HEAD_SIZE_MULTIPLE:  # zeros change no product
            query, key, value = (torch.nn.functional.pad(states, (0, missing_size)) for states in (query, key, value))
        key_indices = self._key_indices.to(key.device)
        keys, values = (states[0].transpose(0, 1).index_select(0, key_indices) for states in (key, value))
        if keys.requires_grad:
            # The self-check asks for gradients, and on a GPU those of the kernel were tried with equal numbers of heads only.
            keys, values = (states.repeat_interleave(heads_per_key_head, dim=1) for states in (keys, values))
        output = call_kernel(
            query[0].transpose(0, 1).contiguous(),
            keys,
            values,
            self._query_starts.to(key.device),
            self._key_starts.to(key.device),
            self._max_query_length,
            self._max_key_length,
            score_scaling,
            options.window_tokens,
        )
        return output.transpose(0, 1)[None, ..., :head_size]


def span_keys(batch: TreeBatch) -> tuple[npt.NDArray[np.int64], list[int], list[int]]:
    """The indices of the keys of each span, one span after another, and of each span how many queries and keys it has."""
    query_lengths = [span.end - span.start for span in batch.token_spans]
    key_lengths = [len(span.ancestor_indices) + span.end - span.start for span in batch.token_spans]
    # A batch is walked depth first: the ancestors of a span are the beginning of the path that ends with the span before it.
    path_indices: npt.NDArray[np.int64] = np.arange(max(len(batch.cached_indices), *key_lengths), dtype=np.int64)
    key_indices_by_span = []
    for span, key_length in zip(batch.token_spans, key_lengths, strict=True):
        own_indices = np.arange(len(batch.cached_indices) + span.start, len(batch.cached_indices) + span.end)
        path_indices[len(span.ancestor_indices) : key_length] = own_indices
        key_indices_by_span.append(path_indices[:key_length].copy())
    return np.concatenate(key_indices_by_span), query_lengths, key_lengths


@functools.cache
def has_kernel(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether the kernel runs on a device in a type: PyTorch has it for CUDA from compute capability 8.0, in half precision."""
    return (
        device.type == "cuda"
        and torch.version.hip is None
        and dtype in (torch.bfloat16, torch.float16)
        and torch.cuda.get_device_capability(device) >= (8, 0)
    )


@functools.cache
def _grouped_heads_options() -> dict[str, Any]:
    """What lets the kernel have fewer heads of keys than of queries: newer releases want to be told, PyTorch 2.11 takes them."""
    from torch.nn.attention.varlen import varlen_attn

    return {"enable_gqa": True} if "enable_gqa" in inspect.signature(varlen_attn).parameters else {}


def call_kernel(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    query_starts: torch.Tensor,
    key_starts: torch.Tensor,
    max_query_length: int,
    max_key_length: int,
    score_scaling: float,
    window_tokens: int | None,
) -> torch.Tensor:
    """[query tokens, heads, head size] of queries of that shape, where those of each sequence are the last of its keys.

    key, value: [key tokens, key heads, head size]; query_starts, key_starts: int32 [sequences + 1], where each begins and ends.
    """
    from torch.nn.attention.varlen import varlen_attn

    tokens_before = -1 if window_tokens is None else window_tokens - 1
    output = varlen_attn(
        query,
        key,
        value,
        query_starts,
        key_starts,
        max_query_length,
        max_key_length,
        scale=score_scaling,
        window_size=(tokens_before, 0),
        **_grouped_heads_options(),
    )
    assert not isinstance(output, tuple)
    return output


def _starts(lengths: list[int], device: torch.device) -> torch.Tensor:
    """Where each of some sequences begins, and the end of the last: int32 [sequences + 1]."""
    return torch.tensor(np.cumsum([0, *lengths]), dtype=torch.int32, device=device)
