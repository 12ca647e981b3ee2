"""A GGUF file in, a plain Hugging Face model folder out: weights dequantised, tokenizer rebuilt, chat template copied.

`import_gguf` writes a folder where the user says; `folder_of` has one in the user's cache, so that a `.gguf` can stand wherever a
model folder can. The price of the cache: two or four bytes a weight on the disk, once for each file.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orca_bench.errors import check_choice
from orca_bench.files import cache_folder, open_folder_replacement, write_json
from orca_bench.hub import ShowMessage
from orca_bench.models import import_cache
from orca_bench.models.gguf.gguf_configuration import configuration
from orca_bench.models.gguf.gguf_file import SUFFIX, GgufFile, sha256_of_shards, shard_paths
from orca_bench.models.gguf.gguf_tokenizer import write_tokenizer
from orca_bench.models.gguf.gguf_types import FOLDER_DTYPES
from orca_bench.models.gguf.gguf_weights import check_tensors, exact_dtype, write_weights

#: What the folder says of the file that it comes from.
ORIGIN_FILE = "gguf.json"
#: The folder of imported files in the cache.
CACHE_NAME = "gguf"
_FORMAT_VERSION = 2  # of the folders in the cache: raised when the same file gives another folder


@dataclass(frozen=True)
class GgufModel:
    """What is known of a GGUF file before its weights are read."""

    file: GgufFile
    configuration: dict[str, Any]
    dtype: str

    @property
    def weight_count(self) -> int:
        """How many weights the model has."""
        return sum(self.file.types().values())

    def describe(self) -> dict[str, Any]:
        """What gguf.json says of the file: name, bytes, hash, weights by type, bits a weight, licence."""
        return {
            "file": self.file.path.name,
            "bytes": sum(path.stat().st_size for path in self.file.shard_paths),
            "sha256": sha256_of_shards(self.file.shard_paths),
            "weights_by_type": self.file.types(),
            "bits_per_weight": round(self.file.bits_per_weight(), 4),
            "license": self.file.metadata.get("general.license"),
        }


def read_gguf(path: Path, dtype: str = "auto") -> GgufModel:
    """Read and check a file without its weights' numbers. `dtype` auto: the smallest that holds them exactly.

    Raises UserError for what is no GGUF file of a dense LLaMA, or is damaged.
    """
    check_choice(dtype, FOLDER_DTYPES, "--dtype")
    file = GgufFile(path)
    config = configuration(file)
    check_tensors(file, config)
    return GgufModel(file, config, exact_dtype(file) if dtype == "auto" else dtype)


def import_gguf(model: GgufModel, folder: Path) -> None:
    """Write the model to a folder, which appears when it is whole. Raises UserError where the disk is full or not writable."""
    with open_folder_replacement(folder) as temporary_folder:
        write_tokenizer(model.file, temporary_folder)  # first: it may refuse, and costs little
        write_weights(model.file, model.configuration, model.dtype, temporary_folder)
        special_ids = {key: model.configuration[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
        config = {key: value for key, value in model.configuration.items() if value is not None}
        write_json(temporary_folder / "config.json", config | {"dtype": model.dtype})
        generation_config = {key: id_ for key, id_ in special_ids.items() if id_ is not None}
        write_json(temporary_folder / "generation_config.json", generation_config)
        write_json(temporary_folder / ORIGIN_FILE, model.describe())


def folder_of(path: Path, show_message: ShowMessage = lambda line: None) -> Path:
    """The folder in the user's cache with what is in a GGUF file; written at its first use, which `show_message` names.

    The folder belongs to the file's path, size and time of change.
    """

    def write_folder(folder: Path) -> None:
        model = read_gguf(path)
        show_message(f"{path.name}: {model.weight_count:,} weights are written as {model.dtype} to {folder}, once")
        import_gguf(model, folder)

    cache_key = import_cache.cache_key([_FORMAT_VERSION], {str(shard.resolve()): shard for shard in shard_paths(path)})
    folder = cache_folder(CACHE_NAME) / cache_key / model_stem(path)
    return import_cache.write_once(folder, ORIGIN_FILE, write_folder)


def stored_bits_per_weight(folder: Path) -> float | None:
    """The bits of a weight in the file that a folder was imported from; None where it is another folder, or says no number."""
    return import_cache.origin_bits_per_weight(folder / ORIGIN_FILE)


def stored_sha256(folder: Path) -> str | None:
    """The hash (`sha256_of_shards`) of the file that a folder was imported from; None where it is another folder or says none."""
    return import_cache.origin_sha256(folder / ORIGIN_FILE)


def model_stem(path: Path) -> str:
    """The name of a file's model: its own name without `.gguf` and without the number of its shard."""
    name = path.name.removesuffix(SUFFIX)
    return name.rsplit("-", 3)[0] if len(shard_paths(path)) > 1 else name


def path_without_suffix(path: Path) -> Path:
    """The path of a file without `.gguf` and the number of its shard; that of the folder that `import` writes by default."""
    return path.with_name(model_stem(path))
