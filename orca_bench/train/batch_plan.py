"""Which examples make up which step, on which process, and at which learning rate: numbers only, no tensors.

Its own module because every process computes it alone and they must agree to the last row, and because `--dry-run` shows it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from orca_bench.recipe import Train

EMPTY_PLACE = -1  # a place in the last batch that no example is left for


@dataclass(frozen=True)
class BatchPlan:
    """Every example `epochs` times, in a new seeded order each epoch, in batches of `global_batch`.

    Epochs follow one another without a gap; only the very last batch may have empty places. The order does not depend
    on how a batch is split over processes and micro batches, so neither do the losses (to rounding).
    """

    lengths: np.ndarray  # tokens of each example, int64 [examples]
    train: Train

    @property
    def examples(self) -> int:
        """How many examples there are."""
        return len(self.lengths)

    @property
    def steps(self) -> int:
        """Optimizer steps in the run."""
        steps = math.ceil(self.examples * self.train.epochs / self.train.global_batch)
        return min(steps, self.train.max_steps or steps)

    @property
    def warmup_steps(self) -> int:
        """Steps until the peak learning rate: a share of the run, but at least `warmup_min_steps`."""
        return max(self.train.warmup_min_steps, int(self.steps * self.train.warmup_ratio))

    @cached_property
    def _example_order(self) -> np.ndarray:
        place_count = self.steps * self.train.global_batch
        epoch_orders = [
            np.random.default_rng([self.train.seed, epoch]).permutation(self.examples)
            for epoch in range(min(self.train.epochs, math.ceil(place_count / self.examples)))
        ]
        order = np.concatenate(epoch_orders)[:place_count]
        return np.pad(order, (0, place_count - len(order)), constant_values=EMPTY_PLACE)

    def batch(self, step: int) -> np.ndarray:
        """Example numbers of the batch of `step` (from 0), int64 [global_batch]; NO_EXAMPLE where none is left.

        Longest first, so that the sequences of a micro batch have similar lengths and little of it is padding. The step's loss is
        a mean over all its tokens, so the order within a batch changes nothing but speed.
        """
        batch_size = self.train.global_batch
        batch = self._example_order[step * batch_size : (step + 1) * batch_size]
        lengths = np.where(batch == EMPTY_PLACE, 0, self.lengths[batch])
        return batch[np.argsort(-lengths, kind="stable")]

    def micro_batch(self, step: int, accumulation_index: int, process: int) -> np.ndarray:
        """Example numbers of the micro batch `accumulation_index` of one process, int64 [micro_batch]."""
        micro_batch_size = self.train.micro_batch
        start = (accumulation_index * self.train.processes + process) * micro_batch_size
        return self.batch(step)[start : start + micro_batch_size]

    def epoch(self, step: int) -> float:
        """How many times the data has been used after `step` (from 0)."""
        return min((step + 1) * self.train.global_batch / self.examples, float(self.train.epochs))

    def learning_rate(self, step: int) -> float:
        """The learning rate of `step` (from 0), as DeepSpeed's WarmupDecayLR gives it to a training loop.

        Warm-up from 0 to the peak, logarithmic (log(i + 1) / log(warm-up steps)) as is DeepSpeed's default and so the
        card's, or linear; then linear decay to 0. DeepSpeed's scheduler lags by one step (its step -1 and step 0
        both have rate 0). This is the same, so that the run is the card's. Source: deepspeed 0.19.8, runtime/lr_schedules.py.
        """
        step_index, warmup_steps = step - 1, max(2, self.warmup_steps)
        if step_index < 0:
            return 0.0
        if step_index < warmup_steps:
            return self.train.lr * (
                math.log(step_index + 1) / math.log(warmup_steps)
                if self.train.warmup == "log"
                else step_index / warmup_steps
            )
        return self.train.lr * max(0.0, (self.steps - step_index) / max(1.0, self.steps - warmup_steps))


@dataclass(frozen=True)
class MemoryEstimate:
    """An estimate of one process's memory in GiB: model states, activations, and the logits of the output head."""

    states: float
    activations: float
    logits: float

    @property
    def total(self) -> float:
        """GiB per process."""
        return self.states + self.activations + self.logits


def estimate_memory(
    parameters: int, hidden_size: int, layers: int, vocab_size: int, train: Train, max_length: int
) -> MemoryEstimate:
    """What one process needs in GiB, without the framework's own memory and fragmentation.

    Model states are 16 bytes per parameter (mixed precision: 2 weights + 2 gradients + 12 for AdamW's fp32 copies; fp32:
    4 + 4 + 8), divided over the processes by the ZeRO stage (Rajbhandari et al. 2020, arXiv 1910.02054, section 3 and
    figure 1: stage 1 shards the optimizer's, 2 the gradients too, 3 the weights too). Activations: with checkpointing
    the input of each layer and the activations inside one layer (34 bytes × tokens × hidden; Korthikanti et al. 2022,
    arXiv 2205.05198, equation 2 without the attention scores), else those of every layer. Logits: fp32 values and gradient.
    """
    is_mixed_precision = train.precision != "fp32"
    weight_bytes, gradient_bytes, optimizer_bytes = (2, 2, 12) if is_mixed_precision else (4, 4, 8)
    process_count, zero_stage = train.processes, train.zero_stage
    if train.offload == "cpu":
        optimizer_bytes = 0
    bytes_per_parameter = (
        weight_bytes / (process_count if zero_stage >= 3 else 1)
        + gradient_bytes / (process_count if zero_stage >= 2 else 1)
        + optimizer_bytes / (process_count if zero_stage >= 1 else 1)
    )
    tokens = train.micro_batch * max_length
    layer_activation_bytes = 34 * tokens * hidden_size * (1 if is_mixed_precision else 2)
    activation_bytes_per_number = 2 if is_mixed_precision else 4
    if train.gradient_checkpointing:
        activation_bytes = layer_activation_bytes + layers * tokens * hidden_size * activation_bytes_per_number
    else:
        activation_bytes = layer_activation_bytes * layers
    gib = 2**30
    return MemoryEstimate(
        parameters * bytes_per_parameter / gib, activation_bytes / gib, 2 * 4 * tokens * vocab_size / gib
    )
