"""The shape of a model, GPUs and what a step computes in, the seconds of the step by their cause out.

Its own module because its two parts have their own proofs: the formulas have sources, and the three constants that are fitted are
compared with published rates (tests/train/test_published_rates.py, results/bench/training-plan.md).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from orca_bench.recipe import Train
from orca_bench.train.gpus import Gpu
from orca_bench.train.model_shape import ModelShape

#: Bytes that a token moves through the GPU's memory outside matrix products and attention, for each layer and each number of its
#: hidden state, forward and backward, in bf16 (norms, activation functions, residuals). Fitted with the two below.
TRAFFIC_BYTES = 428.0
#: Share of the link's rate that collectives reach during training, within a node and between nodes. NCCL's own benchmark
#: alone reaches 78 % on eight A100 (235 of 300 GB/s, stas00/ml-engineering, network/README.md).
COLLECTIVE_SHARE = 0.422
# The third is `attention_share` of an A100 in gpus.py. All three: least squares of the logarithms of the five rates that
# mosaicml/llm-foundry published for 1B and 7B models on 8 A100 with 80 GB (scripts/train/benchmarking/README.md at 061f2c7).

#: Seconds of Python for a layer and forward pass with its backward pass, in which the GPU has nothing to do: measured with
#: DeepSpeed 0.19.8 on one H200 with 16 examples a step (results/bench/training-gpu.md: 0.189 s a step, of which the formulas
#: here give 0.044 s to the GPU; 22 layers). It is the speed of one CPU core. The lower stages have fewer hooks, and nobody has
#: measured them: they get the same, which is too much.
HOST_SECONDS_PER_LAYER = 0.0066

#: AdamW's traffic, bytes a parameter: weight and two moments in float32 read and written, gradient read; with mixed
#: precision also the gradient's copy in float32 and the short weight written (the states of ZeRO, arXiv 1910.02054,
#: section 3.1).
_OPTIMIZER_BYTES, _MIXED_OPTIMIZER_BYTES = 28, 36
#: Memory bandwidth of the node's processors for the optimizer on the CPU, GB/s: one socket of AMD EPYC 7763 (data sheet).
_HOST_MEMORY_GB_S = 204.8
_PCIE_GB_S = 31.5  # PCIe 4.0, 16 lanes, one direction: gradients down and weights up with `train.offload: cpu`


@dataclass(frozen=True)
class StepWork:
    """What the slowest process computes in a step, one forward pass after another.

    `pass_tokens` are the tokens of each pass, padding included; `pass_attended` the sums over its sequences of attended
    positions, T (T + 1) / 2 for a sequence of T tokens. Both float64 [passes].
    """

    pass_tokens: np.ndarray
    pass_attended: np.ndarray


@dataclass(frozen=True)
class StepEstimate:
    """Seconds of a step by cause; they add up, because DeepSpeed communicates and computes one after the other here.

    `compute` are matrix products and attention, `memory_traffic` what is bound by the GPU's memory, `communication`
    collectives, `offload` copies to the main memory and the optimizer there, `host` Python. `communication_bytes` is what
    each GPU sends in a step.
    """

    compute: float
    memory_traffic: float
    communication: float
    offload: float
    host: float
    communication_bytes: float

    @property
    def seconds(self) -> float:
        """Seconds of the step."""
        return self.compute + self.memory_traffic + self.communication + self.offload + self.host

    @property
    def seconds_by_cause(self) -> dict[str, float]:
        """Seconds by cause, the longest first."""
        causes = {
            "compute": self.compute,
            "memory traffic": self.memory_traffic,
            "communication": self.communication,
            "offload": self.offload,
            "Python": self.host,
        }
        return dict(sorted(causes.items(), key=lambda item: -item[1]))

    @property
    def bound_by(self) -> str:
        """The cause of the longest part."""
        return next(iter(self.seconds_by_cause))

    def scaled(self, factor: float) -> StepEstimate:
        """The same with all seconds times `factor`."""
        return replace(
            self,
            compute=self.compute * factor,
            memory_traffic=self.memory_traffic * factor,
            communication=self.communication * factor,
            offload=self.offload * factor,
            host=self.host * factor,
        )


def estimate_step(
    shape: ModelShape, train: Train, work: StepWork, gpu: Gpu, node_count: int = 1, has_host_time: bool = True
) -> StepEstimate:
    """The time of a step of `train` on `train.processes` GPUs in `node_count` nodes.

    Compute: 6 FLOP a parameter and token, and 12 for attention (`FlopsUtilization.step_flops`). Recomputation adds a forward
    pass of the layers without the last product of each, because torch stops recomputing at the last tensor that the
    backward pass needs (torch.utils.checkpoint.set_checkpoint_early_stop). Memory traffic: `TRAFFIC_BYTES` and AdamW's
    states. Communication: ZeRO's volumes (arXiv 1910.02054, section 7): 2 Ψ a step without ZeRO and at stage 1, at stage 2 Ψ
    for each pass and Ψ a step, at stage 3 3 Ψ for each pass, times (n - 1) / n; Ψ are the bytes of all weights.

    With LoRA frozen weights have no gradients (`FlopsUtilization.product_flops`) and no states. Where the last product of a layer
    is a target, it is recomputed too: peft computes it before A x, which the backward pass needs. Ψ are then the bytes of LoRA's
    weights, but for the two times that stage 3 gathers all weights in each pass. Python's time for LoRA's own layers was not
    measured, and is not added.

    `gpu.peak_flops` is taken as the rate in the recipe's precision. `has_host_time` false leaves Python's time out.
    """
    pass_count, token_count = len(work.pass_tokens), float(work.pass_tokens.sum())
    is_recomputed = train.gradient_checkpointing
    flops, adapter_count = shape.training_flops(train), shape.adapter_parameter_count(train)
    product_flops = flops.product_flops(token_count)
    attention_flops = flops.attention_flops(float(work.pass_attended.sum()))
    if is_recomputed:
        recomputed = shape.layer_product_parameter_count
        if not shape.has_lora_at_last_product(train):
            recomputed -= shape.layer_count * shape.last_product_parameter_count
        product_flops += 2.0 * (recomputed + adapter_count) * token_count
        attention_flops *= 4 / 3
    number_bytes = 4 if train.precision == "fp32" else 2
    compute = (
        product_flops / gpu.product_share / gpu.peak_flops + attention_flops / gpu.attention_share / gpu.peak_flops
    )

    activation_bytes = TRAFFIC_BYTES * (number_bytes / 2) * shape.layer_count * shape.hidden_size * token_count
    activation_bytes *= 4 / 3 if is_recomputed else 1
    trained_count = shape.trained_parameter_count(train)
    optimizer_parameters = trained_count / (train.processes if train.zero_stage >= 1 else 1)
    optimizer_bytes = (_OPTIMIZER_BYTES if number_bytes == 4 else _MIXED_OPTIMIZER_BYTES) * optimizer_parameters
    offload_seconds = 0.0
    if train.offload == "cpu":
        node_parameters = trained_count / node_count
        offload_seconds = optimizer_bytes / optimizer_parameters * node_parameters / (_HOST_MEMORY_GB_S * 1e9)
        offload_seconds += 2 * number_bytes * optimizer_parameters / (_PCIE_GB_S * 1e9)
        optimizer_bytes = 0.0
    memory_traffic = (activation_bytes + optimizer_bytes) / (gpu.memory_gb_s * 1e9)

    trained_volumes = {0: 2, 1: 2, 2: pass_count + 1, 3: pass_count}[train.zero_stage]
    communicated_parameters: float = trained_volumes * trained_count
    if train.zero_stage == 3:
        communicated_parameters += 2 * pass_count * (shape.parameter_count + adapter_count)
    communication_bytes = number_bytes * communicated_parameters * (train.processes - 1) / train.processes
    communication = communication_bytes / collective_bytes_per_second(gpu, train.processes, node_count)
    host = HOST_SECONDS_PER_LAYER * shape.layer_count * pass_count if has_host_time else 0.0
    return StepEstimate(compute, memory_traffic, communication, offload_seconds, host, communication_bytes)


def collective_bytes_per_second(gpu: Gpu, process_count: int, node_count: int) -> float:
    """Rate of a collective, bytes/s a GPU: of the link within a node, or of a node's whole network where that is slower.

    NCCL's rings leave a node through all of its network adapters at the same time.
    """
    rate_gb_s = gpu.link_gb_s
    if node_count > 1:
        assert gpu.network_gb_s is not None, "`run_plan.check_machines` asks for it"
        rate_gb_s = min(rate_gb_s, gpu.network_gb_s * process_count / node_count)
    return rate_gb_s * 1e9 * COLLECTIVE_SHARE
