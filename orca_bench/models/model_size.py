"""A model's folder in, what its weights take on disk out: bytes, files, number types, and bits of a weight.

Only headers of files are read. Its own module because a quantised model is judged by what it saves, whatever else is known of it.
"""

from __future__ import annotations

import json
import math
import struct
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orca_bench.models.gguf.gguf_file import GgufFile
from orca_bench.models.model_folder import ModelFolder


@dataclass(frozen=True)
class ModelSize:
    """The bytes of the files that hold the weights, and the bits of a weight in them.

    The bits are None for pickled weights and for quantised ones that are not GPTQ: a packed word holds several weights.
    """

    byte_count: int
    bits_per_weight: float | None


@dataclass(frozen=True)
class WeightFiles:
    """The safetensors files of a folder: their number, their bytes, and the number types in them.

    `dtype_names` are torch's (`bfloat16`), the type of the most bytes first.
    """

    file_count: int
    byte_count: int
    dtype_names: tuple[str, ...]


#: torch's names of the types that safetensors abbreviates.
_TORCH_DTYPE_NAMES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "F64": "float64"}


def model_size(folder: ModelFolder) -> ModelSize:
    """The size of a model: of its GGUF file with all its shards or its GPTQ folder where it has one, else of its own folder."""
    if folder.gguf_path is not None:
        file = GgufFile(Path(folder.gguf_path))
        return ModelSize(sum(path.stat().st_size for path in file.shard_paths), file.bits_per_weight())
    files_folder = Path(folder.gptq_path or folder.path)
    safetensors_paths = sorted(files_folder.glob("*.safetensors"))
    paths = safetensors_paths or sorted(files_folder.glob("pytorch_model*.bin"))
    byte_count = sum(path.stat().st_size for path in paths)
    if folder.gptq_path is not None or folder.is_quantized:
        return ModelSize(byte_count, folder.gptq_bits_per_weight)
    if not safetensors_paths:
        return ModelSize(byte_count, None)
    weight_count = weight_bytes = 0
    for path in safetensors_paths:
        for tensor in _safetensors_header(path).values():
            weight_count += math.prod(tensor["shape"])
            weight_bytes += tensor["data_offsets"][1] - tensor["data_offsets"][0]
    return ModelSize(byte_count, 8 * weight_bytes / max(weight_count, 1))


def weight_files(folder: Path) -> WeightFiles | None:
    """What the safetensors files of a folder hold; None where it has none, or one that is not whole."""
    paths = sorted(folder.glob("*.safetensors"))
    bytes_by_dtype: Counter[str] = Counter()
    try:
        for path in paths:
            for tensor in _safetensors_header(path).values():
                name = _TORCH_DTYPE_NAMES.get(tensor["dtype"], tensor["dtype"])
                bytes_by_dtype[name] += tensor["data_offsets"][1] - tensor["data_offsets"][0]
        byte_count = sum(path.stat().st_size for path in paths)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error):
        return None
    return (
        WeightFiles(len(paths), byte_count, tuple(name for name, _ in bytes_by_dtype.most_common())) if paths else None
    )


def _safetensors_header(path: Path) -> dict[str, dict[str, Any]]:
    """The entries of the tensors: the file begins with the length of the JSON behind it, 8 bytes (format of safetensors 0.x).

    Raises ValueError and struct.error for another file.
    """
    with path.open("rb") as stream:
        (header_length,) = struct.unpack("<Q", stream.read(8))
        if header_length > path.stat().st_size:
            raise ValueError("the header is longer than the file")
        header = json.loads(stream.read(header_length))
    header.pop("__metadata__", None)
    return header
