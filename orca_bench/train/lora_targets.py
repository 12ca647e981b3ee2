"""A model without numbers in, its linear layers by name and size out, and which of them a recipe's LoRA is trained beside.

Its own module because `plan`, `train --dry-run` and the checks before training need sizes alone: neither peft nor weights.
`lora.py` has what they do to a model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orca_bench import hub
from orca_bench.errors import UserError, join_names, spelling_hint
from orca_bench.models.model_folder import ModelFolder
from orca_bench.recipe import Lora, Recipe

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_MOST_NAMES_IN_MESSAGE, _UNQUANTIZED_BITS = 12, 16


@dataclass(frozen=True)
class LinearLayers:
    """All linear layers of a model with the same name (the last part of it) and the same sizes, in numbers per token."""

    name: str
    input_size: int
    output_size: int
    count: int
    is_output_head: bool = False


def linear_layers(model: PreTrainedModel) -> tuple[LinearLayers, ...]:
    """The linear layers that LoRA can be trained beside, in the order of the model's modules.

    Left out are names that other modules have too, subclasses of torch's linear layer (their forward passes are their own), and
    an output head that shares its weights with the input embedding.
    """
    import torch

    head = model.get_output_embeddings()
    has_tied_head = getattr(head, "weight", None) is model.get_input_embeddings().weight
    count_by_kind: dict[tuple[str, int, int, bool], int] = {}
    excluded_names = set()
    for path, module in model.named_modules():
        name = path.rpartition(".")[2]
        if type(module) is not torch.nn.Linear or (has_tied_head and module is head):
            excluded_names.add(name)
            continue
        kind = (name, module.in_features, module.out_features, module is head)
        count_by_kind[kind] = count_by_kind.get(kind, 0) + 1
    return tuple(
        LinearLayers(name, input_size, output_size, count, is_output_head)
        for (name, input_size, output_size, is_output_head), count in count_by_kind.items()
        if name not in excluded_names
    )


def target_layers(lora: Lora, layers: Sequence[LinearLayers]) -> list[LinearLayers]:
    """The linear layers beside which matrices are trained: those with a name of `targets`, by default all but the output head."""
    if lora.targets is None:
        return [layer for layer in layers if not layer.is_output_head]
    return [layer for layer in layers if layer.name in lora.targets]


def adapter_parameter_count(lora: Lora, layers: Sequence[LinearLayers]) -> int:
    """The number of weights in all A [rank, inputs] and B [outputs, rank] (Hu et al. 2021, arXiv 2106.09685, section 4.1)."""
    return sum(
        lora.rank * (layer.input_size + layer.output_size) * layer.count for layer in target_layers(lora, layers)
    )


def is_quantized(base_folder: ModelFolder) -> bool:
    """Whether a base's weights are quantised so that LoRA is not trained beside them (`check_base`)."""
    return base_folder.is_quantized or base_folder.gptq_bits_per_weight is not None


def check_base(recipe: Recipe, base_folder: ModelFolder, show_message: hub.ShowMessage) -> None:
    """Raise UserError where the weights that LoRA is trained beside are quantised, in the folder or in the one that it was
    written from. `show_message` gets a line where they were dequantised from a GGUF file.

    transformers and peft compute a GPTQ or bitsandbytes folder with its quantised weights, beside which the adapter would give
    other numbers than here, and a merge would no longer be of that kind. A GGUF file they dequantise too.
    """
    base = recipe.model.base
    if is_quantized(base_folder):
        raise UserError(
            f"the weights of {base} are quantised: LoRA is trained beside weights in the recipe's precision, and merged into "
            "them",
            where="model.base",
            hint="name the model that it was quantised from, or a GGUF file of it",
        )
    bits = base_folder.gguf_bits_per_weight
    if bits is not None and bits < _UNQUANTIZED_BITS:
        show_message(
            f"{base} has {bits:.1f} bits a weight: LoRA is trained beside its dequantised weights, which take the memory of "
            f"{recipe.train.precision}"
        )


def check_targets(lora: Lora, layers: Sequence[LinearLayers]) -> None:
    """Raise UserError for a target that the model does not have, and for a rank above the smaller side of a target's matrix."""
    names = list(dict.fromkeys(layer.name for layer in layers))
    if not names:
        raise UserError(
            "this model has no linear layers that LoRA can be trained beside",
            where="train.lora",
            hint="they have to be torch.nn.Linear itself, not a subclass or a plain parameter; train all weights with "
            "`lora: null`",
        )
    if not target_layers(lora, layers) and lora.targets is None:
        raise UserError(
            "this model has no linear layers that LoRA can be trained beside but its output head",
            where="train.lora",
            hint=f"name it with train.lora.targets=[{', '.join(names)}], or train all weights with `lora: null`",
        )
    for target in lora.targets or ():
        if target in names:
            continue
        known_text = f"linear layers of this model: {join_names(names, _MOST_NAMES_IN_MESSAGE)}"
        raise UserError(
            f"this model has no linear layer '{target}' that LoRA can be trained beside",
            where="train.lora.targets",
            hint="; ".join(filter(None, (spelling_hint(target, names, n=3), known_text))),
        )
    smallest = min(target_layers(lora, layers), key=lambda layer: min(layer.input_size, layer.output_size))
    side = min(smallest.input_size, smallest.output_size)
    if lora.rank > side:
        raise UserError(
            f"rank {lora.rank} is more than the smaller side of {smallest.name}, a matrix of {smallest.output_size} × "
            f"{smallest.input_size}",
            where="train.lora.rank",
            hint=f"give {side} or less, or train.lora.targets without {smallest.name}",
        )
