"""LoRA in a model: matrices put beside its linear layers, and from there the merged weights and the adapter's folder.

peft has the layers, their configuration and the format of the folder. Its own module because it alone imports peft, an optional
package. The merge is not peft's, which needs a whole model in memory and rounds twice in half precision: here each weight is
merged in float32 as it is written, and rounded once.
"""

from __future__ import annotations

import copy
import importlib.metadata
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from orca_bench.errors import UserError
from orca_bench.models import weight_shards
from orca_bench.recipe import Lora
from orca_bench.train.lora_targets import linear_layers, target_layers

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

#: The folder of the adapter in a model folder.
ADAPTER_FOLDER_NAME = "adapter"
PACKAGE_NAME = "peft"
#: The release whose names of parameters and functions are used here; the extra `lora` in pyproject.toml installs it.
PACKAGE_RELEASE = "0.18"
_ADAPTER_NAME = "default"  # in the names of peft's parameters
_SAVED_PREFIX = "base_model.model."  # of names in adapter_model.safetensors: peft 0.18's PeftModel around its LoraModel


@dataclass(frozen=True)
class BaseModel:
    """The model that an adapter belongs to: its hub id and commit; None where it is a folder or file of this machine."""

    hub_id: str | None = None
    commit: str | None = None


def check_package(lora: Lora | None) -> None:
    """Raise UserError where a recipe has LoRA and peft is not installed, or another version than names are used of here."""
    if lora is None:
        return
    problem = None
    if importlib.util.find_spec(PACKAGE_NAME) is None:
        problem = "the package peft is not installed"
    elif not _has_known_version(installed_version := importlib.metadata.version(PACKAGE_NAME)):
        problem = f"peft {installed_version} is installed, and LoRA needs peft {PACKAGE_RELEASE}"
    if problem is not None:
        raise UserError(
            problem,
            where="train.lora",
            hint="install orca-bench[lora], or train all weights with `lora: null`",
        )


def _has_known_version(version: str) -> bool:
    return version == PACKAGE_RELEASE or version.startswith(f"{PACKAGE_RELEASE}.")


def inject_adapter(student: PreTrainedModel, lora: Lora, seed: int) -> None:
    """Put LoRA's matrices beside the targets, A random by `seed` and B zero, and let nothing else be trained.

    The student stays the same object and computes the same until B changes. Its weights may be partitioned (ZeRO-3).
    """
    import peft
    import torch

    names = dict.fromkeys(layer.name for layer in target_layers(lora, linear_layers(student)))
    config = peft.LoraConfig(
        r=lora.rank,
        lora_alpha=int(lora.alpha) if lora.alpha.is_integer() else lora.alpha,  # peft declares an integer
        target_modules=list(names),
        task_type="CAUSAL_LM",
    )
    torch.manual_seed(seed)
    peft.inject_adapter_in_model(config, student, _ADAPTER_NAME)
    # Else nothing that enters the first layer needs a gradient, and the hook by which DeepSpeed 0.19.8 ends the backward pass of
    # a layer at stage 3 (`create_reduce_and_remove_grad_hooks`) runs before it: "The size of tensor a (0) must match".
    student.enable_input_require_grads()


@dataclass(frozen=True)
class LoraMatrices:
    """The two matrices beside one linear layer, float32 on the CPU: a [rank, inputs], b [outputs, rank]."""

    a: torch.Tensor
    b: torch.Tensor


def matrix_names(model: PreTrainedModel) -> dict[str, tuple[str, str]]:
    """The names of A and B in the model by the name of the weight that they are beside, as it is in files."""
    from peft.tuners.lora import LoraLayer

    return {
        f"{path}.weight": (f"{path}.lora_A.{_ADAPTER_NAME}.weight", f"{path}.lora_B.{_ADAPTER_NAME}.weight")
        for path, module in model.named_modules()
        if isinstance(module, LoraLayer)
    }


def merged_weight(weight: torch.Tensor, matrices: LoraMatrices, lora: Lora) -> torch.Tensor:
    """W + (alpha / rank) B A in float32, [outputs, inputs]; `weight` is W in float32 on the CPU, and is changed."""
    return weight.addmm_(matrices.b, matrices.a, alpha=lora.alpha / lora.rank)


def save_adapter(
    model: PreTrainedModel, matrices_by_weight: Mapping[str, LoraMatrices], base: BaseModel, folder: Path
) -> None:
    """Write the matrices, in float32, as a folder of peft: adapter_config.json and adapter_model.safetensors.

    The base is named by its hub id alone: a path says where it lies on a machine, and the folder may be published.
    """
    import peft
    from peft.utils import SAFETENSORS_WEIGHTS_NAME

    tensor_by_name: dict[str, torch.Tensor] = {}
    for weight_name, (a_name, b_name) in matrix_names(model).items():
        matrices = matrices_by_weight[weight_name]
        tensor_by_name |= {a_name: matrices.a, b_name: matrices.b}
    adapter_state = peft.get_peft_model_state_dict(model, tensor_by_name, _ADAPTER_NAME, save_embedding_layers=False)
    config = copy.deepcopy(model.peft_config[_ADAPTER_NAME])
    config.base_model_name_or_path, config.revision = base.hub_id, base.commit
    config.inference_mode = True  # as PeftModel.save_pretrained writes it
    config.target_modules = sorted(config.target_modules)  # a set: else each export has another order
    config.save_pretrained(str(folder))
    weight_shards.write_safetensors_file(
        {_SAVED_PREFIX + name: tensor.contiguous() for name, tensor in adapter_state.items()},
        folder / SAFETENSORS_WEIGHTS_NAME,
    )
