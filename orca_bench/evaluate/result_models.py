"""A result's description of its model and a model folder in, the parts in which they are other models out.

Results are filed by the model's name, and a name outlives its weights: a file is exported again, a folder is copied. Its own
module because only here weights are read for results that exist already.
"""

from __future__ import annotations

from pathlib import Path

from orca_bench.files import file_sha256
from orca_bench.models import model_identity
from orca_bench.models.model_folder import ModelFolder
from orca_bench.results.models import ModelDescription

_LOCAL_ENGINE_NAME, _LLAMACPP_ENGINE_NAME = "hf", "llamacpp"


class FolderIdentity:
    """A model folder of which results are sought; its weights are read at most once for each dtype."""

    def __init__(self, folder: ModelFolder) -> None:
        self._folder = folder
        self._weights_hashes: dict[str, str | None] = {}

    def differing_parts(self, description: ModelDescription) -> list[str]:
        """The parts (config, generation, tokenizer, weights) of a result's model that are not the folder's; none for its own.

        A part of which the result says nothing counts as another one. Weights are read only where all else is the same.
        Raises UserError where the folder has no whole model.
        """
        identity = description.identity or {}
        part_hashes = model_identity.folder_part_hashes(self._folder)
        if names := [name for name, part_hash in part_hashes.items() if identity.get(name) != part_hash]:
            return sorted(names)
        weights_hash = identity.get("weights")
        return [] if weights_hash is not None and weights_hash == self._weights_hash(description) else ["weights"]

    def _weights_hash(self, description: ModelDescription) -> str | None:
        """The hash of the folder's weights as the engine of a result hashes them; None where that is not known."""
        engine_name = None if description.engine is None else description.engine.name
        key = engine_name if engine_name == _LLAMACPP_ENGINE_NAME else f"{engine_name} {description.dtype}"
        if key not in self._weights_hashes:
            self._weights_hashes[key] = self._read_weights_hash(engine_name, description.dtype)
        return self._weights_hashes[key]

    def _read_weights_hash(self, engine_name: str | None, dtype_name: str | None) -> str | None:
        if engine_name == _LLAMACPP_ENGINE_NAME:
            from orca_bench.models.gguf.gguf_file import GgufFile

            gguf_path = self._folder.gguf_path
            if gguf_path is None:
                return None
            return model_identity.json_sha256([file_sha256(path) for path in GgufFile(Path(gguf_path)).shard_paths])
        if engine_name != _LOCAL_ENGINE_NAME or dtype_name not in ("float32", "bfloat16", "float16"):
            return None
        from orca_bench.models.model_loading import load_model

        return model_identity.weights_sha256(load_model(self._folder, dtype_name, gpu_dtype=dtype_name))
