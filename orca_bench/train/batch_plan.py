"""Which examples make up which step, on which process, and at which learning rate: numbers only, no tensors.

Its own module because every process computes it alone and they must agree to the last row, and because `--dry-run` shows it.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from orca_bench.counts import counted
from orca_bench.recipe import Recipe, Train
from orca_bench.train import packing
from orca_bench.train.example_encoding import EncodedExamples
from orca_bench.train.micro_batches import EMPTY_PLACE

if TYPE_CHECKING:
    from transformers import PretrainedConfig


@dataclass(frozen=True)
class BatchPlan:
    """Every example `epochs` times, in a new seeded order each epoch, in batches of `global_batch`.

    Epochs follow one another without a gap; only the very last batch may be smaller. Neither the order nor what belongs to a
    step depends on how a batch is split over processes and forward passes, so neither do the losses (to rounding).

    A batch is `global_batch` examples; with `train.packing: dense` it is as many rows of at most `row_length` tokens,
    each filled with examples from the shuffled stream.
    """

    example_lengths: np.ndarray  # tokens of each example, int64 [examples]
    train_section: Train
    row_length: int | None = None  # of a dense row, in tokens; None: the longest example
    costs: np.ndarray | None = None  # of each example in any unit (`packing.example_costs`), float64; else its tokens

    @classmethod
    def of_recipe(cls, recipe: Recipe, examples: EncodedExamples, model_config: PretrainedConfig) -> BatchPlan:
        """The plan of a training run: of its examples, for a student of this configuration."""
        costs = None
        if recipe.train.packing == "exact":
            costs = packing.example_costs(examples.lengths, examples.trained_token_counts, model_config)
        return cls(examples.lengths, recipe.train, recipe.data.max_length, costs)

    @property
    def example_count(self) -> int:
        """How many examples there are."""
        return len(self.example_lengths)

    @property
    def step_count(self) -> int:
        """Optimizer steps in the run."""
        batch_size = self.train_section.global_batch
        if self._row_ends is None:
            steps = math.ceil(self.example_count * self.train_section.epochs / batch_size)
        else:
            steps = math.ceil(len(self._row_ends) / batch_size)
        return min(steps, self.train_section.max_steps or steps)

    @property
    def warmup_step_count(self) -> int:
        """Steps until the peak learning rate: a share of the run, but at least `warmup_min_steps`."""
        return max(self.train_section.warmup_min_steps, int(self.step_count * self.train_section.warmup_ratio))

    def remarks(self) -> list[str]:
        """What somebody who wrote the recipe may not expect of the number of steps, in sentences for the user."""
        train, step_count, warmup_step_count = self.train_section, self.step_count, self.warmup_step_count
        remarks = []
        steps_text = counted(step_count, "step")
        if train.max_steps is not None and train.max_steps > step_count:
            epochs_text = "one epoch ends" if train.epochs == 1 else f"{train.epochs} epochs end"
            remarks.append(
                f"{epochs_text} after {steps_text}, before train.max_steps {train.max_steps:,}: "
                "raise train.epochs to train longer"
            )
        if warmup_step_count >= step_count:
            remarks.append(
                f"warm-up takes {warmup_step_count:,} steps, and the run has {steps_text}: the learning rate does not reach "
                f"train.lr {train.lr:g}; lower train.warmup_min_steps or train.warmup_ratio"
            )
        return remarks

    @cached_property
    def _stream(self) -> np.ndarray:
        """Example numbers of all epochs that the run may need, each epoch shuffled by itself, int64."""
        train, example_count = self.train_section, self.example_count
        epoch_count = train.epochs
        if train.max_steps is not None and train.packing != "dense":
            epoch_count = min(epoch_count, math.ceil(train.max_steps * train.global_batch / example_count))
        return np.concatenate(
            [np.random.default_rng([train.seed, epoch]).permutation(example_count) for epoch in range(epoch_count)]
        )

    @cached_property
    def _row_ends(self) -> np.ndarray | None:
        """Where each dense row ends in the stream, int64 [rows]; None without dense rows."""
        if self.train_section.packing != "dense":
            return None
        row_length = self.row_length or self._longest_example
        return packing.fill_rows(self.example_lengths[self._stream], row_length)

    def _stream_end(self, step_index: int) -> int:
        """How many examples of the stream are used after `step_index` (from 0; -1 for none)."""
        used_places = (step_index + 1) * self.train_section.global_batch
        if self._row_ends is None or used_places == 0:
            return min(used_places, len(self._stream))
        return int(self._row_ends[min(used_places, len(self._row_ends)) - 1])

    def example_indices_of_step(self, step_index: int) -> np.ndarray:
        """Example numbers of the batch of `step_index` (from 0), int64 [examples]; no example stands for an empty place.

        Longest first, so that the sequences of a padded micro batch have similar lengths and little of it is padding. The step's
        loss is a mean over all its tokens, so the order within a batch changes nothing but speed.
        """
        example_indices = self._stream[self._stream_end(step_index - 1) : self._stream_end(step_index)]
        return example_indices[np.argsort(-self.example_lengths[example_indices], kind="stable")]

    def passes_of_process(self, step_index: int, process_rank: int) -> list[np.ndarray]:
        """Example numbers of each of the `accumulation` forward passes of one process in a step, int64.

        Without packing a pass has `micro_batch` of them, EMPTY_PLACE where no example is left; packed, it may have none.
        """
        return self._passes_of_step(step_index)[process_rank :: self.train_section.processes]

    def _passes_of_step(self, step_index: int) -> list[np.ndarray]:
        """Example numbers of all forward passes of a step; the processes take turns."""
        train = self.train_section
        pass_count = train.processes * train.accumulation
        if self._row_ends is not None:
            first_row = step_index * train.global_batch
            rows = np.minimum(first_row + train.micro_batch * np.arange(pass_count + 1), len(self._row_ends))
            bounds = self._row_bounds[rows]
            return [self._stream[start:end] for start, end in itertools.pairwise(bounds)]
        example_indices = self.example_indices_of_step(step_index)
        if train.packing == "none":
            empty_place_count = train.global_batch - len(example_indices)
            return np.split(np.pad(example_indices, (0, empty_place_count), constant_values=EMPTY_PLACE), pass_count)
        costs = self.example_lengths if self.costs is None else self.costs
        return packing.share_out(
            example_indices,
            costs[example_indices].astype(np.float64),
            self.example_lengths[example_indices],
            pass_count,
            most_tokens=train.micro_batch * self._longest_example,
        )

    @cached_property
    def _row_bounds(self) -> np.ndarray:
        """Where each dense row begins in the stream, and where the last one ends, int64 [rows + 1]."""
        return np.concatenate([[0], [] if self._row_ends is None else self._row_ends]).astype(np.int64)

    @cached_property
    def _longest_example(self) -> int:
        return int(self.example_lengths.max())

    def epoch(self, step_index: int) -> float:
        """How many times the data has been used after `step_index` (from 0)."""
        return self._stream_end(step_index) / self.example_count

    def learning_rate(self, step_index: int) -> float:
        """The learning rate of `step_index` (from 0), as DeepSpeed's WarmupDecayLR gives it to a training loop.

        Warm-up from 0 to the peak, logarithmic (log(i + 1) / log(warm-up steps)) as is DeepSpeed's default and so the
        card's, or linear; then linear decay to 0. DeepSpeed's scheduler lags by one step (its step -1 and step 0
        both have rate 0). This is the same, so that the run is the card's. Source: deepspeed 0.19.8, runtime/lr_schedules.py.
        """
        lagged_step_index, warmup_steps = step_index - 1, max(2, self.warmup_step_count)
        if lagged_step_index < 0:
            return 0.0
        if lagged_step_index < warmup_steps:
            return self.train_section.lr * (
                math.log(lagged_step_index + 1) / math.log(warmup_steps)
                if self.train_section.warmup == "log"
                else lagged_step_index / warmup_steps
            )
        return self.train_section.lr * max(
            0.0, (self.step_count - lagged_step_index) / max(1.0, self.step_count - warmup_steps)
        )
