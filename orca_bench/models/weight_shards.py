"""Weights by name, one at a time, in; safetensors files of a model folder out, in shards with an index where there are several.

Its own module because folders are written from files of more than one kind, and none of them fits into memory as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from orca_bench.files import write_json
from orca_bench.models.weights import SAFETENSORS_INDEX

if TYPE_CHECKING:
    import torch

_SHARD_BYTES = 4 * 1024**3


def write_shards(byte_counts: Mapping[str, int], tensor_of: Callable[[str], torch.Tensor], folder: Path) -> None:
    """Write each name's tensor, which `tensor_of` gives, to shards of at most 4 GiB; `byte_counts` are the sizes by name.

    One shard's tensors are in memory at a time.
    """
    from huggingface_hub import split_state_dict_into_shards_factory
    from safetensors.torch import save_file

    split = split_state_dict_into_shards_factory(
        dict(byte_counts),
        get_storage_size=lambda byte_count: byte_count,
        filename_pattern="model{suffix}.safetensors",
        max_shard_size=_SHARD_BYTES,
    )
    for file_name, names in split.filename_to_tensors.items():
        save_file({name: tensor_of(name) for name in names}, folder / file_name, metadata={"format": "pt"})
    if split.is_sharded:
        write_json(folder / SAFETENSORS_INDEX, {"metadata": split.metadata, "weight_map": split.tensor_to_filename})
