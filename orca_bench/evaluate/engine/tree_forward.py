"""Batches of the prefix tree in, hidden states and logits out: a model's own forward passes with attention in the tree.

The decoder runs with one of our attention patterns in the place of its own, and the output head runs by itself on the hidden
states that are scored. Models that are built as LLaMA is are computed by `llama_decoder` on CPUs. Its own module because nothing
else touches the model while it is computed in a tree.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import PreTrainedModel

from orca_bench.evaluate.engine import attention_layers, llama_decoder
from orca_bench.evaluate.engine.attention_interface import AttentionPattern, use_attention_pattern
from orca_bench.evaluate.engine.kv_cache import CachedPath, CacheSlots
from orca_bench.evaluate.engine.prefix_tree import TreeBatch
from orca_bench.evaluate.engine.tree_attention import TreeAttention

#: How many go through the output head at once: bounds [positions, vocabulary] in memory.
_HEAD_POSITIONS_AT_ONCE_BY_DEVICE = {"cpu": 256, "cuda": 1024}


def _raise_not_run(**_: Any) -> None:
    raise RuntimeError("the decoder has not run yet")


class TreeForward:
    """A model whose passes attend in a prefix tree; `attention_method` is one of tree_attention.ATTENTION_METHODS.

    `layout` is how its layers attend. `llama_decoder` computes its passes where it can. Raises UnfitForTree where a tree cannot
    follow the model.
    """

    def __init__(self, model: PreTrainedModel, device: torch.device, attention_method: str):
        self.model, self.device, self.attention_method = model, device, attention_method
        self.decoder, self.layout = attention_layers.decoder_of(model), attention_layers.probe_layout(model)
        self._output_type: Callable[..., Any] = _raise_not_run
        self.llama_decoder = llama_decoder.llama_decoder_of(model, self.layout.window_tokens_by_layer)
        self._attention_dtype = model.dtype
        if self.llama_decoder is not None:
            self._attention_dtype = self.llama_decoder.attention_dtype
            cache_bytes_per_token = (
                self.layout.cache_bytes_per_token * self._attention_dtype.itemsize // model.dtype.itemsize
            )
            self.layout = dataclasses.replace(self.layout, cache_bytes_per_token=cache_bytes_per_token)

    def compute_batch(
        self,
        batch: TreeBatch,
        cached_path: CachedPath,
        next_cached_indices: Sequence[int],
        slots: CacheSlots | None = None,
        slot_paths: Sequence[tuple[int, Sequence[int]]] = (),
    ) -> tuple[torch.Tensor, CachedPath]:
        """The last hidden states of the cached path and a batch, [cached + tokens, hidden size], and the next batch's path.

        `next_cached_indices` are the indices that the next batch needs. The keys and values of `slot_paths`, (slot, indices of a
        path), are copied into `slots`.
        """
        pattern = TreeAttention(
            batch,
            cached_path,
            next_cached_indices,
            self.attention_method,
            self.device,
            self._attention_dtype,
            self.layout.window_tokens_by_mask,
        )
        if slots is not None and slot_paths:
            pattern.fill_slots(slots, slot_paths)
        token_ids = torch.tensor([batch.token_ids], device=self.device)
        hidden_states = self.last_hidden(token_ids, torch.tensor([batch.token_depths], device=self.device), pattern)[0]
        if cached_path.hidden_states is not None:
            hidden_states = torch.cat([cached_path.hidden_states, hidden_states])
        if next_cached_indices:
            pattern.next_cached_path.hidden_states = hidden_states.index_select(
                0, pattern.next_cached_indices.to(hidden_states.device)
            )
        return hidden_states, pattern.next_cached_path

    def last_hidden(
        self, token_ids: torch.Tensor, token_positions: torch.Tensor, pattern: AttentionPattern
    ) -> torch.Tensor:
        """The last hidden states, [batch, tokens, hidden size], of ids and positions, [batch, tokens], under a pattern."""
        if self.llama_decoder is not None:
            return self.llama_decoder.last_hidden(token_ids, token_positions, pattern)
        with use_attention_pattern(self.decoder.config, pattern):
            output = self.decoder(input_ids=token_ids, position_ids=token_positions, use_cache=False)
        if pattern.attended_layer_count != self.layout.layer_count:
            raise RuntimeError(
                f"this model attended {pattern.attended_layer_count} times, and {self.layout.layer_count} times before"
            )
        self._output_type = type(output)
        return output.last_hidden_state

    def logits(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """The logits, [positions, vocabulary], of last hidden states, [positions, hidden size].

        The model's own forward pass with its decoder's output given, so that whatever it does to its logits happens.
        """
        if self.llama_decoder is not None:
            return self.llama_decoder.logits(hidden_states)
        original_forward = self.decoder.__dict__.get("forward")
        self.decoder.forward = lambda *_, **__: self._output_type(last_hidden_state=hidden_states[None])
        try:
            token_ids = torch.zeros((1, len(hidden_states)), dtype=torch.long, device=self.device)
            return self.model(input_ids=token_ids, use_cache=False).logits[0]
        finally:
            if original_forward is None:
                del self.decoder.forward
            else:
                self.decoder.forward = original_forward

    def score(
        self, hidden_states: torch.Tensor, preceding_indices: torch.Tensor, target_ids: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-probability (float64 [targets], nats) and greedy flag (bool [targets]) of each target token after its index.

        `hidden_states` is [tokens, hidden size], `preceding_indices` and `target_ids` are int64 [targets]; each distinct index
        is computed once.
        """
        distinct_indices, positions_among_distinct = torch.unique(preceding_indices, return_inverse=True)
        # In the order of their indices the targets of each chunk stand together. What is copied to a GPU or from it waits until
        # the GPU has done all before, so everything is copied once.
        sorted_positions, order = torch.sort(positions_among_distinct, stable=True)
        device = hidden_states.device
        chunk_size = _HEAD_POSITIONS_AT_ONCE_BY_DEVICE.get(device.type, _HEAD_POSITIONS_AT_ONCE_BY_DEVICE["cpu"])
        chunk_starts = torch.arange(0, len(distinct_indices) + chunk_size, chunk_size)
        target_bounds = torch.searchsorted(sorted_positions, chunk_starts).tolist()
        device_indices, device_positions, device_targets = (
            tensor.to(device) for tensor in (distinct_indices, sorted_positions, target_ids[order])
        )
        logprob_chunks, greedy_chunks = [], []
        for chunk_number, (target_start, target_end) in enumerate(itertools.pairwise(target_bounds)):
            chunk_start = chunk_number * chunk_size
            logits = self.logits(hidden_states[device_indices[chunk_start : chunk_start + chunk_size]]).float()
            chunk_positions = (device_positions[target_start:target_end] - chunk_start).to(logits.device)
            chunk_target_ids = device_targets[target_start:target_end].to(logits.device)
            target_logits = logits[chunk_positions, chunk_target_ids]
            largest_logits, greedy_ids = logits.max(dim=-1)
            # As `logsumexp`, but in place: a copy of the logits takes longer than what is done with it.
            log_sums = logits.sub_(largest_logits[:, None]).exp_().sum(dim=-1).log_() + largest_logits
            logprob_chunks.append((target_logits - log_sums[chunk_positions]).double())
            greedy_chunks.append(greedy_ids[chunk_positions] == chunk_target_ids)
        logprobs = torch.empty(len(preceding_indices), dtype=torch.float64)
        greedy_flags = torch.empty(len(preceding_indices), dtype=torch.bool)
        if logprob_chunks:
            logprobs[order], greedy_flags[order] = torch.cat(logprob_chunks).cpu(), torch.cat(greedy_chunks).cpu()
        return logprobs, greedy_flags
