"""A folder of a LLaMA in, a GGUF file out: weights in llama.cpp's order and a type of its own, tokenizer and chat template.

The opposite of gguf_import.py. Numbers that a type cannot hold are rounded by `gguf.quantize`, llama.cpp's own reference code
in Python; float32 is exact. Vectors (norms) stay in float32, as llama.cpp wants them.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orca_bench import library_settings, tokenizers
from orca_bench.errors import UserError
from orca_bench.files import catch_write_errors
from orca_bench.models import architecture
from orca_bench.models.gguf.gguf_configuration import ARCHITECTURE, ROPE_FACTORS
from orca_bench.models.gguf.gguf_import import import_gguf, read_gguf
from orca_bench.models.gguf.gguf_tokenizer import vocabulary_metadata
from orca_bench.models.gguf.gguf_weights import expected_shapes, permute, state_name
from orca_bench.models.model_folder import ModelFolder

if TYPE_CHECKING:
    import gguf
    import numpy as np
    import torch
    from numpy.typing import NDArray

#: The types that can be written, by the name that a user types, and llama.cpp's number of a file that is mostly of it.
FILE_TYPES = {"f32": "ALL_F32", "f16": "MOSTLY_F16", "bf16": "MOSTLY_BF16"} | {
    name: f"MOSTLY_{name.upper()}" for name in ("q8_0", "q5_1", "q5_0", "q4_1", "q4_0")
}
#: Largest error of a matrix that a type's rounding makes, relative to the matrix's norm (4 bits: 0.08 was seen).
_MAX_RELATIVE_ERRORS = {"f32": 0.0, "f16": 1e-3, "bf16": 5e-3, "q8_0": 0.02} | dict.fromkeys(("q5_0", "q5_1"), 0.1)
_MAX_RELATIVE_ERRORS |= dict.fromkeys(("q4_0", "q4_1"), 0.2)
_SPECIAL_ID_KEYS = ("bos_token_id", "eos_token_id", "pad_token_id")  # the tokenizer's own count
_PROBE_COUNT = 1000  # texts
#: The type of a matrix whose rows are no whole number of a type's blocks, as llama.cpp's own tool falls back.
_FALLBACK_TYPE = "F16"


def export_gguf(folder: Path, gguf_path: Path, type_name: str) -> None:
    """Write a model folder as a GGUF file, which appears when it is whole.

    Raises UserError for a folder that is no whole LLaMA, a type that is not in `FILE_TYPES`, and a disk that does not take it.
    """
    import gguf

    if type_name not in FILE_TYPES:
        raise UserError(f"{type_name!r} is no type of GGUF", where="--gguf", hint=", ".join(FILE_TYPES))
    ModelFolder(str(folder)).check_model()
    config = _llama_configuration(folder)
    if not gguf_path.absolute().parent.is_dir():
        raise UserError("no such folder", where=gguf_path.parent)
    temporary_path = gguf_path.with_name(f".{gguf_path.name}.{os.getpid()}.tmp")
    try:
        with catch_write_errors(gguf_path):
            writer = gguf.GGUFWriter(temporary_path, ARCHITECTURE)
            _add_configuration(writer, config, folder)
            writer.add_file_type(gguf.LlamaFileType[FILE_TYPES[type_name]])
            writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
            for key, value in vocabulary_metadata(
                tokenizers.load_tokenizer(folder), folder, config["vocab_size"]
            ).items():
                writer.add_array(key, value) if isinstance(value, list) else _add_scalar(writer, key, value)
            for name, numbers, quantization in _tensors(folder, config, type_name):
                writer.add_tensor(name, numbers, raw_dtype=quantization)
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
            writer.close()
            check_exported_file(folder, config, temporary_path, type_name)
            temporary_path.replace(gguf_path)
    finally:
        temporary_path.unlink(missing_ok=True)


def check_exported_file(folder: Path, config: dict[str, Any], gguf_path: Path, type_name: str) -> None:
    """Read a file back and compare it with the folder: configuration, every matrix, and token ids of adversarial texts.

    Raises UserError that names the first difference; of a matrix, one beyond what its type rounds.
    """
    model = read_gguf(gguf_path, "float32")
    for key, value in model.configuration.items():
        if key in config and key not in _SPECIAL_ID_KEYS and value != config[key]:
            raise UserError(f"{key} is {config[key]}, and {value} in the file that was read back", where=folder)
    state = _state(folder)
    with tempfile.TemporaryDirectory(dir=gguf_path.parent) as temporary_name:
        back_folder = Path(temporary_name) / "model"
        import_gguf(model, back_folder)
        back_state = _state(back_folder)
        for name, back_tensor in back_state.items():
            error = float(
                (back_tensor.float() - state[name].float()).norm() / state[name].float().norm().clamp(min=1e-30)
            )
            if error > _MAX_RELATIVE_ERRORS[type_name]:
                raise UserError(
                    f"{name} differs in the file that was read back by {error:.2g} of its norm", where=folder
                )
        tokenizer, back_tokenizer = tokenizers.load_tokenizer(folder), tokenizers.load_tokenizer(back_folder)
        spellings = [tokenizer.spelling(id_) or "" for id_ in range(tokenizer.vocab_size)]
        texts = [*tokenizers.probe_texts(_PROBE_COUNT, seed=6), *spellings]
        ids_by_tokenizer = (tokenizer.encode_batch(texts), back_tokenizer.encode_batch(texts))
        for text, ids, back_ids in zip(texts, *ids_by_tokenizer, strict=True):
            if ids != back_ids:
                raise UserError(
                    f"{text!r:.80} has other token ids in the file: this tokenizer cannot be written as GGUF",
                    where=folder,
                )


def _llama_configuration(folder: Path) -> dict[str, Any]:
    """The folder's configuration as gguf_configuration.py builds it; raises UserError where it is no LLaMA's."""
    config = architecture.load_config(folder)
    if config.model_type != "llama":
        raise UserError(f"a {config.model_type} model; only LLaMAs can be written as GGUF", where=folder)
    values = config.to_dict()
    values["head_dim"] = values.get("head_dim") or config.hidden_size // config.num_attention_heads
    if config.hidden_act != "silu":
        raise UserError(f"hidden_act is {config.hidden_act}, and GGUF's LLaMA has silu", where=folder / "config.json")
    return values


def _add_configuration(writer: gguf.GGUFWriter, config: dict[str, Any], folder: Path) -> None:
    """The metadata of the architecture (llama.cpp's convert_hf_to_gguf.py, `set_gguf_parameters`)."""
    import gguf

    writer.add_name(folder.resolve().name)
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


def _tensors(
    folder: Path, config: dict[str, Any], type_name: str
) -> Iterator[tuple[str, NDArray[Any], gguf.GGMLQuantizationType]]:
    """(name in the file, numbers in the type's bytes, type) of each tensor, [outputs, inputs]."""
    import gguf
    import numpy as np

    state = _state(folder)
    for name, shape in expected_shapes(config).items():
        numbers = np.ascontiguousarray(state[state_name(name)].float().numpy())
        if numbers.shape != shape:
            raise UserError(f"{state_name(name)} has the shape {list(numbers.shape)}", where=folder)
        part = name.split(".")[-2]
        if part in ("attn_q", "attn_k"):
            numbers = permute(numbers, config["num_attention_heads" if part == "attn_q" else "num_key_value_heads"])
        quantization = _tensor_type(numbers.shape, type_name)
        if quantization is gguf.GGMLQuantizationType.F32:
            yield name, np.ascontiguousarray(numbers), quantization
        else:
            yield name, gguf.quantize(np.ascontiguousarray(numbers), quantization), quantization
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


def _state(folder: Path) -> dict[str, torch.Tensor]:
    """The weights of a folder by transformers' names, in the files' own types."""
    library_settings.prepare_libraries()
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto", low_cpu_mem_usage=True)
    with torch.no_grad():
        return dict(model.state_dict())


def _rope_factors(config: dict[str, Any]) -> NDArray[np.float32] | None:
    """llama.cpp's factors of the frequencies [head size / 2] for Llama 3's scaling; None for other models."""
    import numpy as np

    from orca_bench.models.gguf.gguf_configuration import llama3_rope_factors

    rope = config["rope_parameters"]
    if rope.get("rope_type") != "llama3":
        return None
    return llama3_rope_factors(rope, config["head_dim"]).astype(np.float32)
