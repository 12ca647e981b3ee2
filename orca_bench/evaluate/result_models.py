"""A result's description of its model and a model folder in, the parts in which they are other models out.

Results are filed by the model's name, and a name outlives its weights: a file is exported again, a folder is copied. Its own
module because only here weights are read for results that exist already.
"""

from __future__ import annotations

from orca_bench.models import model_identity
from orca_bench.models.model_folder import ModelFolder
from orca_bench.results.models import ModelDescription

_LOCAL_ENGINE_NAME = "hf"


class FolderIdentity:
    """A model folder of which results are sought; its weights are read at most once for each dtype."""

    def __init__(self, folder: ModelFolder) -> None:
        self._folder = folder
        self._weights_hash_by_dtype: dict[str, str] = {}

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
        """The hash of the folder's weights as the engine in this process hashes them; None for a result of another one."""
        engine_name, dtype_name = None if description.engine is None else description.engine.name, description.dtype
        if engine_name != _LOCAL_ENGINE_NAME or dtype_name not in ("float32", "bfloat16", "float16"):
            return None
        if dtype_name not in self._weights_hash_by_dtype:
            from orca_bench.models.model_loading import load_model

            model = load_model(self._folder, dtype_name, gpu_dtype=dtype_name)
            self._weights_hash_by_dtype[dtype_name] = model_identity.weights_sha256(model)
        return self._weights_hash_by_dtype[dtype_name]
