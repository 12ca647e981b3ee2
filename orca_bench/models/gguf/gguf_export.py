"""A folder of a LLaMA in, a GGUF file out: weights in llama.cpp's order and a type of its own, tokenizer and chat template.

The opposite of gguf_import.py. Numbers that a type cannot hold are rounded by `gguf.quantize`, llama.cpp's own reference code
in Python; float32 is exact. Vectors (norms) stay in float32, as llama.cpp wants them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orca_bench import library_settings, tokenizers
from orca_bench.errors import UserError, check_choice
from orca_bench.files import catch_write_errors, path_replacement
from orca_bench.models.gguf.gguf_configuration import ARCHITECTURE, ROPE_FACTORS, llama3_rope_factors
from orca_bench.models.gguf.gguf_file import check_gguf_installed
from orca_bench.models.gguf.gguf_import import import_gguf, read_gguf
from orca_bench.models.gguf.gguf_tokenizer import vocabulary_metadata
from orca_bench.models.gguf.gguf_types import FILE_TYPES
from orca_bench.models.gguf.gguf_weights import expected_shapes, permute, state_name
from orca_bench.models.model_folder import ModelFolder
from orca_bench.models.weights import catch_loading_errors

if TYPE_CHECKING:
    import gguf
    import numpy as np
    import torch
    from numpy.typing import NDArray

#: Largest error of a matrix that a type's rounding makes, relative to the matrix's norm (4 bits: 0.08 was seen).
_MAX_RELATIVE_ERRORS = {"f32": 0.0, "f16": 1e-3, "bf16": 5e-3, "q8_0": 0.02} | dict.fromkeys(("q5_0", "q5_1"), 0.1)
_MAX_RELATIVE_ERRORS |= dict.fromkeys(("q4_0", "q4_1"), 0.2)
_SPECIAL_ID_KEYS = ("bos_token_id", "eos_token_id", "pad_token_id")  # the tokenizer's own count
_PROBE_COUNT = 1000  # texts
#: The type of a matrix whose rows are no whole number of a type's blocks, as llama.cpp's own tool falls back.
_FALLBACK_TYPE = "F16"


def export_gguf(model_folder: ModelFolder, gguf_path: Path, type_name: str) -> None:
    """Write a model folder as a GGUF file, which appears when it is whole.

    Raises UserError for a folder that is no whole LLaMA, a type that is not in `FILE_TYPES`, and a disk that does not take it.
    """
    check_gguf_installed(model_folder.path)
    check_choice(type_name, tuple(FILE_TYPES), "--gguf")
    model_folder.check_model()
    source = _Source(model_folder, _llama_configuration(model_folder), _load_state(model_folder.path))
    if not gguf_path.absolute().parent.is_dir():
        raise UserError("no such folder", where=gguf_path.parent)
    vocabulary = vocabulary_metadata(
        model_folder.tokenizer, Path(model_folder.path), source.configuration["vocab_size"]
    )
    with path_replacement(gguf_path) as temporary_path:
        with catch_write_errors(gguf_path):
            _write_file(source, vocabulary, temporary_path, type_name)
        _check_written_file(source, temporary_path, type_name)


@dataclass(frozen=True)
class _Source:
    """The folder that is written, its configuration, and its weights by transformers' names."""

    model_folder: ModelFolder
    configuration: dict[str, Any]
    state: dict[str, torch.Tensor]


def _write_file(source: _Source, vocabulary: dict[str, Any], gguf_path: Path, type_name: str) -> None:
    import gguf

    writer = gguf.GGUFWriter(gguf_path, ARCHITECTURE)
    writer.add_name(source.model_folder.name)
    _add_configuration(writer, source.configuration, Path(source.model_folder.path))
    writer.add_file_type(gguf.LlamaFileType[FILE_TYPES[type_name]])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    for key, value in vocabulary.items():
        writer.add_array(key, value) if isinstance(value, list) else _add_scalar(writer, key, value)
    for name, numbers, quantization in _tensors(source, type_name):
        writer.add_tensor(name, numbers, raw_dtype=quantization)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _check_written_file(source: _Source, gguf_path: Path, type_name: str) -> None:
    """Read a file back and compare it with its source: configuration, every matrix, and token ids of adversarial texts.

    Raises UserError that names the first difference; of a matrix, one beyond what its type rounds.
    """
    folder_text = source.model_folder.path
    model = read_gguf(gguf_path, "float32")
    for key, value in model.configuration.items():
        expected_value = source.configuration.get(key, value)
        if key not in _SPECIAL_ID_KEYS and value != expected_value:
            raise UserError(f"{key} is {expected_value}, and {value} in the file that was read back", where=folder_text)
    with tempfile.TemporaryDirectory(dir=gguf_path.parent) as temporary_name:
        back_folder = Path(temporary_name) / "model"
        import_gguf(model, back_folder)
        _check_state(source, _load_state(str(back_folder)), type_name)
        _check_token_ids(source.model_folder, tokenizers.load_tokenizer(back_folder))


