"""A model folder in, the type of weights that `--dtype auto` means for it on this machine out, with a sentence for the user.

On a CPU it is float32, or bfloat16 where all of these hold: the weights are stored in bfloat16, so that none is rounded; a
measurement with the architecture shows that bfloat16 changes no more predictions here than in lm-eval's `hf`; the model is so
large that its time matters; and the CPU multiplies bfloat16 in hardware. Its own module because these are facts that a
measurement may change.
"""

from __future__ import annotations

from pathlib import Path

from orca_bench.models.model_folder import ModelFolder
from orca_bench.models.model_size import weight_files

#: Architectures that were measured, and the file with the counts of changed predictions.
MEASURED_ARCHITECTURES = {"LlamaForCausalLM": "results/bench/bfloat16.md"}
#: Parameters from which on bfloat16 is taken. 135M were measured; a much smaller model takes little time in float32.
MIN_PARAMETERS = 100_000_000
_BYTES_PER_PARAMETER = 2


def choose_dtype(model_folder: ModelFolder, dtype: str) -> str:
    """The name of the type to load a model in: `dtype` itself, or for `auto` bfloat16 where the model and the CPU allow it.

    Elsewhere `auto` stays `auto`: float32 on a CPU, the checkpoint's own type on a GPU.
    """
    import torch

    if dtype != "auto" or torch.cuda.is_available() or not has_fast_bfloat16():
        return dtype
    if model_folder.gguf_path is not None or model_folder.gptq_path is not None or model_folder.is_quantized:
        return dtype
    files = weight_files(Path(model_folder.path))
    is_stored_in_bfloat16 = files is not None and files.dtype_names == ("bfloat16",)
    if files is None or not is_stored_in_bfloat16 or files.byte_count < MIN_PARAMETERS * _BYTES_PER_PARAMETER:
        return dtype
    architectures = getattr(model_folder.config, "architectures", None) or []
    return "bfloat16" if len(architectures) == 1 and architectures[0] in MEASURED_ARCHITECTURES else dtype


def auto_dtype_note(model_folder: ModelFolder, dtype: str) -> str | None:
    """A sentence for the user where `auto` is bfloat16."""
    if dtype != "auto" or choose_dtype(model_folder, dtype) != "bfloat16":
        return None
    return "computed in bfloat16, the type of its weights, with sums in float32 (--dtype float32 for all in float32)"


def has_fast_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 in hardware (AVX512-BF16 or AMX)."""
    import torch

    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
