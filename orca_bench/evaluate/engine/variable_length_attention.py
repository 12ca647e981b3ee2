"""The attention of a whole batch of the prefix tree in one call of PyTorch's kernel for sequences of unequal lengths, on GPUs.

A batch comes in; queries, keys and values of a layer then go through the kernel as one sequence for each span, whose keys are
its ancestors and itself. So nothing is computed and masked away, at the price of a copy of the keys and values that several
spans share. Its own module because the kernel is one of CUDA in half precision, and the rest of the engine runs anywhere.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from orca_bench.evaluate.engine.attention_interface import AttentionOptions
from orca_bench.evaluate.engine.prefix_tree import TreeBatch
from orca_bench.models.variable_length_kernel import attend_sequences, has_kernel

#: The most keys that are copied, over the keys that there are. Beyond it a mask is used, which takes less memory.
MAX_COPIES_OF_KEYS = 16


class GatheredSpans:
    """The spans of one batch on a device: which keys each of them gets. `copies_of_keys` is the mean over all keys."""

    def __init__(self, batch: TreeBatch, device: torch.device):
        query_lengths = [span.end - span.start for span in batch.token_spans]
        key_lengths = [len(span.ancestor_indices) + span.end - span.start for span in batch.token_spans]
        self.copies_of_keys = sum(key_lengths) / (len(batch.cached_indices) + len(batch.token_ids))
        if self.copies_of_keys > MAX_COPIES_OF_KEYS:
            return
        self._key_indices = torch.from_numpy(span_key_indices(batch)).to(device)
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
        key_indices = self._key_indices.to(key.device)
        keys, values = (states[0].transpose(0, 1).index_select(0, key_indices) for states in (key, value))
        if keys.requires_grad:
            # The self-check asks for gradients, and on a GPU those of the kernel were tried with equal numbers of heads only.
            copies = query.shape[1] // key.shape[1]
            keys, values = (states.repeat_interleave(copies, dim=1) for states in (keys, values))
        output = attend_sequences(
            query[0].transpose(0, 1).contiguous(),
            keys,
            values,
            self._query_starts.to(key.device),
            self._key_starts.to(key.device),
            self._max_query_length,
            self._max_key_length,
            options.score_scaling,
            options.window_tokens,
        )
        return output.transpose(0, 1)[None]


def span_key_indices(batch: TreeBatch) -> npt.NDArray[np.int64]:
    """The indices of the keys of each span, its ancestors and itself, one span after another."""
    # A batch is walked depth first: the ancestors of a span are the beginning of the path that ends with the span before it.
    path_indices: npt.NDArray[np.int64] = np.arange(len(batch.cached_indices) + len(batch.token_ids), dtype=np.int64)
    key_indices_by_span = []
    for span in batch.token_spans:
        ancestor_count = len(span.ancestor_indices)
        key_count = ancestor_count + span.end - span.start
        path_indices[ancestor_count:key_count] = np.arange(span.start, span.end) + len(batch.cached_indices)
        key_indices_by_span.append(path_indices[:key_count].copy())
    return np.concatenate(key_indices_by_span)


def _starts(lengths: list[int], device: torch.device) -> torch.Tensor:
    """Where each of some sequences begins, and the end of the last: int32 [sequences + 1]."""
    return torch.tensor(np.cumsum([0, *lengths]), dtype=torch.int32, device=device)
