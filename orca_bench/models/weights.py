"""A model folder in, nothing out where its weights are those that its config.json describes; else an error that names them.

transformers 5.23 gives random numbers to a weight that it does not find, and only logs it: a folder with prefixed names, or
without its head, is evaluated at chance and trained from nothing. So the model is loaded on torch's meta device and
the loading report is checked: only file headers are read, which takes seconds for a model of any size. Its own module because
evaluation, generation and training all need it before they load.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import re
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from orca_bench import library_settings
from orca_bench.counts import counted
from orca_bench.errors import UserError, one_line
from orca_bench.files import lfs_pointer_hint, read_json

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel

SAFETENSORS_INDEX, PICKLE_INDEX = "model.safetensors.index.json", "pytorch_model.bin.index.json"
_MAX_WEIGHT_NAMES_IN_MESSAGE = 3  # names of weights in one message
#: What wrappers put into the names of weights, by the library that does it.
_LIBRARY_BY_WRAPPER = {
    "_orig_mod": "torch.compile",
    "module": "DataParallel or DeepSpeed",
    "_fsdp_wrapped_module": "FSDP",
    "_checkpoint_wrapped_module": "activation checkpointing",
    "_forward_module": "Lightning",
}
_ADAPTER_PATTERN = re.compile(r"\.(lora_[AB]|lora_embedding_[AB]|base_layer|modules_to_save)\b")
#: Buffers that older versions of transformers saved and newer ones compute: not weights.
_BUFFER_PATTERN = re.compile(
    r"(^|\.)(inv_freq|masked_bias|cos_cached|sin_cached|position_ids)$|\.(attn|attention)\.bias$"
)


def check_weights(folder: str | Path, config: PretrainedConfig) -> list[str]:
    """Refuse a folder whose weights are incomplete, of another shape or of another model; returns the names of unused ones.

    `config` is the folder's. Unused are weights of parts that a causal language model does not have, such as a value head or an
    image encoder. Raises UserError for: a weight that is missing, a shape that differs, a weight that belongs into the model
    and has no place in it (further layers, biases, unmerged adapters), a shard that is absent, a file that is cut off.
    """
    integer_weight_names = _integer_weight_names(Path(folder))
    library_settings.prepare_libraries()
    from transformers import AutoModelForCausalLM

    with catch_loading_errors(folder):
        model, loading_report = AutoModelForCausalLM.from_pretrained(
            folder,
            config=copy.deepcopy(config),  # transformers 5.23 writes into it where a quantized text model is a part
            device_map="meta",
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    missing_names, unexpected_names = sorted(loading_report["missing_keys"]), sorted(loading_report["unexpected_keys"])
    _check_shapes(loading_report["mismatched_keys"], folder)
    if missing_names:
        raise UserError(
            f"the files lack {counted(len(missing_names), 'weight')} of the model "
            f"({_weight_names_text(missing_names)}), which would be random numbers",
            where=folder,
            hint=_mismatch_reason(missing_names, unexpected_names),
        )
    if loading_report["error_msgs"]:
        raise UserError(f"the weights cannot be loaded ({one_line(loading_report['error_msgs'], 200)})", where=folder)
    surplus_names = [name for name in unexpected_names if not _BUFFER_PATTERN.search(name)]
    misplaced_names = [name for name in surplus_names if _belongs_to_model(name, model)]
    if misplaced_names:
        raise UserError(
            f"the files hold {counted(len(misplaced_names), 'weight')} without a place in the model of config.json "
            f"({_weight_names_text(misplaced_names)})",
            where=folder,
            hint=_mismatch_reason([], misplaced_names)
            or "config.json is another model's, or says fewer layers or no biases",
        )
    _check_numbers(integer_weight_names, folder, model)
    return surplus_names


@contextlib.contextmanager
def catch_loading_errors(folder: str | Path) -> Iterator[None]:
    """A block around transformers' loading: its own report is hidden, and whatever it raises becomes a UserError."""
    log_messages: list[str] = []

    def collect(record: logging.LogRecord) -> bool:
        log_messages.append(record.getMessage())
        return False

    logger = logging.getLogger("transformers.modeling_utils")
    logger.addFilter(collect)
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # another architecture, a broken file, no memory: one thing to the user
        problem = _conversion_error(log_messages) or f"transformers cannot load a model here ({one_line(error, 200)})"
        raise UserError(problem, where=folder) from error
    finally:
        logger.removeFilter(collect)


