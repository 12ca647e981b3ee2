"""A recipe, GPUs and what the recipe trains on in, the memory, time and price of the run out, for it and for other settings.

Its own module because it puts the two estimates together: what fits, what binds, and what would be cheaper. Nothing is measured
and nothing is trained here. The settings that are compared keep the updates: the global batch, the examples and the precision.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from orca_bench.counts import counted
from orca_bench.errors import UserError
from orca_bench.recipe import Lora, Recipe, Train
from orca_bench.train import lora_targets
from orca_bench.train.batch_plan import BatchPlan
from orca_bench.train.gpus import GPUS, Gpu
from orca_bench.train.memory_estimate import MemoryEstimate, estimate_memory, longest_row
from orca_bench.train.micro_batches import EMPTY_PLACE
from orca_bench.train.model_shape import ModelShape
from orca_bench.train.step_estimate import StepEstimate, StepWork, estimate_step

_SAMPLED_EXAMPLES, _SAMPLED_STEPS = 2048, 8
#: What is planned where training all weights does not fit: all linear layers of the decoder, and alpha twice the rank.
PROPOSED_LORA = Lora(rank=16, alpha=32.0)
_SPARE_SHARE = 0.05  # of a GPU's memory: for CUDA's context, NCCL, fragmentation and the error of the estimate


@dataclass(frozen=True)
class Machines:
    """The GPUs of a run: `gpus_per_node` in each of `node_count` nodes; `dollars_per_hour` for one GPU, None if unknown."""

    gpu: Gpu
    gpus_per_node: int
    node_count: int
    dollars_per_hour: float | None

    @property
    def gpu_count(self) -> int:
        """All GPUs."""
        return self.gpus_per_node * self.node_count


@dataclass(frozen=True)
class Workload:
    """What is trained: the model's shape, the lengths of the examples in tokens, int64 [examples], and the greatest length.

    Where only their mean is known, `longest` is above all `lengths`. `has_quantized_base`: the weights of `model.base` are
    quantised, so that LoRA would be refused.
    """

    shape: ModelShape
    lengths: np.ndarray
    longest: int
    has_quantized_base: bool = False

    @property
    def is_of_equal_lengths(self) -> bool:
        """Whether all examples have the same length."""
        return bool(self.lengths.min() == self.lengths.max())

    @cached_property
    def sampled_lengths(self) -> np.ndarray:
        """Lengths of some of the examples, drawn with a fixed seed."""
        if len(self.lengths) <= _SAMPLED_EXAMPLES:
            return self.lengths
        return np.random.default_rng(0).choice(self.lengths, _SAMPLED_EXAMPLES, replace=False)


@dataclass(frozen=True)
class RunEstimate:
    """The estimates of a run with one training section. `gpu_memory_gib` is what a GPU has; `price` is dollars per GPU-hour."""

    train: Train
    memory: MemoryEstimate
    gpu_memory_gib: float
    step: StepEstimate
    step_count: int
    mfu: float
    price: float | None

    @property
    def fits(self) -> bool:
        """Whether the run fits into the memory of the GPUs, with something to spare for the error of the estimate."""
        return _fits(self.memory, self.gpu_memory_gib)

    @property
    def hours(self) -> float:
        """Hours of all steps, without start, checkpoints and export."""
        return self.step.seconds * self.step_count / 3600

    @property
    def gpu_hours(self) -> float:
        """Hours times GPUs."""
        return self.hours * self.train.processes

    @property
    def dollars(self) -> float | None:
        """The price of the run; None where that of a GPU-hour is unknown."""
        return None if self.price is None else self.gpu_hours * self.price


@dataclass(frozen=True)
class RunPlan:
    """The recipe's own estimate, that of the same at ZeRO stage 2 where it has stage 3, and all that fit, the cheapest first.

    `lora_estimates` are settings with `PROPOSED_LORA`, which is another training, where the recipe trains all weights and does
    not fit. `problem` says why nothing fits without LoRA, and what would; None where something does.
    """

    recipe_estimate: RunEstimate
    stage_2_estimate: RunEstimate | None
    fitting_estimates: list[RunEstimate]
    lora_estimates: list[RunEstimate]
    problem: UserError | None


def _fits(memory: MemoryEstimate, gpu_memory_gib: float) -> bool:
    return memory.total_gib <= (1 - _SPARE_SHARE) * gpu_memory_gib


def check_machines(train: Train, gpu: Gpu, gpus_per_node: int | None, node_count: int) -> tuple[int, int]:
    """(GPUs a node, nodes) of a recipe's processes; raises UserError where they do not match, or the network is unknown."""
    if node_count > 1 and gpu.network_gb_s is None:
        raise UserError(
            f"nodes with {gpu.name} have no usual network",
            where="--nodes",
            hint="give --network-gb-s, one GPU's share of its node's rate (100 Gbit/s for 8 GPUs: 1.56)",
        )
    if gpus_per_node is None:
        if train.processes % node_count:
            raise UserError(
                f"{train.processes} processes cannot be shared out to {node_count} nodes equally",
                where="--nodes",
                hint=_matching_processes(train, node_count * max(1, train.processes // node_count)),
            )
        gpus_per_node = train.processes // node_count
    gpu_count = gpus_per_node * node_count
    if gpu_count != train.processes:
        raise UserError(
            f"{gpus_per_node} × {node_count} = {counted(gpu_count, 'GPU')} for {train.processes} processes of the recipe",
            where="--gpus",
            hint=_matching_processes(train, gpu_count),
        )
    return gpus_per_node, node_count


def _matching_processes(train: Train, gpu_count: int) -> str:
    """What to give so that the recipe has as many processes as GPUs, with the same global batch where that is possible."""
    splits = list(_batch_splits(train.global_batch, gpu_count))
    if not splits:
        return f"global_batch {train.global_batch} cannot be divided by {gpu_count}; take another number of GPUs"
    micro_batch, accumulation = min(splits, key=lambda split: abs(split[0] - train.micro_batch))
    return (
        f"one process for each GPU: -o train.processes={gpu_count} -o train.micro_batch={micro_batch} "
        f"-o train.accumulation={accumulation}"
    )


def plan_run(recipe: Recipe, workload: Workload, machines: Machines, measured_step_s: float | None = None) -> RunPlan:
    """Estimate the recipe's run and all settings on the same machines.

    With `measured_step_s`, the seconds of a step of the recipe as measured, all times are scaled by the measured over the
    estimated one. Raises UserError for a recipe in fp32, and where no setting fits, not with LoRA either, with what would make it
    fit.
    """
    own_train = recipe.train
    if own_train.precision == "fp32":
        raise UserError(
            "the rates of the GPUs are those of bf16 and fp16, and the recipe says fp32",
            where="train.precision",
            hint="give -o train.precision=bf16",
        )
    estimator = _RunEstimator(recipe, workload, machines)
    own_estimate = estimator.estimate(own_train)
    if measured_step_s is not None:
        estimator.time_factor = measured_step_s / own_estimate.step.seconds
        own_estimate = estimator.estimate(own_train)
    estimates = [estimator.estimate(train) for train in settings(own_train, workload.is_of_equal_lengths)]
    fitting, with_lora = _cheapest_first(estimates), []
    if not own_estimate.fits and _can_have_proposed_lora(recipe, workload):
        lora_train = own_train.model_copy(update={"lora": PROPOSED_LORA})
        with_lora = _cheapest_first(map(estimator.estimate, settings(lora_train, workload.is_of_equal_lengths)))
    problem = None
    if not fitting:
        smallest = min(estimates, key=lambda estimate: estimate.memory.total_gib)
        problem = UserError(
            f"no setting fits {machines.gpu_count} × {machines.gpu.name}: the smallest needs "
            f"{smallest.memory.total_gib:.1f} GiB a GPU, and there are {smallest.gpu_memory_gib:.1f}",
            where=recipe.name,
            hint=_what_would_fit(smallest.train, workload, machines, recipe.data.max_length),
        )
        if not with_lora:
            raise problem
    stage_2_estimate = None
    if own_train.zero_stage == 3 and own_train.processes > 1:
        stage_2_estimate = estimator.estimate(own_train.model_copy(update={"zero_stage": 2}))
    return RunPlan(own_estimate, stage_2_estimate, fitting, with_lora, problem)


def _can_have_proposed_lora(recipe: Recipe, workload: Workload) -> bool:
    """Whether a recipe that trains all weights could be trained with `PROPOSED_LORA` instead: training would not refuse it."""
    if recipe.train.lora is not None or recipe.model.base is None or workload.has_quantized_base:
        return False
    try:
        lora_targets.check_targets(PROPOSED_LORA, workload.shape.linear_layers)
    except UserError:
        return False
    return True


def _cheapest_first(estimates: Iterable[RunEstimate]) -> list[RunEstimate]:
    """Those that fit."""
    return sorted(
        (estimate for estimate in estimates if estimate.fits),
        key=lambda estimate: (round(estimate.gpu_hours, 6), estimate.memory.total_gib),
    )


def settings(train: Train, is_of_equal_lengths: bool = False) -> Iterator[Train]:
    """All training sections with the same updates: ZeRO stage, split of the batch, recomputation, packing, offloading.

    Dense rows make other updates, so a recipe with them keeps them, and the others do not get them. Examples of equal lengths
    need no padding, so that packing costs them and gives them nothing: the recipe's own is kept.
    """
    packings = [train.packing] if train.packing == "dense" or is_of_equal_lengths else ["exact", "none"]
    for stage, (micro_batch, accumulation), recomputes, packing, offload in itertools.product(
        (0, 1, 2, 3), _batch_splits(train.global_batch, train.processes), (False, True), packings, ("none", "cpu")
    ):
        if offload == "cpu" and stage == 0:
            continue
        yield train.model_copy(
            update={
                "zero_stage": stage,
                "micro_batch": micro_batch,
                "accumulation": accumulation,
                "gradient_checkpointing": recomputes,
                "packing": packing,
                "offload": offload,
            }
        )


def _batch_splits(global_batch: int, process_count: int) -> Iterator[tuple[int, int]]:
    """(micro batch, accumulation) by which a global batch can be split over processes."""
    if global_batch % process_count:
        return
    examples_of_process = global_batch // process_count
    for micro_batch in range(1, examples_of_process + 1):
        if examples_of_process % micro_batch == 0:
            yield micro_batch, examples_of_process // micro_batch


class _RunEstimator:
    """Estimates runs of a recipe with other training sections; the work of a step is computed once for each split of a batch.

    All times are multiplied by `time_factor`.
    """

    def __init__(self, recipe: Recipe, workload: Workload, machines: Machines) -> None:
        self._recipe, self._workload, self._machines = recipe, workload, machines
        self.time_factor = 1.0
        self._step_count = BatchPlan(workload.lengths, recipe.train, recipe.data.max_length).step_count
        self._work_by_split: dict[tuple[str, int, int, bool], tuple[StepWork, float]] = {}

    def estimate(self, train: Train) -> RunEstimate:
        """The estimate of the run with this training section instead of the recipe's."""
        shape, machines, max_length = self._workload.shape, self._machines, self._recipe.data.max_length
        split = (train.packing, train.micro_batch, train.accumulation, train.lora is None)
        if split not in self._work_by_split:
            self._work_by_split[split] = _step_work(train, self._workload, max_length)
        work, model_flops = self._work_by_split[split]
        step = estimate_step(shape, train, work, machines.gpu, machines.node_count).scaled(self.time_factor)
        return RunEstimate(
            train,
            estimate_memory(shape, train, longest_row(train, self._workload.longest, max_length)),
            machines.gpu.memory_gib,
            step,
            self._step_count,
            model_flops / step.seconds / (machines.gpu.peak_flops * machines.gpu_count),
            machines.dollars_per_hour,
        )


def _step_work(train: Train, workload: Workload, max_length: int) -> tuple[StepWork, float]:
    """(the work of the slowest process, means over some steps; the operations of all processes in a step, without padding)."""
    lengths = workload.sampled_lengths
    repeat_count = -(-train.global_batch * _SAMPLED_STEPS // len(lengths))
    sampled_train = train.model_copy(update={"epochs": 1, "max_steps": None})
    plan = BatchPlan(np.tile(lengths, repeat_count), sampled_train, max_length)
    step_count = max(1, min(_SAMPLED_STEPS, plan.step_count - 1))
    tokens, attended_positions = np.zeros(train.accumulation), np.zeros(train.accumulation)
    flops, model_flops = workload.shape.training_flops(train), 0.0
    for step_index in range(step_count):
        work_of_processes = []
        for rank in range(train.processes):
            passes = [
                plan.example_lengths[example_indices[example_indices != EMPTY_PLACE]]
                for example_indices in plan.passes_of_process(step_index, rank)
            ]
            model_flops += sum(flops.step_flops(pass_lengths) for pass_lengths in passes)
            if train.packing == "none":
                passes = [np.full(train.micro_batch, pass_lengths.max(initial=0)) for pass_lengths in passes]
            work_of_processes.append([(p.sum(), (p * (p + 1) / 2).sum()) for p in passes])
        work_of_slowest = np.array(work_of_processes, np.float64).max(axis=0)  # [passes, 2]
        tokens += work_of_slowest[:, 0]
        attended_positions += work_of_slowest[:, 1]
    return StepWork(tokens / step_count, attended_positions / step_count), model_flops / step_count


def _what_would_fit(smallest_train: Train, workload: Workload, machines: Machines, max_length: int) -> str:
    """The changes of which each alone would make the smallest setting fit: GPUs of the table, more of these, shorter examples."""
    longest = longest_row(smallest_train, workload.longest, max_length)

    def memory(process_count: int, row_length: int) -> MemoryEstimate:
        train = smallest_train.model_copy(update={"processes": process_count})
        return estimate_memory(workload.shape, train, row_length)

    gpu_count, gpu_memory_gib = smallest_train.processes, machines.gpu.memory_gib
    needed = memory(gpu_count, longest)
    ways = [
        f"--gpu {gpu.name}" for gpu in sorted(GPUS, key=lambda gpu: gpu.memory_gb) if _fits(needed, gpu.memory_gib)
    ][:3]
    process_counts = (gpu_count * 2**doubling for doubling in range(1, 8))
    if more_gpus := next((n for n in process_counts if _fits(memory(n, longest), gpu_memory_gib)), None):
        ways.append(f"{more_gpus} GPUs, with a train.global_batch that they divide")
    row_lengths = (longest // 2**halving for halving in range(1, 6))
    if shorter := next((n for n in row_lengths if n > 0 and _fits(memory(gpu_count, n), gpu_memory_gib)), None):
        ways.append(f"-o data.max_length={shorter}")
    return f"what would fit: {', or '.join(ways)}" if ways else "take a smaller model"
