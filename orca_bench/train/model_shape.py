"""A model's configuration in, the numbers that memory and time of a training depend on out.

Its own module because both estimates need them, and because the shapes of some published models are here: a plan can be made
where the hub cannot be reached.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from orca_bench.models.architecture import attention_sizes
from orca_bench.recipe import Train
from orca_bench.train import lora_targets, model_flops, student_model
from orca_bench.train.lora_targets import LinearLayers
from orca_bench.train.model_flops import FlopsUtilization

if TYPE_CHECKING:
    from transformers import PretrainedConfig

#: Shapes of the bases that the shipped recipes name: hidden, intermediate, layers, vocabulary; heads × size of a head is hidden,
#: and nothing is tied. Source: config.json of openlm-research/open_llama_3b, _7b and _13b.
_PUBLISHED_SHAPES = {
    "openlm-research/open_llama_3b": (3200, 8640, 26, 32000),
    "openlm-research/open_llama_7b": (4096, 11008, 32, 32000),
    "openlm-research/open_llama_13b": (5120, 13824, 40, 32000),
}


@dataclass(frozen=True)
class ModelShape:
    """Sizes of a model: numbers of parameters, and widths in numbers per token.

    `last_product_parameter_count` is the number of weights of a layer's last matrix product, 0 where the configuration does not
    say. `flops` counts the operations of a step in which all weights are trained. `linear_layers` are those that LoRA can be
    trained beside.
    """

    parameter_count: int
    hidden_size: int
    intermediate_size: int
    layer_count: int
    vocab_size: int
    last_product_parameter_count: int
    flops: FlopsUtilization
    linear_layers: tuple[LinearLayers, ...] = ()

    def adapter_parameter_count(self, train_section: Train) -> int:
        """The number of weights that LoRA adds; 0 where all weights are trained."""
        if train_section.lora is None:
            return 0
        return lora_targets.adapter_parameter_count(train_section.lora, self.linear_layers)

    def trained_parameter_count(self, train_section: Train) -> int:
        """The number of weights that are trained: LoRA's, or all."""
        return self.parameter_count if train_section.lora is None else self.adapter_parameter_count(train_section)

    def training_flops(self, train_section: Train) -> FlopsUtilization:
        """The operations of a step of this training."""
        return replace(self.flops, adapter_parameter_count=self.adapter_parameter_count(train_section))

    def has_lora_at_last_product(self, train_section: Train) -> bool:
        """Whether LoRA is trained beside the last matrix product of the layers."""
        if train_section.lora is None:
            return False
        return any(
            (layer.input_size, layer.output_size) == (self.intermediate_size, self.hidden_size)
            for layer in lora_targets.target_layers(train_section.lora, self.linear_layers)
        )

    @property
    def layer_product_parameter_count(self) -> int:
        """Parameters of all layers: all without the embedding and the output head."""
        return self.flops.product_parameter_count - self.vocab_size * self.hidden_size

    @classmethod
    def of_config(cls, model_config: PretrainedConfig) -> ModelShape:
        """The shape of a model of this configuration."""
        text_config = model_config.get_text_config()
        hidden_size = text_config.hidden_size
        intermediate_size = getattr(text_config, "intermediate_size", None)
        sizes = attention_sizes(model_config)
        layer_count = text_config.num_hidden_layers if sizes is None else sizes.layer_count
        model = student_model.build_model_without_numbers(model_config)
        parameter_count = sum(parameter.numel() for parameter in model.parameters())
        return cls(
            parameter_count,
            hidden_size,
            intermediate_size or 4 * hidden_size,
            layer_count,
            text_config.vocab_size,
            (intermediate_size or 0) * hidden_size,
            model_flops.flops_utilization(model_config, parameter_count, None),
            lora_targets.linear_layers(model),
        )


def published_shape(hub_id: str | None) -> ModelShape | None:
    """The shape of a published LLaMA by its hub id, without importing transformers; None for other models."""
    sizes = _PUBLISHED_SHAPES.get(hub_id or "")
    if sizes is None:
        return None
    hidden_size, intermediate_size, layer_count, vocab_size = sizes
    layer_parameter_count = 4 * hidden_size**2 + 3 * hidden_size * intermediate_size + 2 * hidden_size  # with two norms
    product_parameter_count = layer_count * layer_parameter_count + hidden_size + vocab_size * hidden_size
    return ModelShape(
        product_parameter_count + vocab_size * hidden_size,
        hidden_size,
        intermediate_size,
        layer_count,
        vocab_size,
        intermediate_size * hidden_size,
        FlopsUtilization(product_parameter_count, layer_count * hidden_size, None),
        (
            *(
                LinearLayers(name, hidden_size, hidden_size, layer_count)
                for name in ("q_proj", "k_proj", "v_proj", "o_proj")
            ),
            *(LinearLayers(name, hidden_size, intermediate_size, layer_count) for name in ("gate_proj", "up_proj")),
            LinearLayers("down_proj", intermediate_size, hidden_size, layer_count),
            LinearLayers("lm_head", hidden_size, vocab_size, 1, is_output_head=True),
        ),
    )
