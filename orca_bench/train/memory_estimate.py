"""The shape of a model and a recipe's training section in, the memory of each process out, in GiB.

Its own module because `train --dry-run` shows it, `plan` compares settings by it, and each term has a source.
"""

from __future__ import annotations

from dataclasses import dataclass

from orca_bench.recipe import Train
from orca_bench.train.lora_targets import LinearLayers, target_layers
from orca_bench.train.model_shape import ModelShape
from orca_bench.train.output_head import positions_per_part

_BYTES_PER_GIB = 2**30

#: Parameters whose gradients DeepSpeed sends together, and at stage 3 whose gradient it copies to float32 at a time and whose
#: weights it keeps gathered, at most: the defaults of deepspeed 0.19.8, runtime/zero/config.py.
_REDUCE_BUCKET_SIZE, _SUB_GROUP_SIZE, _MOST_LIVE_PARAMETERS = 500_000_000, 1_000_000_000, 1_000_000_000
#: Bytes a logit of an output head with LoRA, in the backward pass of torch's cross-entropy, which is in float32 whatever the
#: precision: the logarithms of the probabilities, their gradient and that of the logits.
_LORA_HEAD_BYTES = 12


@dataclass(frozen=True)
class MemoryEstimate:
    """An estimate of one process's memory in GiB at its peak.

    `states_gib`: weights, gradients, the optimizer's states. `activations_gib` and `output_head_gib`: what a forward pass
    keeps for its backward pass, and the output head's logits and gradient. `buffers_gib`: gathered weights, and copies of
    gradients. `shared_gib` is what two of these use at different times.
    """

    states_gib: float
    activations_gib: float
    output_head_gib: float
    buffers_gib: float
    shared_gib: float

    @property
    def total_gib(self) -> float:
        """GiB per process."""
        return self.states_gib + self.activations_gib + self.output_head_gib + self.buffers_gib - self.shared_gib


def longest_row(train_section: Train, longest_example: int, max_length: int) -> int:
    """The tokens of the longest row of a forward pass: with dense packing every row has `max_length`, the recipe's."""
    return max_length if train_section.packing == "dense" else longest_example


def optimizer_bytes_per_parameter(train_section: Train) -> int:
    """AdamW's two averages in float32, and in mixed precision its copy of the weights."""
    return 8 if train_section.precision == "fp32" else 12


def reduce_bucket_size(trained_count: int) -> int:
    """The number of gradients that are sent together: all, at most DeepSpeed's default.

    With LoRA it is DeepSpeed's `reduce_bucket_size`, because DeepSpeed 0.19.8 allocates the whole of it (runtime/zero/stage3.py,
    stage_1_and_2.py), and the default is more than all gradients.
    """
    return min(trained_count, _REDUCE_BUCKET_SIZE)


