"""A folder of a LLaMA and token ids of text in, a GPTQ folder of 4 bits a weight out, which transformers, vLLM and SGLang run.

The package auto-round rounds and packs: it searches, block by block, for the weights to round up or down with which the block's
output on the text is nearest to what it was (SignRound, arXiv 2309.05516). The layout is AutoGPTQ's; the rounding is not GPTQ's.
With no iterations each weight is rounded to the nearest step. Numbers are symmetric around 8, and every group of inputs has a
scale. The embedding, the head and the norms stay in float16.

The folder is read back before it has its name. The price: while it is rounded, the model in float32 in memory, with the
activations of the text for one block, and 0.5 to 3 seconds an iteration of each block for small models on a CPU; while it is
compared, two models in float32 in memory, and on the disk a copy of four bytes a weight beside the folder.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orca_bench import child_processes
from orca_bench.errors import UserError, one_line
from orca_bench.files import open_folder_replacement, read_json, write_json
from orca_bench.models import architecture
from orca_bench.models.gptq import rounding_process
from orca_bench.models.gptq.gptq_import import METHOD, import_gptq, stored_bits_per_weight
from orca_bench.models.gptq.gptq_layout import LAYER_PARTS
from orca_bench.models.model_folder import METADATA_FILE_NAME, ModelFolder
from orca_bench.models.model_loading import load_on_cpu
from orca_bench.models.small_files import copy_small_files
from orca_bench.models.weights import SAFETENSORS_INDEX

if TYPE_CHECKING:
    import torch

BITS = 4
#: Inputs that share a scale, the largest first: kernels want every layer to have a whole number of groups.
GROUP_SIZES = (128, 64, 32)
DEFAULT_ITERATIONS = 50  # as auto-round's light recipe has; its own default, 200, takes four times as long
#: Text of calibration: 128 sequences of 512 tokens, as auto-round's recipe for small machines has; shorter in a smaller window.
CALIBRATION_TOKENS, _SEQUENCE_TOKENS = 65536, 512
_BATCH_SEQUENCES = rounding_process.BATCH_SEQUENCES
#: Outputs of a layer are packed in words of 32 bits, and kernels take tiles of 32.
_OUTPUT_MULTIPLE = 32
#: Largest error of a matrix that 4 bits make, relative to the matrix's norm (0.1 was seen).
_MAX_RELATIVE_ERROR = 0.3
#: Largest relative error of a number that is rounded to float16, and of one below its smallest normal number.
_HALF_RELATIVE_ERROR, _HALF_ABSOLUTE_ERROR = 2**-11, 2**-25
#: A result with its `run` and `step` is one of that run's model, in pictures of a training and on its card.
_UNCOPIED_FILES = (METADATA_FILE_NAME,)


@dataclass(frozen=True)
class GptqExportReport:
    """What a folder that was written has: bits a weight over all tensors, bytes of its files of weights."""

    bits_per_weight: float
    byte_count: int


def check_gptq_export(model_folder: ModelFolder) -> int:
    """The group size in which a folder's model can be written. Raises UserError where it cannot, or the package is missing."""
    if importlib.util.find_spec("auto_round") is None:
        raise UserError(
            "GPTQ folders are written by the package auto-round", hint="install it: pip install 'orca-bench[gptq]'"
        )
    model_folder.check_model()
    config = model_folder.config
    if config.model_type != "llama":
        raise UserError(f"a {config.model_type} model; only LLaMAs can be written as GPTQ", where=model_folder.path)
    sizes = architecture.attention_sizes(config)
    assert sizes is not None, "a LLaMA's configuration has them"
    head_size = sizes.head_size
    widths = (
        config.hidden_size,
        config.intermediate_size,
        config.num_attention_heads * head_size,
        config.num_key_value_heads * head_size,
    )
    for group_size in GROUP_SIZES:
        if all(width % group_size == 0 for width in widths[:3]) and widths[3] % _OUTPUT_MULTIPLE == 0:
            return group_size
    raise UserError(
        f"layers of {', '.join(map(str, sorted(set(widths))))} numbers; GPTQ needs multiples of {GROUP_SIZES[-1]}",
        where=model_folder.path,
    )


def export_gptq(
    model_folder: ModelFolder, out_folder: Path, token_ids: Sequence[int], iterations: int, group_size: int
) -> GptqExportReport:
    """Write a GPTQ folder, which appears when it is whole and was read back.

    `token_ids` are of texts one after another, as the model is used; they may be few where `iterations` is 0. Raises UserError
    where they are fewer than a batch of sequences, and where the folder that was read back is not the model.
    """
    sequence_tokens = min(_SEQUENCE_TOKENS, model_folder.window_tokens)
    sequences = [
        list(token_ids[start : start + sequence_tokens]) for start in range(0, len(token_ids), sequence_tokens)
    ]
    sequences = [sequence for sequence in sequences if len(sequence) == sequence_tokens]
    if iterations > 0 and len(sequences) < _BATCH_SEQUENCES:
        raise UserError(
            f"{len(token_ids):,} tokens of records; the calibration needs at least {_BATCH_SEQUENCES * sequence_tokens:,}",
            where="--records",
        )
    with open_folder_replacement(out_folder) as folder:
        packed_folder = _quantize(model_folder.path, sequences, iterations, group_size, folder / "packed")
        _write_folder(Path(model_folder.path), packed_folder, folder)
        shutil.rmtree(folder / "packed")
        return _check_folder(model_folder, folder)


