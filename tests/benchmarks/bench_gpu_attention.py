"""Ways to compute the attention of a prefix tree on one GPU, for bench_gpu.py: milliseconds and differences of each.

In: batches of the trees of representative tasks, and random queries, keys and values of the shapes of heads of TinyLlama and
LLaMA-7B. Out: a row for each batch and way. The ways: a boolean mask over everything (with each of PyTorch's kernels), span by
span, one call of the kernel for variable lengths over gathered keys, and flex_attention, which skips what the mask hides in
whole blocks. Its own module because it computes no model.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import bench_gpu_inputs
import numpy as np
from bench_gpu_process import Recorder, synchronize

_REPEATS = 10


@dataclass(frozen=True)
class HeadShape:
    """Of one layer's attention."""

    name: str
    head_count: int
    key_head_count: int
    head_size: int


_HEAD_SHAPES = (HeadShape("1.1b", 32, 4, 64), HeadShape("7b", 32, 32, 128))
_TINY_HEADS = HeadShape("tiny", 4, 2, 16)
_TASK_NAMES = ("mmlu", "hellaswag", "arc_challenge")


@dataclass(frozen=True)
class TreeCase:
    """One batch of a tree with the queries, keys and values of one layer: [1, heads, tokens, head size]."""

    name: str
    batch: Any
    query: Any
    key: Any
    value: Any

    @property
    def cached_count(self) -> int:
        return len(self.batch.cached_indices)


def measure_tree_attention(recorder: Recorder) -> None:
    """Everything that needs no compiler."""
    for case in _cases(recorder):
        reference = _Reference(case)
        ways: dict[str, Callable[[], Callable[[], Any]]] = {
            "mask, as the engine": lambda case=case: _masked(case),
            "mask, memory-efficient kernel": lambda case=case: _masked(case, "EFFICIENT_ATTENTION"),
            "mask, cuDNN's kernel": lambda case=case: _masked(case, "CUDNN_ATTENTION"),
            "mask of floats, made once for all layers": lambda case=case: _masked(case, is_float=True),
            "runs": lambda case=case: _by_spans(case),
            "lengths": lambda case=case: _by_lengths(case),
        }
        for way_name, prepare in ways.items():
            recorder.measure(
                f"{case.name}: {way_name}",
                lambda name=way_name, case=case, prepare=prepare, reference=reference: _measurement(
                    recorder.device, case, name, prepare, reference
                ),
                expected_s=0 if recorder.is_tiny else 2,
            )


def measure_flex_attention(recorder: Recorder) -> None:
    """flex_attention, compiled; the first call of each shape of heads includes the compilation."""
    for case in _cases(recorder):
        reference = _Reference(case)
        recorder.measure(
            f"{case.name}: flex_attention",
            lambda case=case, reference=reference: _measurement(
                recorder.device, case, "flex_attention", lambda: _flexible(case), reference
            ),
            expected_s=0 if recorder.is_tiny else 5,
        )


def _cases(recorder: Recorder) -> list[TreeCase]:
    import torch

    from orca_bench.evaluate.engine import prefix_tree

    batch_tokens, task_share, token_share = (64, 0.05, 0.05) if recorder.is_tiny else (4096, 1.0, 1.0)
    tasks = [
        task
        for task in bench_gpu_inputs.scaled_task_shapes(task_share, token_share)
        if task.name in (_TASK_NAMES[:1] if recorder.is_tiny else _TASK_NAMES)
    ]
    dtype = torch.float32 if recorder.device == "cpu" else torch.bfloat16
    cases = []
    for heads in (_TINY_HEADS,) if recorder.is_tiny else _HEAD_SHAPES:
        for task_name, sequences in bench_gpu_inputs.sequences_of_tasks(tasks, 32_000).items():
            batches = list(prefix_tree.tree_batches(sequences, batch_tokens))
            batch = batches[min(1, len(batches) - 1)]  # the second has a cached path
            torch.manual_seed(0)
            column_count = len(batch.cached_indices) + len(batch.token_ids)
            query, key, value = (
                torch.randn((1, head_count, token_count, heads.head_size), device=recorder.device, dtype=dtype)
                for head_count, token_count in (
                    (heads.head_count, len(batch.token_ids)),
                    (heads.key_head_count, column_count),
                    (heads.key_head_count, column_count),
                )
            )
            cases.append(TreeCase(f"{heads.name}, {task_name}", batch, query, key, value))
    return cases


