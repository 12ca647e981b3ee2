"""A model in; names, types and sizes of its weights in safetensors files out, and then the weights, a few at a time.

transformers' `save_pretrained` holds all weights at once while it leaves out tied ones, restores the names of the published
files and takes fused matrices apart. Here the same is planned without a number, so that a model whose weights lie on several
processes is written without being whole anywhere. Its own module because an engine and a model in memory are written alike.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

#: Attributes with the names of modules that transformers 5.23 loads in float32, by the type of the other weights.
_FLOAT32_ATTRIBUTES = {
    "float16": ("_keep_in_fp32_modules", "_keep_in_fp32_modules_strict"),
    "bfloat16": ("_keep_in_fp32_modules_strict",),
}
_LAYER_PATTERN = re.compile(r"^.*?\.\d+\.")
#: In the names of parameters, by peft 0.18: LoRA's matrices, and the layer that they are beside.
_LORA_MATRIX, _LAYER_BESIDE_LORA = re.compile(r"\.lora_[AB]\."), ".base_layer."


@dataclass(frozen=True)
class SavedWeights:
    """The plan of a model's files of weights, which are of type `dtype_name` (`float32`, `bfloat16` or `float16`).

    `groups` are names in the model, in the order in which the weights are written; the weights of a group are needed together.
    They are those of the model without LoRA (`names_in_model`).
    `dtype_by_name` is the type of each of them in the files. `byte_counts` are the sizes by the names in the files, which are
    other names where transformers converts a model's weights.
    """

    model: PreTrainedModel
    dtype_name: str
    groups: tuple[tuple[str, ...], ...]
    dtype_by_name: dict[str, torch.dtype]
    byte_counts: dict[str, int]
    _is_converted: bool

    @classmethod
    def plan(cls, model: PreTrainedModel, dtype_name: str) -> SavedWeights:
        """The plan for a model whose weights are written as `dtype_name`.

        Weights that transformers loads in float32 in any case, integers and buffers have their own types. Parameters may be
        partitioned (DeepSpeed ZeRO-3): no number is read.
        """
        import torch

        tensor_by_name = _untied_tensors(model)
        float32_pattern = _float32_pattern(model, dtype_name)
        dtype_by_name = {}
        empty_by_name = {}
        for name, tensor in tensor_by_name.items():
            dtype_by_name[name] = dtype = _file_dtype(name, tensor, getattr(torch, dtype_name), float32_pattern)
            # DeepSpeed 0.19.8 leaves a partitioned parameter without numbers, and its shape in `ds_shape`.
            shape = getattr(tensor, "ds_shape", tensor.shape)
            empty_by_name[name] = torch.empty(shape, dtype=dtype, device="meta")
        is_converted = _has_conversions(model)
        groups, empty_files = (
            _smallest_groups(model, empty_by_name) if is_converted else (_single(empty_by_name), empty_by_name)
        )
        byte_counts = {name: tensor.numel() * tensor.itemsize for name, tensor in empty_files.items()}
        return cls(model, dtype_name, groups, dtype_by_name, byte_counts, is_converted)

    def file_tensors(self, weight_of: Callable[[str], torch.Tensor]) -> Iterator[tuple[str, torch.Tensor]]:
        """Names in the files with their tensors, in the order of `byte_counts`.

        `weight_of` gives a whole weight on the CPU by its name in the model, in the type of `dtype_by_name`; it is called in the
        order of `groups`. One group is held at a time.
        """
        from transformers.core_model_loading import revert_weight_conversion

        for group in self.groups:
            tensor_by_name = {name: weight_of(name) for name in group}
            if self._is_converted:
                tensor_by_name = revert_weight_conversion(self.model, tensor_by_name)
            while tensor_by_name:
                name = next(iter(tensor_by_name))
                yield name, tensor_by_name.pop(name)


def names_in_model(model: PreTrainedModel) -> dict[str, str]:
    """The names of parameters and buffers by those in files, which differ where peft has put LoRA's matrices into the model.

    These matrices themselves are left out: what is saved is the model without them.
    """
    return {name.replace(_LAYER_BESIDE_LORA, "."): name for name in model.state_dict() if not _LORA_MATRIX.search(name)}


def _untied_tensors(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """Parameters and buffers that are saved, by their names; of tied ones the name that transformers keeps."""
    import torch
    from transformers.modeling_utils import remove_tied_weights_from_state_dict

    owner_by_name: dict[str, torch.Tensor] = {}
    for name, name_in_model in names_in_model(model).items():
        if name not in (model._keys_to_ignore_on_save or ()):
            owner_by_name[name] = model.get_parameter_or_buffer(name_in_model)
    # transformers compares places in memory, which partitioned weights have not: one number stands for each weight.
    number_by_owner = {id(owner): torch.zeros(1) for owner in owner_by_name.values()}
    stand_ins = {name: number_by_owner[id(owner)] for name, owner in owner_by_name.items()}
    return {name: owner_by_name[name] for name in remove_tied_weights_from_state_dict(stand_ins, model)}


def _has_conversions(model: PreTrainedModel) -> bool:
    """Whether names or shapes in the files are not those of the model."""
    from transformers.core_model_loading import revert_weight_conversion

    nothing: dict[str, torch.Tensor] = {}
    return (
        revert_weight_conversion(model, nothing) is not nothing
    )  # the same dictionary where there is nothing to revert


def _smallest_groups(
    model: PreTrainedModel, empty_by_name: dict[str, torch.Tensor]
) -> tuple[tuple[tuple[str, ...], ...], dict[str, torch.Tensor]]:
    """Groups that are converted to the files' weights as all weights together are, and the files' weights in their order.

    `empty_by_name` has the weights of the model without numbers. The groups are single weights, else layers, else all weights.
    """
    from transformers.core_model_loading import revert_weight_conversion

    expected = revert_weight_conversion(model, dict(empty_by_name))
    for groups in (_single(empty_by_name), _layers(empty_by_name)):
        converted: dict[str, torch.Tensor] = {}
        for group in groups:
            converted |= revert_weight_conversion(model, {name: empty_by_name[name] for name in group})
        if {name: tensor.shape for name, tensor in converted.items()} == {
            name: tensor.shape for name, tensor in expected.items()
        }:
            return groups, converted
    return (tuple(empty_by_name),), expected


def _single(names: Iterable[str]) -> tuple[tuple[str, ...], ...]:
    return tuple((name,) for name in names)


def _layers(names: Iterable[str]) -> tuple[tuple[str, ...], ...]:
    """The names of each layer together (`model.layers.3.`), in the order of their first names; all others alone."""
    group_by_key: dict[str, list[str]] = {}
    for name in names:
        match = _LAYER_PATTERN.match(name)
        group_by_key.setdefault(match.group() if match else name, []).append(name)
    return tuple(tuple(group) for group in group_by_key.values())


def _float32_pattern(model: PreTrainedModel, dtype_name: str) -> re.Pattern[str] | None:
    """What the names of weights contain that transformers loads in float32 in a model of this type; None where nothing."""
    parts = {
        part.replace("*", ".*")
        for module in model.modules()
        for attribute in _FLOAT32_ATTRIBUTES.get(dtype_name, ())
        for part in getattr(module, attribute, None) or ()
    }
    return re.compile("|".join(sorted(parts))) if parts else None


def _file_dtype(
    name: str, tensor: torch.Tensor, dtype: torch.dtype, float32_pattern: re.Pattern[str] | None
) -> torch.dtype:
    import torch

    if not isinstance(tensor, torch.nn.Parameter) or not tensor.is_floating_point():
        return tensor.dtype
    return torch.float32 if float32_pattern is not None and float32_pattern.search(name) else dtype
