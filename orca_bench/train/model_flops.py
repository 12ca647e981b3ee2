"""A model's configuration and the lengths of sequences in, the floating-point operations of a training step and the share of
the hardware's peak rate (MFU) out.

Its own module because the formula and the table of peak rates have sources of their own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from orca_bench.models.architecture import attention_sizes

if TYPE_CHECKING:
    from deepspeed import DeepSpeedEngine
    from transformers import PretrainedConfig

#: Peak rate of dense products in bf16, TFLOP/s, by words of the name that torch.cuda.get_device_name gives. The first match
#: counts. Source: NVIDIA's data sheets, without sparsity. H100 and H200 without a suffix are the SXM modules.
_PEAK_TFLOPS_BY_WORDS = (
    ("H100 PCIe", 756.0),
    ("H100 NVL", 835.0),
    ("GH200", 989.0),
    ("H100", 989.0),
    ("H200 NVL", 835.0),
    ("H200", 989.0),
    ("B200", 2250.0),
    ("A100", 312.0),
    ("A40", 150.0),
    ("A10G", 70.0),
    ("A10", 125.0),
    ("L40S", 362.0),
    ("L40", 181.0),
    ("L4", 121.0),
    ("RTX A6000", 155.0),
    ("RTX 4090", 165.0),
    ("RTX 3090", 71.0),
)
_OTHER_RATE = re.compile(r"\b(MIG|Laptop)\b")  # a part of a GPU, and a chip of another rate under the same name
_OTHER_MODEL = r"(?! (Ti|D)\b)"  # such a suffix names another model


@dataclass(frozen=True)
class FlopsUtilization:
    """What the utilization of the hardware in a step depends on.

    `product_parameter_count` is the number of parameters without the input embedding, which is a look-up, unless the output
    head shares it. `attention_width` is the sum over all layers of heads × size of a head. `peak_flops_per_second` is the
    peak rate of all devices together; None where it is not known. `adapter_parameter_count` is the number of LoRA's weights;
    0 where all weights are trained.
    """

    product_parameter_count: int
    attention_width: int
    peak_flops_per_second: float | None
    adapter_parameter_count: int = 0

    def step_flops(self, sequence_lengths: np.ndarray) -> float:
        """Operations (FLOP) of one forward and backward pass over sequences of these lengths, int64 [sequences].

        6 N a token, and 12 × heads × size of a head × T a token and layer for the attention scores and the values: PaLM,
        arXiv 2204.02311, appendix B. T is there the sequence length. Here it is the number of positions that a token attends
        to, itself and those before it, because a causal model needs no others: about half of that. As in that formula, a
        recomputation of activations does not count, nor does padding, and the output head counts for every token, though it is
        computed only for those with a loss.
        """
        lengths: np.ndarray = sequence_lengths.astype(np.float64)
        attended_positions = float((lengths * (lengths + 1) / 2).sum())
        return self.product_flops(float(lengths.sum())) + self.attention_flops(attended_positions)

    def product_flops(self, token_count: float) -> float:
        """Operations (FLOP) of the matrix products with weights, forward and backward.

        6 N a token are 2 N each for the forward pass, the gradients of the inputs and those of the weights (Kaplan et al. 2020,
        arXiv 2001.08361, section 2.1: the backward pass takes twice the forward pass). Frozen weights have no gradients (Hu et
        al. 2021, arXiv 2106.09685, section 4.2), so LoRA takes 4 N, and 6 a weight of its own.
        """
        frozen_factor = 4.0 if self.adapter_parameter_count else 6.0
        return (frozen_factor * self.product_parameter_count + 6.0 * self.adapter_parameter_count) * token_count

    def attention_flops(self, attended_positions: float) -> float:
        """Operations (FLOP) of attention, forward and backward: `attended_positions` summed over tokens."""
        return 12.0 * self.attention_width * attended_positions

    def of_step(self, sequence_lengths: np.ndarray, seconds: float) -> float | None:
        """MFU, from 0 to 1, of a step over sequences of these lengths, int64 [sequences]; None without a peak rate."""
        if self.peak_flops_per_second is None:
            return None
        return self.step_flops(sequence_lengths) / seconds / self.peak_flops_per_second


def engine_utilization(engine: DeepSpeedEngine, has_lora: bool) -> FlopsUtilization:
    """The utilization of an engine's model and of the GPUs of all its processes.

    With LoRA the parameters that are not trained are the model's, and those that are trained LoRA's. Without it all of them count
    as trained, also those that a model itself excludes from training.
    """
    import torch

    counts = [
        (getattr(weight, "ds_numel", weight.numel()), weight.requires_grad) for weight in engine.module.parameters()
    ]
    peak_of_one = peak_flops_per_second(torch.cuda.get_device_name()) if torch.cuda.is_available() else None
    peak_of_all = None if peak_of_one is None else peak_of_one * torch.distributed.get_world_size()
    adapter_count = sum(count for count, is_trained in counts if is_trained) if has_lora else 0
    model_count = sum(count for count, _ in counts) - adapter_count
    utilization = flops_utilization(engine.module.config, model_count, peak_of_all)
    return replace(utilization, adapter_parameter_count=adapter_count)


def flops_utilization(
    model_config: PretrainedConfig, parameter_count: int, peak_flops_per_second: float | None
) -> FlopsUtilization:
    """The utilization for a model of this configuration with so many parameters in all, on devices of this peak rate.

    Unknown for a model whose configuration does not give the sizes of its attention.
    """
    sizes = attention_sizes(model_config)
    if sizes is None:
        return FlopsUtilization(parameter_count, 0, None)
    text_config = model_config.get_text_config()
    is_tied = getattr(text_config, "tie_word_embeddings", False)
    return FlopsUtilization(
        parameter_count - (0 if is_tied else text_config.vocab_size * sizes.hidden_size),
        sizes.layer_count * sizes.head_count * sizes.head_size,
        peak_flops_per_second,
    )


def peak_flops_per_second(device_name: str) -> float | None:
    """The peak rate of a GPU of this name in bf16, FLOP/s; None where the table does not have it."""
    if _OTHER_RATE.search(device_name):
        return None
    return next(
        (
            tflops * 1e12
            for words, tflops in _PEAK_TFLOPS_BY_WORDS
            if re.search(rf"\b{words}\b{_OTHER_MODEL}", device_name)
        ),
        None,
    )
