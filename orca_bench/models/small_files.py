"""A model folder in, its small files in another folder out: tokenizer, prompts, licence and card, without weights and settings.

Its own module because each folder that is written from another needs them, and the list of what belongs to the weights is long.
"""

from __future__ import annotations

import shutil
from collections.abc import Container
from pathlib import Path

#: Weights, in the formats of the libraries that read them; and what torch saves beside them.
_WEIGHT_SUFFIXES = (
    ".safetensors",
    ".bin",
    ".pt",
    ".pth",
    ".ckpt",
    ".gguf",
    ".ggml",
    ".h5",
    ".msgpack",
    ".ot",
    ".onnx",
    ".onnx_data",
    ".tflite",
    ".npz",
)
_INDEX_ENDING = ".index.json"
#: What describes the weights of the folder that is copied, and not those of the new one.
_SETTINGS_FILES = ("config.json", "quantize_config.json", "quantization_config.json", "gguf.json", "gptq.json")


def copy_small_files(folder: Path, target_folder: Path, uncopied_names: Container[str] = ()) -> None:
    """Copy the files of a folder, not of its subfolders, but for weights, what describes them, and `uncopied_names`."""
    for path in sorted(folder.iterdir()):
        is_weights = path.suffix.lower() in _WEIGHT_SUFFIXES or path.name.endswith(_INDEX_ENDING)
        if path.is_file() and not is_weights and path.name not in _SETTINGS_FILES and path.name not in uncopied_names:
            shutil.copyfile(path, target_folder / path.name)
