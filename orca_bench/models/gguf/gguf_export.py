"""A folder of a LLaMA in, a GGUF file out: weights in llama.cpp's order and types of its own, tokenizer and chat template.

The opposite of gguf_import.py. Float32 is exact; other types are rounded by gguf_encoding.py, each matrix to the type that
gguf_type_choice.py has for it. Vectors (norms) stay in float32, as llama.cpp wants them. The file is read back and compared with
the folder (gguf_export_check.py) before it has its name. The price: the folder's weights and the file's in memory, and for the
comparison both once in float32.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orca_bench.counts import ReportProgress
from orca_bench.errors import UserError, check_choice
from orca_bench.files import catch_write_errors, path_replacement
from orca_bench.models.gguf.gguf_configuration import (
    ARCHITECTURE,
    ROPE_FACTORS,
    check_rope_parameters,
    llama3_rope_factors,
    llama_configuration,
)
from orca_bench.models.gguf.gguf_encoding import check_libgguf_installed, encode, needs_libgguf
from orca_bench.models.gguf.gguf_export_check import ExportReport, check_written_file
from orca_bench.models.gguf.gguf_file import check_gguf_installed
from orca_bench.models.gguf.gguf_tokenizer import vocabulary_metadata
from orca_bench.models.gguf.gguf_type_choice import ModelShape, tensor_type
from orca_bench.models.gguf.gguf_types import FILE_TYPES, IMPORTANCE_TYPES
from orca_bench.models.gguf.gguf_weights import expected_shapes, permute, state_name
from orca_bench.models.gguf.importance_matrix import ImportanceMatrix
from orca_bench.models.model_folder import ModelFolder
from orca_bench.models.model_loading import load_on_cpu

if TYPE_CHECKING:
    import gguf
    import numpy as np
    from numpy.typing import NDArray
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class ExportPlan:
    """What is to be written, checked: a folder with its configuration and vocabulary, the file, and its type."""

    model_folder: ModelFolder
    configuration: dict[str, Any]
    vocabulary: dict[str, Any]
    gguf_path: Path
    type_name: str


def check_export(
    model_folder: ModelFolder, gguf_path: Path, type_name: str, with_importance: bool = False
) -> ExportPlan:
    """What `write_export` writes. Raises UserError for what can be seen to be wrong without the weights' numbers.

    That is a folder that is no whole LLaMA, a scaling of its rotary embedding that GGUF cannot hold, a type that is not in
    `FILE_TYPES`, a package that is not installed, a tokenizer of another model or one that GGUF cannot express.
    """
    check_gguf_installed(model_folder.path)
    check_choice(type_name, tuple(FILE_TYPES), "--gguf")
    if with_importance and type_name not in IMPORTANCE_TYPES:
        raise UserError(f"an importance matrix changes nothing in a file of {type_name}", where="--imatrix")
    model_folder.check_model()
    configuration = llama_configuration(model_folder.config, model_folder.path)
    check_rope_parameters(
        configuration["rope_parameters"], configuration["head_dim"], Path(model_folder.path) / "config.json"
    )
    if any(needs_libgguf(name, with_importance) for name in _tensor_types(configuration, type_name, with_importance)):
        check_libgguf_installed(f"{type_name}{' with an importance matrix' if with_importance else ''}")
    if (id_count := model_folder.tokenizer.vocab_size) > configuration["vocab_size"]:
        raise UserError(
            f"the tokenizer has {id_count} ids and the embedding {configuration['vocab_size']} rows",
            where=model_folder.path,
            hint="a GGUF file has a row for every id: enlarge the embedding (resize_token_embeddings), or use the model's own "
            "tokenizer",
        )
    vocabulary = vocabulary_metadata(model_folder.tokenizer, Path(model_folder.path), configuration["vocab_size"])
    if not gguf_path.absolute().parent.is_dir():
        raise UserError("no such folder", where=gguf_path.parent)
    return ExportPlan(model_folder, configuration, vocabulary, gguf_path, type_name)


def export_gguf(
    model_folder: ModelFolder,
    gguf_path: Path,
    type_name: str,
    importance: ImportanceMatrix | None = None,
    progress: ReportProgress = lambda done_count, total: None,
) -> ExportReport:
    """Check a model folder and write it as a GGUF file: see `check_export` and `write_export`."""
    return write_export(check_export(model_folder, gguf_path, type_name, importance is not None), importance, progress)


def write_export(
    plan: ExportPlan,
    importance: ImportanceMatrix | None = None,
    progress: ReportProgress = lambda done_count, total: None,
) -> ExportReport:
    """Write a model folder as a GGUF file, which appears when it is whole and was compared with the folder.

    `progress` is told (matrices done, all matrices). Raises UserError for a disk that does not take the file, and for a file
    that is not the folder's model.
    """
    model = load_on_cpu(plan.model_folder.path, "auto")  # in the files' own types
    with path_replacement(plan.gguf_path) as temporary_path:
        with catch_write_errors(plan.gguf_path):
            _write_file(plan, model, temporary_path, importance, progress)
        return check_written_file(plan.model_folder, model, temporary_path)


def _write_file(
    plan: ExportPlan,
    model: PreTrainedModel,
    gguf_path: Path,
    importance: ImportanceMatrix | None,
    progress: ReportProgress,
) -> None:
    import gguf

    writer = gguf.GGUFWriter(gguf_path, ARCHITECTURE)
    writer.add_name(plan.model_folder.name)
    _add_configuration(writer, plan.configuration)
    writer.add_file_type(gguf.LlamaFileType[FILE_TYPES[plan.type_name]])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    metadata = plan.vocabulary | ({} if importance is None else importance.metadata())
    for key, value in metadata.items():
        writer.add_array(key, value) if isinstance(value, list) else _add_scalar(writer, key, value)
    for name, blocks, quantization in _tensors(plan, model, importance, progress):
        writer.add_tensor(name, blocks, raw_dtype=quantization)
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    except OSError as error:
        if error.errno is None:  # numpy's tofile (2.4) says how much it wrote, and not why that was not all
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
        raise


def _add_configuration(writer: gguf.GGUFWriter, config: dict[str, Any]) -> None:
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


def _add_scalar(writer: gguf.GGUFWriter, key: str, value: str | int | bool) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    else:
        writer.add_string(key, value)


def _tensor_types(configuration: dict[str, Any], type_name: str, with_importance: bool) -> set[str]:
    shape = ModelShape.of(configuration)
    return {
        tensor_type(name, tensor_shape, type_name, shape, with_importance)
        for name, tensor_shape in expected_shapes(configuration).items()
    }


def _tensors(
    plan: ExportPlan, model: PreTrainedModel, importance: ImportanceMatrix | None, progress: ReportProgress
) -> Iterator[tuple[str, NDArray[Any], gguf.GGMLQuantizationType]]:
    """(name in the file, numbers in the type's bytes, type) of each tensor, [outputs, inputs]."""
    import gguf
    import numpy as np

    config, state = plan.configuration, model.state_dict()
    model_shape, shapes = ModelShape.of(config), expected_shapes(config)
    for tensor_number, (name, shape) in enumerate(shapes.items(), 1):
        numbers = state[state_name(name)].float().numpy()
        if numbers.shape != shape:
            raise UserError(f"{state_name(name)} has the shape {list(numbers.shape)}", where=plan.model_folder.path)
        part = name.split(".")[-2]
        if part in ("attn_q", "attn_k"):
            numbers = permute(numbers, config["num_attention_heads" if part == "attn_q" else "num_key_value_heads"])
        own_type = tensor_type(name, shape, plan.type_name, model_shape, importance is not None)
        own_importance = None if importance is None else importance.importance_by_tensor.get(name)
        blocks = encode(np.ascontiguousarray(numbers), own_type, own_importance)
        yield name, blocks, gguf.GGMLQuantizationType[own_type]
        progress(tensor_number, len(shapes))
    factors = _rope_factors(config)
    if factors is not None:
        yield ROPE_FACTORS, factors, gguf.GGMLQuantizationType.F32


def _rope_factors(config: dict[str, Any]) -> NDArray[np.float32] | None:
    """llama.cpp's factors of the frequencies [head size / 2] for Llama 3's scaling; None for other models."""
    import numpy as np

    rope = config["rope_parameters"]
    if rope.get("rope_type") != "llama3":
        return None
    return llama3_rope_factors(rope, config["head_dim"]).astype(np.float32)
