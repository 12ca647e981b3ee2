"""An engine in, a model folder out: the weights are gathered one at a time and written in shards.

Its own module because it alone knows where DeepSpeed 0.19.8 keeps whole weights and their float32 originals. Process 0 holds one
shard of weights beside its own part of the model, the others hold one weight.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from orca_bench.errors import UserError
from orca_bench.models.saved_weights import SavedWeights, names_in_model
from orca_bench.recipe import Train
from orca_bench.tokenizers import Tokenizer
from orca_bench.train import lora, student_model

if TYPE_CHECKING:
    import torch
    from deepspeed import DeepSpeedEngine

    from orca_bench.results.data_report import DataReport

_BYTES_PER_GB = 10**9


def export_model(
    engine: DeepSpeedEngine,
    train_section: Train,
    tokenizer: Tokenizer,
    model_folder: Path,
    training_origin: dict[str, str | int],
    data_report: DataReport | None = None,
    base: lora.BaseModel | None = None,
) -> None:
    """Write the student as it is now as a model folder, in the type that the recipe says. A collective.

    `training_origin` and `data_report` are those of `student_model.save_student`. With LoRA its matrices are merged into the
    weights and written beside them too, as the adapter of `base`. The folder appears complete or not at all. Raises UserError
    on process 0 where the disk does not take it, and for a weight that fp16 cannot hold.
    """
    import torch

    saved_weights = SavedWeights.plan(engine.module, student_model.export_dtype_name(train_section))
    weights = _ExportedWeights(engine, saved_weights, train_section)
    if torch.distributed.get_rank() == 0:
        student_model.save_student(
            engine.module,
            tokenizer,
            model_folder,
            training_origin,
            saved_weights,
            weights.whole,
            round(train_section.export_shard_gb * _BYTES_PER_GB),
            data_report,
            lambda folder: weights.save_adapter(base, folder),
        )
    else:
        for name in (name for group in saved_weights.groups for name in group):  # as `file_tensors` on process 0
            weights.whole(name)
    torch.distributed.barrier()


class _ExportedWeights:
    """The weights of an engine as they are exported, by their names in files. Making one is a collective, as `whole` is."""

    def __init__(self, engine: DeepSpeedEngine, saved_weights: SavedWeights, train_section: Train) -> None:
        import torch

        self._engine, self._dtype_by_name = engine, saved_weights.dtype_by_name
        self._names_in_model = names_in_model(engine.module)
        self._lora = train_section.lora
        self._matrices_by_weight: dict[str, lora.LoraMatrices] = {}
        if self._lora is not None:  # they are small: process 0 holds all of them
            self._matrices_by_weight = {
                weight_name: lora.LoraMatrices(*(_whole_weight(engine, name, torch.float32) for name in names))
                for weight_name, names in lora.matrix_names(engine.module).items()
            }

    def whole(self, name: str) -> torch.Tensor:
        """A whole weight in its type in the files, on the CPU of process 0; a number on the others. A collective."""
        import torch

        dtype, name_in_model = self._dtype_by_name[name], self._names_in_model[name]
        matrices = self._matrices_by_weight.get(name)
        if matrices is None or self._lora is None:
            return _whole_weight(self._engine, name_in_model, dtype)
        weight = _whole_weight(self._engine, name_in_model, torch.float32)
        if torch.distributed.get_rank() == 0:
            weight = lora.merged_weight(weight, matrices, self._lora)
        return _copy_to_process_0(name, weight, dtype)

    def save_adapter(self, base: lora.BaseModel | None, model_folder: Path) -> None:
        """Write LoRA's matrices into a folder in the model folder; nothing where all weights are trained. On process 0 alone."""
        if self._lora is not None and base is not None:
            lora.save_adapter(
                self._engine.module, self._matrices_by_weight, base, model_folder / lora.ADAPTER_FOLDER_NAME
            )


def _whole_weight(engine: DeepSpeedEngine, name: str, dtype: torch.dtype) -> torch.Tensor:
    """A whole parameter or buffer as `dtype`, on the CPU of process 0; a number on the others. A collective.

    It is rounded once, from the float32 weight that the optimizer updates, where the engine's own are shorter.
    """
    import deepspeed

    weight = engine.module.get_parameter_or_buffer(name)
    if weight.dtype != dtype and (float32_weight := _float32_weight(engine, weight)) is not None:
        return _copy_to_process_0(name, float32_weight, dtype)
    with deepspeed.zero.GatheredParameters([weight], enabled=hasattr(weight, "ds_id")):
        return _copy_to_process_0(name, weight.detach(), dtype)


def _float32_weight(engine: DeepSpeedEngine, weight: torch.Tensor) -> torch.Tensor | None:
    """The optimizer's whole float32 copy of a weight in half precision; None where it has none. A collective."""
    import torch
    from deepspeed.runtime.fp16.unfused_optimizer import FP16_UnfusedOptimizer
    from deepspeed.utils import safe_get_full_fp32_param

    if weight.dtype not in (torch.float16, torch.bfloat16):
        return None
    if not weight.requires_grad:  # with LoRA: the optimizer does not know it
        return None
    if hasattr(weight, "ds_id") or hasattr(weight, "_hp_mapping"):
        return safe_get_full_fp32_param(weight)
    if not isinstance(engine.optimizer, FP16_UnfusedOptimizer):  # that of ZeRO stage 0, with a copy of each weight
        return None
    for short_weights, float32_weights in zip(engine.optimizer.fp16_groups, engine.optimizer.fp32_groups, strict=True):
        for short_weight, float32_weight in zip(short_weights, float32_weights, strict=True):
            if short_weight is weight:
                return float32_weight.detach()
    return None


def _copy_to_process_0(name: str, weight: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    import torch

    if torch.distributed.get_rank() != 0:
        return torch.zeros(())
    copy = torch.empty(weight.shape, dtype=dtype)
    copy.copy_(weight)
    if dtype == torch.float16 and weight.dtype != dtype and bool((copy.isinf() & weight.cpu().isfinite()).any()):
        largest = float(weight.abs().max())
        raise UserError(
            f"{name} has a number of magnitude {largest:.3g}, and float16 ends at {torch.finfo(dtype).max:.0f}",
            where="train.export_dtype",
            hint="set it to bf16 or fp32 and run the same command again: it goes on from the last checkpoint",
        )
    return copy