def _integer_weight_names(folder: Path) -> list[str]:
    """The names of the weights that are integers in the files that transformers reads.

    Raises UserError for a shard that is absent, an index that is absent, and a file that is not whole.
    """
    from safetensors import SafetensorError, safe_open

    shard_paths = sorted(folder.glob("model-*-of-*.safetensors"))
    if (folder / SAFETENSORS_INDEX).is_file():
        _check_index(folder / SAFETENSORS_INDEX)
    elif shard_paths and not (folder / "model.safetensors").is_file():
        raise UserError(
            f"shards of weights ({shard_paths[0].name}, …) without their index {SAFETENSORS_INDEX}",
            where=folder,
            hint="copy it too",
        )
    integer_names: list[str] = []
    for weights_file in sorted(folder.glob("model*.safetensors")):
        try:
            with safe_open(weights_file, framework="pt") as tensors:
                dtype_by_name = {name: tensors.get_slice(name).get_dtype() for name in tensors.keys()}  # noqa: SIM118
                integer_names += [name for name, dtype in dtype_by_name.items() if dtype.startswith(("I", "U"))]
        except (SafetensorError, OSError) as error:
            hint = (lfs_pointer_hint(weights_file) if weights_file.is_file() else None) or "copy or download it again"
            raise UserError(
                f"not a whole safetensors file ({one_line(error, 200)})", where=weights_file, hint=hint
            ) from None
    if any(folder.glob("model*.safetensors")):
        return integer_names  # transformers does not read the pickles beside them
    if (folder / PICKLE_INDEX).is_file():
        _check_index(folder / PICKLE_INDEX)
    for weights_file in sorted(folder.glob("pytorch_model*.bin")):
        if pointer_hint := lfs_pointer_hint(weights_file):
            raise UserError("not a file of weights", where=weights_file, hint=pointer_hint)
        integer_names += _check_pickle(weights_file)
    return integer_names


def _check_pickle(pickle_file: Path) -> list[str]:
    """The names of the integers in a file.

    Raises UserError where torch cannot read it without running code; its own message advises to run the code.
    """
    import torch

    try:  # no tensor is read: transformers 5.23 does the same (modeling_utils.load_state_dict)
        state_dict = torch.load(
            pickle_file, map_location="meta", weights_only=True, mmap=zipfile.is_zipfile(pickle_file)
        )
    except Exception as error:  # a damaged pickle raises errors of many types
        raise UserError(
            "damaged, or it holds more than tensors", where=pickle_file, hint="copy it again, or save it as safetensors"
        ) from error
    if not isinstance(state_dict, dict):
        raise UserError("not names with their weights", where=pickle_file, hint="save the model's state_dict()")
    return [
        name
        for name, tensor in state_dict.items()
        if isinstance(tensor, torch.Tensor) and str(tensor.dtype).startswith(("torch.int", "torch.uint"))
    ]


def _check_index(index_path: Path) -> None:
    """Raise UserError where an index of shards is none, or names files that are absent."""
    index_content = read_json(index_path)
    file_by_weight = index_content.get("weight_map") if isinstance(index_content, dict) else None
    if not isinstance(file_by_weight, dict) or not all(isinstance(name, str) for name in file_by_weight.values()):
        raise UserError("not an index of weights: it has no 'weight_map'", where=index_path)
    absent_file_names = sorted(
        name for name in set(file_by_weight.values()) if not (index_path.parent / name).is_file()
    )
    if absent_file_names:
        raise UserError(
            f"of {len(set(file_by_weight.values()))} files of weights {len(absent_file_names)} are absent "
            f"({_weight_names_text(absent_file_names)})",
            where=index_path.parent,
            hint="copy the folder again",
        )