class _Reference:
    """The output of the engine's mask in float32; computed at its first use."""

    def __init__(self, case: TreeCase):
        self._case, self._output = case, None

    def largest_difference(self, output: Any) -> float:
        """Over the largest number of the reference."""
        from orca_bench.evaluate.engine.attention_interface import AttentionOptions, masked_attention
        from orca_bench.evaluate.engine.tree_attention import tree_mask

        if self._output is None:
            case = self._case
            mask = tree_mask(case.batch, case.query.device)
            self._output = masked_attention(
                case.query.float(), case.key.float(), case.value.float(), AttentionOptions(), mask
            )
        return float((output.float() - self._output).abs().max() / self._output.abs().max())


def _measurement(
    device: str, case: TreeCase, way_name: str, prepare: Callable[[], Callable[[], Any]], reference: _Reference
) -> dict[str, Any]:
    """`prepare` is what a batch needs once for all layers; what it returns is what every layer does."""
    import torch

    with torch.inference_mode():
        attend = prepare()
        start = time.perf_counter()
        output = attend()
        synchronize(device)
        first_s = time.perf_counter() - start
        difference = reference.largest_difference(output)
        del output
        start = time.perf_counter()
        prepare()
        synchronize(device)
        prepare_ms = (time.perf_counter() - start) * 1e3
        start = time.perf_counter()
        for _ in range(_REPEATS):
            attend()
        synchronize(device)
    visible_share = _visible_pairs(case) / (len(case.batch.token_ids) * case.key.shape[2])
    return {
        "kind": "tree attention",
        "case": case.name,
        "way": way_name,
        "tokens": len(case.batch.token_ids),
        "columns": case.key.shape[2],
        "spans": len(case.batch.token_spans),
        "visible_share": visible_share,
        "layer_ms": (time.perf_counter() - start) / _REPEATS * 1e3,
        "batch_ms": prepare_ms,
        "first_call_s": first_s,
        "difference": difference,
    }


def _visible_pairs(case: TreeCase) -> int:
    """Pairs of a query and a key that it attends to: as many as the query's depth and itself."""
    return int(np.sum(np.add(case.batch.token_depths, 1)))


def _masked(case: TreeCase, backend_name: str | None = None, is_float: bool = False) -> Callable[[], Any]:
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    from orca_bench.evaluate.engine.attention_interface import AttentionOptions, masked_attention
    from orca_bench.evaluate.engine.tree_attention import tree_mask

    mask = tree_mask(case.batch, case.query.device)
    if is_float:
        padded_width = -(-mask.shape[1] // 16) * 16  # what the memory-efficient kernel asks for
        padded = torch.full((mask.shape[0], padded_width), float("-inf"), dtype=case.query.dtype, device=mask.device)
        padded[:, : mask.shape[1]].masked_fill_(mask, 0.0)
        mask = padded[:, : mask.shape[1]]

    def attend() -> Any:
        if backend_name is None:
            return masked_attention(case.query, case.key, case.value, AttentionOptions(), mask)
        with sdpa_kernel([getattr(SDPBackend, backend_name)]):
            return masked_attention(case.query, case.key, case.value, AttentionOptions(), mask)

    return attend


def _by_spans(case: TreeCase) -> Callable[[], Any]:
    from orca_bench.evaluate.engine.attention_interface import AttentionOptions
    from orca_bench.evaluate.engine.kv_cache import CachedPath
    from orca_bench.evaluate.engine.tree_attention import TreeAttention

    pattern = TreeAttention(case.batch, CachedPath(), [], "runs", case.query.device, case.query.dtype)
    return lambda: pattern.attend(0, case.query, case.key, case.value, AttentionOptions())


def _by_lengths(case: TreeCase) -> Callable[[], Any]:
    """The engine's: each span is a sequence whose keys are its ancestors and itself, copied anew for every layer."""
    from orca_bench.evaluate.engine.attention_interface import AttentionOptions
    from orca_bench.evaluate.engine.variable_length_attention import GatheredSpans

    spans = GatheredSpans(case.batch, case.query.device)
    print(f"{case.name}: {spans.copies_of_keys:.1f} copies of a key", flush=True)
    return lambda: spans.attend(case.query, case.key, case.value, AttentionOptions())


def _flexible(case: TreeCase) -> Callable[[], Any]:
    import torch
    from torch.nn.attention.flex_attention import create_block_mask

    cached_count = case.cached_count
    subtree_ends = torch.from_numpy(case.batch.subtree_ends()).to(case.query.device)

    def is_visible(batch: Any, head: Any, query_index: Any, key_index: Any) -> Any:
        own_index = query_index + cached_count
        return (key_index <= own_index) & (own_index < subtree_ends[key_index])

    block_mask = create_block_mask(
        is_visible, None, None, case.query.shape[2], case.key.shape[2], device=case.query.device
    )
    attend = _compiled_flex_attention()
    return lambda: attend(case.query, case.key, case.value, block_mask=block_mask, enable_gqa=True)


@functools.cache
def _compiled_flex_attention() -> Any:
    import torch
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=True)
