"""A model in, a hash of everything about it that can change an answer out.

Two models whose identities are equal give the same answers to the same token ids, so cached answers may be used again and
results may be merged; a change of any key of config.json, of any special token, of a stop, of a weight, of dtype or device
makes another identity. Its own module because answers and results must mean the same by "the same model". What is uncertain
counts as a difference: its price is that answers are computed again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orca_bench.errors import UserError
from orca_bench.files import file_sha256, read_json
from orca_bench.models.gguf.gguf_file import sha256_of_shards
from orca_bench.models.model_folder import ModelFolder

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

#: Keys of config.json that cannot change an answer here: who wrote it, and what is decided by the caller or kept beside it
#: (dtype and class are parts of their own; every forward pass says itself whether it wants a cache).
COSMETIC_CONFIG_KEYS = {"_name_or_path", "transformers_version", "dtype", "torch_dtype", "architectures", "use_cache"}
COSMETIC_GENERATION_KEYS = {"_from_model_config", "transformers_version", "use_cache"}
COSMETIC_TOKENIZER_KEYS = {"name_or_path", "transformers_version", "chat_template"}

#: Files that determine the ids of a text, by pattern, and the ones among a tokenizer's files that are read key by key.
_VOCABULARY_PATTERNS = (
    "tokenizer.model*",
    "tokenizer.json",
    "vocab*",
    "merges.txt",
    "*.tiktoken",
    "spiece.model",
    "tekken.json",
)
_TOKENIZER_SETTINGS_FILES = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")


def loaded_model_identity(
    model: PreTrainedModel, model_folder: ModelFolder, device: torch.device, engine_description: Mapping[str, Any]
) -> dict[str, str]:
    """The identity of a model of this process, as `combine_part_hashes` gives it.

    `engine_description` says how it is computed (which path, which attention), since that decides how sums are rounded.
    """
    return combine_part_hashes(
        folder_part_hashes(model_folder)
        | {
            "weights": weights_sha256(model),
            "class": type(model).__name__,
            "dtype": str(model.dtype).removeprefix("torch."),
            "device": device.type,
            "engine": json_sha256(dict(engine_description) | {"implementation": model.config._attn_implementation}),
        }
    )


def server_model_identity(
    server_description: Mapping[str, Any], model_folder: ModelFolder, dtype_name: str | None = None
) -> dict[str, str]:
    """The identity of a model that a server runs; `server_description` says which server and which model of it.

    With a `dtype_name`, the server was started here for this very folder, and the folder's weights belong to the identity;
    without one, the folder is its tokenizer's and nothing is known of the weights.
    """
    part_hashes = folder_part_hashes(model_folder) | {"server": json_sha256(dict(server_description))}
    if dtype_name is not None:
        folder = Path(model_folder.path)
        weight_files = sorted([*folder.glob("*.safetensors"), *folder.glob("pytorch_model*.bin")])
        part_hashes |= {
            "weights": json_sha256({file.name: file_sha256(file) for file in weight_files}),
            "dtype": dtype_name,
        }
    return combine_part_hashes(part_hashes)


def gguf_model_identity(
    engine_description: Mapping[str, Any], model_folder: ModelFolder, gguf_paths: Sequence[Path]
) -> dict[str, str]:
    """The identity of a GGUF file, in one or several shards, that llama.cpp runs itself.

    `engine_description` says how; `model_folder` was imported from the file and has its tokenizer.
    """
    return combine_part_hashes(
        folder_part_hashes(model_folder)
        | {
            "server": json_sha256(dict(engine_description)),
            "weights": sha256_of_shards(gguf_paths),
        }
    )


def folder_part_hashes(model_folder: ModelFolder) -> dict[str, str]:
    """The parts of an identity that a folder's small files decide: config, generation and tokenizer, each a SHA-256.

    The config is the one that transformers makes of config.json, defaults filled in. A tokenizer's file alone has one part.
    """
    folder = Path(model_folder.path)
    if folder.is_file():
        return {"tokenizer": file_sha256(folder)}
    return {
        "config": json_sha256(_remove_keys(model_folder.config.to_dict(), COSMETIC_CONFIG_KEYS)),
        "generation": json_sha256(
            _remove_keys(_read_settings(folder / "generation_config.json"), COSMETIC_GENERATION_KEYS)
        ),
        "tokenizer": json_sha256(_tokenizer_content(folder)),
    }


def combine_part_hashes(part_hash_by_name: Mapping[str, str]) -> dict[str, str]:
    """The parts with `sha256`, one hash over all of them."""
    return {"sha256": json_sha256(dict(part_hash_by_name)), **part_hash_by_name}


def weights_sha256(model: PreTrainedModel) -> str:
    """A SHA-256 over the weights' names, shapes, dtypes and bytes: the same for the same weights, wherever they lie."""
    import torch

    running_hash = hashlib.sha256()
    for name, tensor in sorted(_state_dict(model).items()):
        running_hash.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        running_hash.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy())
    return running_hash.hexdigest()


def json_sha256(json_value: Any) -> str:
    """The SHA-256 of a JSON value, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(json_value, sort_keys=True, default=str).encode()).hexdigest()


def differing_parts(hash_by_part: Mapping[str, str], other_hash_by_part: Mapping[str, str]) -> list[str]:
    """The names of the parts in which two identities differ."""
    return sorted(
        name
        for name in {*hash_by_part, *other_hash_by_part} - {"sha256"}
        if hash_by_part.get(name) != other_hash_by_part.get(name)
    )


def _tokenizer_content(folder: Path) -> dict[str, Any]:
    vocabulary_files = sorted(
        {file for pattern in _VOCABULARY_PATTERNS for file in folder.glob(pattern) if file.is_file()}
    )
    settings = {
        name: _remove_keys(_read_settings(folder / name), COSMETIC_TOKENIZER_KEYS) for name in _TOKENIZER_SETTINGS_FILES
    }
    return {"files": {file.name: file_sha256(file) for file in vocabulary_files}, "settings": settings}


def _read_settings(json_path: Path) -> dict[str, Any]:
    """The keys of a JSON file; none where it is absent."""
    if not json_path.is_file():
        return {}
    settings = read_json(json_path)
    if not isinstance(settings, dict):
        raise UserError("not a JSON object", where=json_path)
    return settings


def _remove_keys(settings: Mapping[str, Any], cosmetic_keys: set[str]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key not in cosmetic_keys}


def _state_dict(model: PreTrainedModel) -> Mapping[str, torch.Tensor]:
    if all(parameter.device.type != "meta" for parameter in model.parameters()):
        return model.state_dict()
    from accelerate.utils.modeling import get_state_dict_offloaded_model

    return get_state_dict_offloaded_model(model)