def _check_state(source: _Source, back_state: dict[str, torch.Tensor], type_name: str) -> None:
    for name, back_tensor in back_state.items():
        tensor = source.state[name].float()
        error = float((back_tensor.float() - tensor).norm() / tensor.norm().clamp(min=1e-30))
        if error > _MAX_RELATIVE_ERRORS[type_name]:
            raise UserError(
                f"{name} differs in the file that was read back by {error:.2g} of its norm",
                where=source.model_folder.path,
            )


def _check_token_ids(model_folder: ModelFolder, back_tokenizer: tokenizers.Tokenizer) -> None:
    tokenizer = model_folder.tokenizer
    spellings = [tokenizer.spelling(id_) or "" for id_ in range(tokenizer.vocab_size)]
    texts = [*tokenizers.probe_texts(_PROBE_COUNT, seed=6), *spellings]
    ids_by_tokenizer = (tokenizer.encode_batch(texts), back_tokenizer.encode_batch(texts))
    for text, ids, back_ids in zip(texts, *ids_by_tokenizer, strict=True):
        if ids != back_ids:
            raise UserError(
                f"{text!r:.80} has other token ids in the file: this tokenizer cannot be written as GGUF",
                where=model_folder.path,
            )


def _llama_configuration(model_folder: ModelFolder) -> dict[str, Any]:
    """The folder's configuration as gguf_configuration.py builds it; raises UserError where it is no LLaMA's."""
    config = model_folder.config
    if config.model_type != "llama":
        raise UserError(f"a {config.model_type} model; only LLaMAs can be written as GGUF", where=model_folder.path)
    values = config.to_dict()
    values["head_dim"] = values.get("head_dim") or config.hidden_size // config.num_attention_heads
    if config.hidden_act != "silu":
        raise UserError(f"hidden_act is {config.hidden_act}, and GGUF's LLaMA has silu", where=model_folder.path)
    return values


def _add_configuration(writer: gguf.GGUFWriter, config: dict[str, Any], folder: Path) -> None:
    """The metadata of the architecture (llama.cpp's convert_hf_to_gguf.py, `set_gguf_parameters`)."""
    import gguf

    writer.add_vocab_size(config["vocab_size"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_dimension_count(config["head_dim"])
    if config["head_dim"] * config["num_attention_heads"] != config["hidden_size"]:
        writer.add_key_length(config["head_dim"])
        writer.add_value_length(config["head_dim"])
    rope = config["rope_parameters"]
    writer.add_rope_freq_base(rope["rope_theta"])
    rope_type = rope.get("rope_type", "default")
    if rope_type == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    elif rope_type == "yarn":
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(rope["factor"])
        writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
    elif rope_type not in ("default", "llama3"):
        raise UserError(f"rope scaling of type {rope_type!r} cannot be written as GGUF", where=folder / "config.json")


def _add_scalar(writer: gguf.GGUFWriter, key: str, value: str | int | bool) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    else:
        writer.add_string(key, value)


def _tensors(source: _Source, type_name: str) -> Iterator[tuple[str, NDArray[Any], gguf.GGMLQuantizationType]]:
    """(name in the file, numbers in the type's bytes, type) of each tensor, [outputs, inputs]."""
    import gguf
    import numpy as np

    config = source.configuration
    for name, shape in expected_shapes(config).items():
        numbers = source.state[state_name(name)].float().numpy()
        if numbers.shape != shape:
            raise UserError(f"{state_name(name)} has the shape {list(numbers.shape)}", where=source.model_folder.path)
        part = name.split(".")[-2]
        if part in ("attn_q", "attn_k"):
            numbers = permute(numbers, config["num_attention_heads" if part == "attn_q" else "num_key_value_heads"])
        numbers = np.ascontiguousarray(numbers)
        quantization = _tensor_type(numbers.shape, type_name)
        is_float32 = quantization is gguf.GGMLQuantizationType.F32
        yield name, numbers if is_float32 else gguf.quantize(numbers, quantization), quantization
    factors = _rope_factors(config)
    if factors is not None:
        yield ROPE_FACTORS, factors, gguf.GGMLQuantizationType.F32


def _tensor_type(shape: tuple[int, ...], type_name: str) -> gguf.GGMLQuantizationType:
    import gguf

    if len(shape) == 1:
        return gguf.GGMLQuantizationType.F32
    quantization = gguf.GGMLQuantizationType[type_name.upper()]
    block_size, _ = gguf.GGML_QUANT_SIZES[quantization]
    return quantization if shape[-1] % block_size == 0 else gguf.GGMLQuantizationType[_FALLBACK_TYPE]


def _load_state(folder_text: str) -> dict[str, torch.Tensor]:
    """The weights of a folder by transformers' names, in the files' own types."""
    library_settings.prepare_libraries()
    from transformers import AutoModelForCausalLM

    with catch_loading_errors(folder_text):
        model = AutoModelForCausalLM.from_pretrained(folder_text, dtype="auto")
    return dict(model.state_dict())


def _rope_factors(config: dict[str, Any]) -> NDArray[np.float32] | None:
    """llama.cpp's factors of the frequencies [head size / 2] for Llama 3's scaling; None for other models."""
    import numpy as np

    rope = config["rope_parameters"]
    if rope.get("rope_type") != "llama3":
        return None
    return llama3_rope_factors(rope, config["head_dim"]).astype(np.float32)
