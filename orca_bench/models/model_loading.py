"""A model folder in, its transformers model in evaluation mode out, on the device that this process computes on.

Its own module because most of what is done with a model folder needs no weights, and no torch.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING

from orca_bench import launcher_environment, library_settings
from orca_bench.errors import UserError
from orca_bench.models import architecture, weights
from orca_bench.models.model_folder import ModelFolder

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


def load_model(model_folder: ModelFolder, dtype: str, gpu_dtype: str, device_map: str | None = None) -> PreTrainedModel:
    """The model of a checked folder; on a GPU where there is one, of several that of LOCAL_RANK.

    dtype is a torch dtype's name, or `auto`: float32 on a CPU, `gpu_dtype` on a GPU (`auto` there: the checkpoint's own).
    `device_map` is transformers': with `auto` the model is spread over all devices. Raises UserError where the folder holds no
    whole model, or another model's tokenizer.
    """
    library_settings.prepare_libraries()
    import torch
    from transformers import AutoModelForCausalLM

    model_folder.check_model()
    tokenizer = model_folder.tokenizer
    has_gpu = torch.cuda.is_available()
    dtype_name = (gpu_dtype if has_gpu else "float32") if dtype == "auto" else dtype
    placement_options = {} if device_map is None else {"device_map": device_map}
    load_options = {"dtype": dtype_name if dtype_name == "auto" else getattr(torch, dtype_name), **placement_options}
    with weights.catch_loading_errors(model_folder.path):
        model = architecture.load_with_attention(
            lambda attention: AutoModelForCausalLM.from_pretrained(
                model_folder.path,
                config=copy.deepcopy(model_folder.config),
                attn_implementation=attention,
                **load_options,
            )
        )
    architecture.check_vocabulary(
        tokenizer,
        architecture.vocabulary_size(model),
        model_folder.path,
        "this folder's tokenizer is another model's",
    )
    if device_map is None:
        model = model.to(_target_device(has_gpu))
    return model.eval()


def load_on_cpu(folder: str | Path, dtype: str) -> PreTrainedModel:
    """The model of a folder on the CPU, for comparing its numbers; `dtype` is torch's name, or `auto`: the files' own.

    The folder is not checked. Raises UserError where transformers cannot load it.
    """
    library_settings.prepare_libraries()
    from transformers import AutoModelForCausalLM

    with weights.catch_loading_errors(folder):
        config = architecture.load_config(folder)
        return AutoModelForCausalLM.from_pretrained(folder, config=config, dtype=dtype).eval()


def input_device(model: PreTrainedModel) -> torch.device:
    """Where a model takes its ids: where its embeddings are, or where accelerate brings them for the moment."""
    import torch

    embeddings = model.get_input_embeddings()
    device = embeddings.weight.device
    return torch.device(embeddings._hf_hook.execution_device) if device.type == "meta" else device


def _target_device(has_gpu: bool) -> str:
    if not has_gpu:
        return "cpu"
    import torch

    local_rank = launcher_environment.local_rank()
    if local_rank >= torch.cuda.device_count():
        raise UserError(
            f"process {local_rank} has no GPU: {torch.cuda.device_count()} here", hint="start as many processes as GPUs"
        )
    return f"cuda:{local_rank}"
