"""Weights by name, one at a time, in; safetensors files of a model folder out, in shards with an index where there are several.

Its own module because folders are written from files and engines of more than one kind, and none of them fits into memory as a
whole. The price: one shard's weights are in memory, and a weight that is larger than a shard.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from orca_bench.files import write_json
from orca_bench.models.weights import SAFETENSORS_INDEX

if TYPE_CHECKING:
    import torch

SHARD_BYTES = 4 * 1024**3


def write_shards(
    byte_counts: Mapping[str, int],
    tensors: Iterable[tuple[str, torch.Tensor]],
    folder: Path,
    max_shard_bytes: int = SHARD_BYTES,
) -> None:
    """Write names with their tensors to shards of at most `max_shard_bytes` bytes; `byte_counts` are the sizes by name.

    The tensors, on the CPU, come in the order of `byte_counts`; each shard is written as soon as it is full. A tensor larger than
    a shard has one of its own. Raises OSError where the disk does not take a shard.
    """
    from huggingface_hub import split_state_dict_into_shards_factory

    split = split_state_dict_into_shards_factory(
        dict(byte_counts),
        get_storage_size=lambda byte_count: byte_count,
        filename_pattern="model{suffix}.safetensors",
        max_shard_size=max_shard_bytes,
    )
    missing_names = {file_name: set(names) for file_name, names in split.filename_to_tensors.items()}
    shards: dict[str, dict[str, torch.Tensor]] = {file_name: {} for file_name in missing_names}
    for name, tensor in tensors:
        file_name = split.tensor_to_filename[name]
        shards[file_name][name] = tensor.contiguous()
        del tensor  # else it stays in memory while the next one is read
        missing_names[file_name].remove(name)
        if not missing_names[file_name]:
            write_safetensors_file(shards.pop(file_name), folder / file_name)
    assert not shards, f"no tensors came for {list(shards)}"
    if split.is_sharded:
        write_json(folder / SAFETENSORS_INDEX, {"metadata": split.metadata, "weight_map": split.tensor_to_filename})


def write_safetensors_file(tensor_by_name: dict[str, torch.Tensor], path: Path) -> None:
    """Write one file of tensors, which are on the CPU and contiguous; raises OSError where the disk does not take it."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(tensor_by_name, path, metadata={"format": "pt"})
    except SafetensorError as error:  # safetensors 0.8 has no other for a full disk: the system's number is in the text
        if not (number := re.search(r"\(os error (\d+)\)", str(error))):
            raise
        raise OSError(int(number.group(1)), os.strerror(int(number.group(1)))) from error