def estimate_memory(shape: ModelShape, train_section: Train, row_length: int) -> MemoryEstimate:
    """What one process needs in GiB at its peak, without the memory of Python, of libraries and of fragmentation.

    `row_length` is the length of the longest example, or of a dense row, in tokens.

    Model states are 16 bytes per parameter (mixed precision: 2 weights + 2 gradients + 12 for AdamW's fp32 copies; fp32: 4
    + 4 + 8), divided over the processes by the ZeRO stage (Rajbhandari et al. 2020, arXiv 1910.02054, section 3 and figure
    1: stage 1 shards the optimizer's, 2 the gradients too, 3 the weights too). With offloading the optimizer's are in the
    main memory.

    Activations: with checkpointing the input of each layer and the activations inside one layer, else those of every layer.
    Inside a layer are the tensors that autograd keeps of transformers' LLaMA (modeling_llama.py of 5.23; the list for GPT is
    equation 2 of Korthikanti et al. 2022, arXiv 2205.05198): for each token 24 bytes × hidden + 8 × intermediate in mixed
    precision (the norms keep float32), 40 and 16 in fp32.

    Output head (`output_head.py`, if all positions are scored): the logits of a part in float32, and in mixed precision
    their copy; the gradient of its weights in float32, and in mixed precision its copy. Buffers with ZeRO: the gradients
    that are sent, of at most 500 million parameters; in mixed precision the optimizer's gradients in float32 (at stage 3 of at
    most a thousand million parameters at a time); at stage 3 the gathered weights, of at most a thousand million
    (`stage3_max_live_parameters`).

    With LoRA only its weights have gradients and the optimizer's states (Hu et al. 2021, arXiv 2106.09685, section 4.2), and a
    frozen output head has no gradient of its weights. A head with LoRA computes all logits at once (`_LORA_HEAD_BYTES`).
    Activations are the products A x beside those above; where not all
    linear layers are targets these are too many, because a frozen layer keeps no input for the backward pass.

    Activations and head go while the gradients come. So the smaller of the two is not needed: on one side activations and
    head, on the other what does not outlive a step, which is the buffers of gradients and, below stage 3 and without
    accumulation, the gradients. At stage 3 DeepSpeed keeps gradients and the buffer of those that are sent.
    """
    is_mixed_precision = train_section.precision != "fp32"
    weight_bytes = gradient_bytes = 2 if is_mixed_precision else 4
    process_count, zero_stage = train_section.processes, train_section.zero_stage
    optimizer_share = 1 / process_count if zero_stage >= 1 else 1.0
    gradient_share = 1 / process_count if zero_stage >= 2 else 1.0
    is_offloaded = train_section.offload == "cpu"
    adapter_count = shape.adapter_parameter_count(train_section)
    weight_count, trained_count = shape.parameter_count + adapter_count, shape.trained_parameter_count(train_section)
    state_bytes = weight_count * weight_bytes / (process_count if zero_stage >= 3 else 1)
    state_bytes += trained_count * gradient_bytes * gradient_share
    if not is_offloaded:
        state_bytes += trained_count * optimizer_bytes_per_parameter(train_section) * optimizer_share
    tokens_per_micro_batch = train_section.micro_batch * row_length
    bytes_by_width = (24, 8) if is_mixed_precision else (40, 16)
    layer_bytes_per_token: float = bytes_by_width[0] * shape.hidden_size + bytes_by_width[1] * shape.intermediate_size
    layer_bytes_per_token += weight_bytes * _adapter_width(shape, train_section) / shape.layer_count
    layer_activation_bytes = tokens_per_micro_batch * layer_bytes_per_token
    if train_section.gradient_checkpointing:
        layer_input_bytes = tokens_per_micro_batch * shape.hidden_size * weight_bytes
        activation_bytes = layer_activation_bytes + shape.layer_count * layer_input_bytes
    else:
        activation_bytes = layer_activation_bytes * shape.layer_count
    part_size = min(positions_per_part(tokens_per_micro_batch), tokens_per_micro_batch)
    bytes_with_copy = 6 if is_mixed_precision else 4
    head_gradient_width = shape.hidden_size if train_section.lora is None else 0
    head_bytes = bytes_with_copy * (part_size + head_gradient_width) * shape.vocab_size
    if any(layer.is_output_head for layer in _lora_layers(shape, train_section)):
        head_bytes = _LORA_HEAD_BYTES * tokens_per_micro_batch * shape.vocab_size
    sent_bytes = gradient_bytes * reduce_bucket_size(trained_count) if zero_stage >= 1 else 0
    copied_bytes = gathered_bytes = 0.0
    if is_mixed_precision and zero_stage >= 1 and not is_offloaded:
        copied_count = trained_count * optimizer_share
        copied_bytes = 4 * (min(copied_count, _SUB_GROUP_SIZE) if zero_stage >= 3 else copied_count)
    if zero_stage >= 3:
        gathered_bytes = weight_bytes * min(weight_count, _MOST_LIVE_PARAMETERS)
    passing_bytes = copied_bytes
    if zero_stage < 3:
        passing_bytes += sent_bytes
        if train_section.accumulation == 1:
            passing_bytes += trained_count * gradient_bytes * gradient_share
    return MemoryEstimate(
        state_bytes / _BYTES_PER_GIB,
        activation_bytes / _BYTES_PER_GIB,
        head_bytes / _BYTES_PER_GIB,
        (sent_bytes + copied_bytes + gathered_bytes) / _BYTES_PER_GIB,
        min(activation_bytes + head_bytes, passing_bytes) / _BYTES_PER_GIB,
    )


def _adapter_width(shape: ModelShape, train_section: Train) -> int:
    """Numbers per token that all matrices A of LoRA give."""
    rank = 0 if train_section.lora is None else train_section.lora.rank
    return rank * sum(layer.count for layer in _lora_layers(shape, train_section))


def _lora_layers(shape: ModelShape, train_section: Train) -> list[LinearLayers]:
    return [] if train_section.lora is None else target_layers(train_section.lora, shape.linear_layers)