def _quantize(folder_text: str, sequences: list[list[int]], iterations: int, group_size: int, folder: Path) -> Path:
    """auto-round's own output in a folder below `folder`, which is returned.

    In a process of its own: auto-round 0.16 changes functions of transformers when it is imported.
    """
    folder.mkdir()
    job_file = folder / "job.json"
    job = rounding_process.RoundingJob(folder_text, str(folder / "model"), BITS, group_size, iterations, sequences)
    write_json(job_file, dataclasses.asdict(job))
    is_terminal = sys.stderr.isatty()
    with child_processes.Lifeline("GPTQ rounding") as lifeline:
        process = subprocess.run(
            [sys.executable, "-m", rounding_process.__name__, str(job_file)],
            env=os.environ | lifeline.environment,
            stdout=subprocess.DEVNULL,
            stderr=None if is_terminal else subprocess.PIPE,  # its progress bar
            check=False,
        )
    if process.returncode != 0:
        raise UserError(
            f"auto-round ended with exit code {process.returncode}{_failure_reason(job_file, process.stderr)}",
            where=folder_text,
        )
    return next(path.parent for path in sorted(folder.rglob("config.json")))


def _failure_reason(job_file: Path, error_output: bytes | None) -> str:
    """What the process says of its failure, in brackets; the last line on its standard error where it came to no words."""
    failure_file = job_file.with_name(rounding_process.FAILURE_FILE_NAME)
    if failure_file.is_file():
        return f" ({failure_file.read_text(encoding='utf-8')})"
    lines = (error_output or b"").decode(errors="replace").strip().splitlines()
    return f" ({one_line(lines[-1], 200)})" if lines else ""


def _write_folder(source_folder: Path, packed_folder: Path, folder: Path) -> None:
    """The packed weights, with everything else in float16, the source's configuration and its small files."""
    import torch
    from safetensors.torch import load_file, save_file

    copy_small_files(source_folder, folder, _UNCOPIED_FILES)
    for path in sorted(packed_folder.glob("*.safetensors")):
        state = {
            name: tensor.to(torch.float16) if tensor.is_floating_point() else tensor
            for name, tensor in load_file(path).items()
        }
        save_file(state, folder / path.name, metadata={"format": "pt"})
    if (packed_folder / SAFETENSORS_INDEX).is_file():
        shutil.copyfile(packed_folder / SAFETENSORS_INDEX, folder / SAFETENSORS_INDEX)
    packed_config = read_json(packed_folder / "config.json")
    settings: dict[str, Any] = packed_config["quantization_config"] | {"checkpoint_format": METHOD}
    config = read_json(source_folder / "config.json")
    config.pop("torch_dtype", None)
    write_json(folder / "config.json", config | {"dtype": "float16", "quantization_config": settings})
    write_json(folder / "quantize_config.json", settings)  # where AutoGPTQ and older servers look


def _check_folder(model_folder: ModelFolder, folder: Path) -> GptqExportReport:
    """Read the folder back; raises UserError that names the first tensor that is not the model's, or was not quantised."""
    plain_folder = folder / "plain"
    import_gptq(folder, plain_folder)
    back_state = load_on_cpu(plain_folder, "float32").state_dict()
    quantized_names = _quantized_weight_names(folder)
    for name, tensor in load_on_cpu(model_folder.path, "float32").state_dict().items():
        is_matrix = name.startswith("model.layers.") and tensor.dim() == 2
        if is_matrix != (name in quantized_names):
            raise UserError(f"{name} was {'not ' if is_matrix else ''}quantised by auto-round", where=model_folder.path)
        if not _is_rounded(tensor, back_state[name], is_matrix):
            raise UserError(f"{name} differs in the folder that was read back", where=model_folder.path)
    bits_per_weight = stored_bits_per_weight(plain_folder) or 0.0
    shutil.rmtree(plain_folder)
    return GptqExportReport(bits_per_weight, sum(path.stat().st_size for path in folder.glob("*.safetensors")))


def _is_rounded(tensor: torch.Tensor, back_tensor: torch.Tensor, is_quantized: bool) -> bool:
    """Whether a tensor is another one within what its type rounds."""
    difference = back_tensor - tensor
    if is_quantized:
        return bool(difference.norm() <= _MAX_RELATIVE_ERROR * tensor.norm())
    return bool((difference.abs() <= _HALF_RELATIVE_ERROR * tensor.abs() + _HALF_ABSOLUTE_ERROR).all())


def _quantized_weight_names(folder: Path) -> set[str]:
    from safetensors import safe_open

    suffix = f".{LAYER_PARTS[0]}"
    names: set[str] = set()
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as tensors:
            names |= {f"{name.removesuffix(suffix)}.weight" for name in tensors.keys() if name.endswith(suffix)}  # noqa: SIM118
    return names
