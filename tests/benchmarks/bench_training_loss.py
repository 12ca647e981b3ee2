"""Peak memory of the output head and its loss, forward and backward, in a process of its own: for bench_training.py.

The whole form computes logits of all positions at once; the other is what orca-bench trains with. Memory is that of the process
(the peak of its resident set, which Linux can reset), or of the GPU; hidden states and weights stand before the count begins.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class LossPeak:
    """GiB above what stood before, of them the gradients that any form must leave; and the loss, nats per position."""

    peak_gib: float
    gradients_gib: float
    loss: float


def measure_loss(form: str, positions: int, hidden_size: int, vocab_size: int, precision: str, device: str) -> LossPeak:
    """Peak of one forward and backward pass of `form` (whole or parts)."""
    import torch

    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(positions, hidden_size, generator=generator).to(device, dtype).requires_grad_()
    weight = (0.05 * torch.randn(vocab_size, hidden_size, generator=generator)).to(device, dtype).requires_grad_()
    targets = torch.randint(vocab_size, (positions,), generator=generator).to(device)
    _loss(form, states[:64], weight, targets[:64]).backward()  # libraries allocate on first use
    states.grad = weight.grad = None
    before = _reset_peak(device)
    loss = _loss(form, states, weight, targets)
    loss.backward()
    peak = _peak_bytes(device) - before
    gradients = sum(tensor.grad.numel() * tensor.grad.element_size() for tensor in (states, weight))
    return LossPeak(peak / 2**30, gradients / 2**30, float(loss.detach()) / positions)


def _loss(form: str, states: Any, weight: Any, targets: Any) -> Any:
    import torch

    if form == "whole":
        return torch.nn.functional.cross_entropy((states @ weight.t()).float(), targets, reduction="sum")
    from orca_bench.train import output_head

    return output_head.cross_entropy_sum(states, weight, targets)


def _reset_peak(device: str) -> int:
    """Begin to count anew; returns the bytes in use now."""
    import torch

    if device != "cpu":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    Path("/proc/self/clear_refs").write_text("5")
    return _status_bytes("VmRSS")


def _peak_bytes(device: str) -> int:
    import torch

    return _status_bytes("VmHWM") if device == "cpu" else torch.cuda.max_memory_allocated()


def _status_bytes(name: str) -> int:
    match = re.search(rf"^{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.M)
    assert match is not None, "Linux has it"
    return int(match[1]) * 1024
