"""The kernel for packed examples against each example alone, on a GPU: for bench_training_gpu.py, since CI has none.

In: sizes of heads. Out: the largest differences of outputs and gradients, and the milliseconds of forward and backward of both.
The reference is the way of the CPU, computed in float32 from the same bfloat16 numbers.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

_LENGTHS = [700, 30, 1, 160, 90, 1024, 64, 165]
_HEADS, _KEY_HEADS = 16, 8
_REPEATS = 20


@dataclass(frozen=True)
class AttentionCheck:
    """Differences relative to the largest absolute number of the reference; milliseconds of one forward and backward pass."""

    head_size: int
    output_difference: float
    gradient_difference: float
    kernel_ms: float
    one_by_one_ms: float


def check_all(head_sizes: list[int]) -> dict[str, Any]:
    """`checks` of the sizes, and what went wrong with the others: `problems`, by size."""
    checks, problems = [], {}
    for head_size in head_sizes:
        try:
            checks.append(asdict(check_attention(head_size)))
        except RuntimeError as error:
            problems[str(head_size)] = " ".join(str(error).split())[-1500:]
    return {"checks": checks, "problems": problems}


def check_attention(head_size: int, device: str = "cuda") -> AttentionCheck:
    """Compare for a row of eight examples."""
    import torch

    from orca_bench.train import packed_attention

    torch.manual_seed(0)
    shapes = [(1, heads, sum(_LENGTHS), head_size) for heads in (_HEADS, _KEY_HEADS, _KEY_HEADS)]
    states = [torch.randn(shape, device=device, dtype=torch.bfloat16) for shape in shapes]
    arguments = packed_attention.packing_arguments(_LENGTHS, torch.device(device))
    boundaries, longest = arguments["cu_seq_lens_q"], arguments["max_length_q"]

    def in_one_kernel(query: Any, key: Any, value: Any) -> Any:
        return packed_attention._attend_in_one_kernel(
            query, *_for_all_heads(key, value), None, None, boundaries, longest
        )

    def one_by_one(query: Any, key: Any, value: Any) -> Any:
        return packed_attention._attend_one_by_one(query, *_for_all_heads(key, value), None, None, _LENGTHS)

    output, *gradients = _forward_and_backward(in_one_kernel, states)
    reference, *reference_gradients = _forward_and_backward(one_by_one, [state.float() for state in states])
    return AttentionCheck(
        head_size,
        _difference(output, reference),
        max(_difference(*pair) for pair in zip(gradients, reference_gradients, strict=True)),
        _milliseconds(in_one_kernel, states, device),
        _milliseconds(one_by_one, states, device),
    )


def _for_all_heads(*states: Any) -> list[Any]:
    """Keys or values of each query head, as `packed_attention` gives them to both ways."""
    return [key_states.repeat_interleave(_HEADS // _KEY_HEADS, dim=1) for key_states in states]


def _forward_and_backward(attend: Callable[..., Any], states: list[Any]) -> list[Any]:
    """The output and the gradients of query, key and value, for a loss that weighs every number differently."""
    import torch

    leaves = [state.detach().clone().requires_grad_() for state in states]
    output = attend(*leaves)
    weights = torch.linspace(-1, 1, output.numel(), device=output.device).view_as(output)
    (output.float() * weights).sum().backward()
    return [output.detach(), *(leaf.grad for leaf in leaves)]


def _difference(values: Any, reference: Any) -> float:
    return float((values.float() - reference.float()).abs().max() / reference.float().abs().max())


def _milliseconds(attend: Callable[..., Any], states: list[Any], device: str) -> float:
    import torch

    _forward_and_backward(attend, states)
    synchronize = torch.cuda.synchronize if device != "cpu" else lambda: None
    synchronize()
    start = time.perf_counter()
    for _ in range(_REPEATS):
        _forward_and_backward(attend, states)
    synchronize()
    return (time.perf_counter() - start) / _REPEATS * 1e3