def _check_numbers(integer_weight_names: list[str], folder: str | Path, model: PreTrainedModel) -> None:
    """Raise UserError for integers where the model has real numbers, in a folder whose config.json names no quantization.

    transformers 5.23 takes each integer for the weight itself, and a quantized model whose config.json has lost its
    `quantization_config` answers at chance.
    """
    if getattr(model.config, "quantization_config", None):
        return
    tensor_by_name = model.state_dict()
    wrong_type_names = [
        name
        for name in sorted(integer_weight_names)
        if not _BUFFER_PATTERN.search(name) and (name not in tensor_by_name or tensor_by_name[name].is_floating_point())
    ]
    if wrong_type_names:
        raise UserError(
            f"{counted(len(wrong_type_names), 'weight')} in the files are integers ({_weight_names_text(wrong_type_names)}), "
            f"and config.json names no quantization",
            where=folder,
            hint="config.json has lost its quantization_config, or the files were not saved by transformers",
        )


def _check_shapes(shape_mismatches: Iterable[tuple[str, torch.Size, torch.Size]], folder: str | Path) -> None:
    """Raise UserError for weights of another shape than the model's: (name, shape in the file, shape in the model)."""
    mismatch_texts = [
        f"{name} is {_shape_text(actual_shape)} and should be {_shape_text(expected_shape)}"
        for name, actual_shape, expected_shape in sorted(shape_mismatches)
    ]
    if mismatch_texts:
        raise UserError(
            f"{counted(len(mismatch_texts), 'weight')} of another shape than config.json says: "
            f"{_weight_names_text(mismatch_texts)}",
            where=folder,
            hint="config.json and weights are of two models",
        )


def _shape_text(shape: Iterable[int]) -> str:
    return "×".join(str(length) for length in shape)


def _belongs_to_model(weight_name: str, model: PreTrainedModel) -> bool:
    """Whether a weight would stand inside a part that the model has, so that the model without it is another one."""
    if _ADAPTER_PATTERN.search(weight_name):
        return True
    module_paths = {module_path for module_path, _ in model.named_modules()}
    prefix = model.base_model_prefix
    module_names = weight_name.split(".")[:-1]
    for prefix_part_count in range(len(module_names), 0, -1):
        module_path = ".".join(module_names[:prefix_part_count])
        if module_path in module_paths or f"{prefix}.{module_path}" in module_paths:
            return module_path != prefix
    return False


def _mismatch_reason(missing_names: list[str], surplus_names: list[str]) -> str | None:
    """Why names do not fit, and what to do about it; None where the names do not tell."""
    if any(_ADAPTER_PATTERN.search(name) for name in surplus_names):
        return "an adapter was not merged: use peft's merge_and_unload() and save_pretrained()"
    for wrapper, library in _LIBRARY_BY_WRAPPER.items():
        wrapped_names = [name for name in surplus_names if wrapper in name.split(".")]
        if wrapped_names and (
            not missing_names or any(_remove_wrappers(name) in missing_names for name in wrapped_names)
        ):
            return f"the names in the files hold '{wrapper}.', which {library} adds: save the model that it wraps"
    for name in surplus_names:
        prefix = next(
            (name.removesuffix(expected) for expected in missing_names if name.endswith(f".{expected}")), None
        )
        if prefix:
            return f"the names in the files begin with '{prefix}': save them without it"
    if missing_names and all(name.startswith(("lm_head.", "embed_out.")) for name in missing_names):
        return (
            "the output head was not saved; where it shares the embeddings, config.json says tie_word_embeddings: true"
        )
    return "the folder is incomplete, or config.json is another model's" if missing_names else None


def _remove_wrappers(weight_name: str) -> str:
    return ".".join(module_name for module_name in weight_name.split(".") if module_name not in _LIBRARY_BY_WRAPPER)


def _conversion_error(log_messages: list[str]) -> str | None:
    """The weights that transformers reports it could not merge into the model's own, such as one expert of many."""
    conversion_lines = [line for text in log_messages for line in text.splitlines() if "| CONVERSION" in line]
    weight_names = [re.sub(r"\x1b\[[0-9;]*m", "", line).split("|")[0].strip() for line in conversion_lines]
    return (
        f"the files lack parts of {counted(len(weight_names), 'weight')} ({_weight_names_text(weight_names)})"
        if weight_names
        else None
    )


def _weight_names_text(names: list[str]) -> str:
    return ", ".join(names[:_MAX_WEIGHT_NAMES_IN_MESSAGE]) + (
        ", …" if len(names) > _MAX_WEIGHT_NAMES_IN_MESSAGE else ""
    )
