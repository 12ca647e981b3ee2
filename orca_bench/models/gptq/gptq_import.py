"""A GPTQ folder in, a plain model folder out: its quantised layers dequantised to float32, everything else as it was.

transformers 5.23 reads GPTQ folders by the kernels of GPTQModel alone, which compute in float16. Here the weights are computed
exactly, so that a model's score shows what its rounding costs and not what a kernel adds. `folder_of` has the plain folder in the
user's cache, so that a GPTQ folder can stand wherever a model folder can: four bytes a weight on the disk, once for each folder.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orca_bench import library_settings
from orca_bench.errors import UserError, one_line
from orca_bench.files import cache_folder, open_folder_replacement, read_json, write_json
from orca_bench.hub import ShowMessage
from orca_bench.models import architecture, import_cache, small_files
from orca_bench.models.gptq.gptq_layout import GROUP_INDEX, LAYER_PARTS, QUANTIZED_WEIGHTS, PackedLayer, check_part
from orca_bench.models.quantization import quantization_settings
from orca_bench.models.weight_shards import write_shards
from orca_bench.models.weights import catch_loading_errors

if TYPE_CHECKING:
    import torch
    from safetensors import safe_open

#: What the plain folder says of the one that it comes from.
ORIGIN_FILE = "gptq.json"
METHOD = "gptq"
_FORMAT_VERSION = 3  # of the folders in the cache: raised when the same folder gives another one
#: `checkpoint_format` of what can be read, and whether zeros are stored less one; the others are orders of single kernels.
_FIRST_FORMAT, _SECOND_FORMAT = "gptq", "gptq_v2"
_WORD_DTYPE = "int32"
_DEFAULT_GROUP_SIZE = 128  # of AutoGPTQ's BaseQuantizeConfig
#: Files by which a folder is known again: weights, and what the model, the tokenizer and the prompt are made of.
_KEY_SUFFIXES = (".safetensors", ".json", ".jinja", ".model", ".txt", ".tiktoken")
_DTYPE_BYTES = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "F16": 2, "BF16": 2, "I16": 2}


def is_gptq(folder: Path) -> bool:
    """Whether a folder's config.json, or quantize_config.json of older folders, says GPTQ."""
    return quantization_settings(folder).get("quant_method") == METHOD


def folder_of(folder: Path, show_message: ShowMessage = lambda line: None) -> Path:
    """The plain folder in the user's cache with what is in a GPTQ folder; written at its first use, which `show_message` names.

    It belongs to the path, and to the sizes and times of change of the files of weights, settings and tokenizer.
    """

    def write_folder(plain_folder: Path) -> None:
        show_message(f"{folder}: GPTQ weights are written as float32 to {plain_folder}, once")
        import_gptq(folder, plain_folder)

    key_paths = {
        path.name: path
        for path in sorted(folder.iterdir())
        if path.is_file() and path.suffix in _KEY_SUFFIXES and not path.name.startswith(".")
    }
    cache_key = import_cache.cache_key([_FORMAT_VERSION, str(folder.resolve())], key_paths)
    plain_folder = cache_folder(METHOD) / cache_key / (folder.resolve().name or "model")
    return import_cache.write_once(plain_folder, ORIGIN_FILE, write_folder)


def import_gptq(folder: Path, plain_folder: Path) -> None:
    """Write the plain folder, which appears when it is whole.

    Raises UserError for a folder that is not whole, another order of bits than AutoGPTQ's, and a disk that does not take it.
    """
    settings = _Settings.read(folder)
    with _open_weights(folder) as weights, open_folder_replacement(plain_folder) as temporary_folder:
        config = {key: value for key, value in read_json(folder / "config.json").items() if key != "torch_dtype"}
        config.pop("quantization_config", None)
        write_json(temporary_folder / "config.json", config | {"dtype": "float32"})
        small_files.copy_small_files(folder, temporary_folder)
        bits_per_weight = _write_weights(weights, settings, temporary_folder)
        write_json(
            temporary_folder / ORIGIN_FILE,
            {
                "folder": folder.resolve().name,
                "bits": settings.bits,
                "group_size": settings.group_size,
                "bits_per_weight": round(bits_per_weight, 4),
            },
        )


def stored_bits_per_weight(folder: Path) -> float | None:
    """The bits of a weight in the GPTQ folder that a folder is or was written from; None for another folder.

    None also for a GPTQ folder without weights, and one that cannot be read here: an engine of its own may run it.
    """
    if not is_gptq(folder):
        return import_cache.origin_bits_per_weight(folder / ORIGIN_FILE)
    try:
        settings = _Settings.read(folder)
        with _open_weights(folder) as weights:
            return round(_TensorPlan.of(weights, settings, folder).bits_per_weight(weights), 4)
    except UserError:
        return None


@dataclass(frozen=True)
class _Settings:
    """What a folder says of its quantised layers; layers of other bits say so by their shapes."""

    bits: int
    group_size: int
    subtracts_one_from_zeros: bool

    @staticmethod
    def read(folder: Path) -> _Settings:
        """The settings; raises UserError for another order of bits than AutoGPTQ's."""
        settings = quantization_settings(folder)
        where = folder / "config.json"
        checkpoint_format = settings.get("checkpoint_format") or settings.get("format") or _FIRST_FORMAT
        if checkpoint_format not in (_FIRST_FORMAT, _SECOND_FORMAT):
            raise UserError(
                f"GPTQ weights in the order of {one_line(str(checkpoint_format), 40)}; those of gptq and gptq_v2 can be read",
                where=where,
            )
        if (word_dtype := settings.get("pack_dtype") or _WORD_DTYPE) != _WORD_DTYPE:
            raise UserError(
                f"GPTQ weights in words of {one_line(str(word_dtype), 40)}; {_WORD_DTYPE} can be read", where=where
            )
        group_size = _whole_number(settings, "group_size", _DEFAULT_GROUP_SIZE, where)
        if group_size < -1 or group_size == 0:
            raise UserError(
                f"group_size of the quantisation is {group_size}, expected a positive number, or -1 for one group",
                where=where,
            )
        return _Settings(_whole_number(settings, "bits", None, where), group_size, checkpoint_format == _FIRST_FORMAT)


def _whole_number(settings: dict[str, Any], key: str, default: int | None, where: Path) -> int:
    number = settings.get(key, default)
    if not isinstance(number, int) or isinstance(number, bool):
        raise UserError(f"{key} of the quantisation is {number!r:.40}, expected a whole number", where=where)
    return number


class _Weights:
    """All tensors of a folder's safetensors files: their shapes and sizes by name, their numbers one at a time."""

    def __init__(self, folder: Path, files: list[safe_open]):
        self.folder = folder
        self._file_by_name = {name: file for file in files for name in file.keys()}  # noqa: SIM118
        self.names = sorted(self._file_by_name)
        self.layer_names = [
            name.removesuffix(f".{QUANTIZED_WEIGHTS}") for name in self.names if name.endswith(f".{QUANTIZED_WEIGHTS}")
        ]

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor; raises UserError where there is none of this name."""
        if name not in self._file_by_name:
            raise UserError(f"the files lack {name}", where=self.folder, hint="copy the folder again")
        return tuple(self._file_by_name[name].get_slice(name).get_shape())

    def dtype(self, name: str) -> str:
        """The type of a tensor's numbers as safetensors names it; raises UserError where there is none of this name."""
        self.shape(name)
        return str(self._file_by_name[name].get_slice(name).get_dtype())

    def byte_count(self, name: str) -> int:
        """The bytes of a tensor in the file."""
        return _DTYPE_BYTES.get(self.dtype(name), 1) * math.prod(self.shape(name))

    def tensor(self, name: str) -> torch.Tensor:
        """The numbers of a tensor, as they are stored."""
        self.shape(name)
        return self._file_by_name[name].get_tensor(name)

    def __contains__(self, name: str) -> bool:
        return name in self._file_by_name


@contextmanager
def _open_weights(folder: Path) -> Iterator[_Weights]:
    """The tensors of all safetensors files of a folder, whatever they are called."""
    from safetensors import SafetensorError, safe_open

    paths = sorted(folder.glob("*.safetensors"))
    if not paths:
        raise UserError("no weights (*.safetensors) in this GPTQ folder", where=folder)
    with ExitStack() as stack:
        files = []
        for path in paths:
            try:
                files.append(stack.enter_context(safe_open(path, framework="pt")))
            except (SafetensorError, OSError) as error:
                raise UserError(
                    f"not a whole safetensors file ({one_line(error, 200)})", where=path, hint="copy it again"
                ) from None
        yield _Weights(folder, files)


@dataclass(frozen=True)
class _TensorPlan:
    """The tensors of the plain folder: their numbers of weights by name, and the quantised layer of each that comes from one."""

    weight_counts: dict[str, int]
    layers: dict[str, str]

    @staticmethod
    def of(weights: _Weights, settings: _Settings, config_folder: Path) -> _TensorPlan:
        """The plan from the headers of files and the model of a config.json. Raises UserError for missing or damaged parts."""
        if not weights.layer_names:
            raise UserError(
                "the configuration says GPTQ, and no layer is quantised",
                where=weights.folder,
                hint="copy the folder again",
            )
        for layer_name in weights.layer_names:
            for part in LAYER_PARTS:
                name = f"{layer_name}.{part}"
                if part != GROUP_INDEX or name in weights:
                    check_part(layer_name, part, weights.dtype(name), weights.shape(name), weights.folder)
        skipped_names = _part_names(weights) | _padding_bias_names(weights, config_folder)
        weight_counts = {name: math.prod(weights.shape(name)) for name in weights.names if name not in skipped_names}
        layers = {f"{layer_name}.weight": layer_name for layer_name in weights.layer_names}
        for weight_name, layer_name in layers.items():
            output_count = weights.shape(f"{layer_name}.{QUANTIZED_WEIGHTS}")[-1]
            weight_counts[weight_name] = _input_count(weights, layer_name, settings) * output_count
        return _TensorPlan(weight_counts, layers)

    def bits_per_weight(self, weights: _Weights) -> float:
        """The bits that the GPTQ folder spends on a weight."""
        stored_names = (self.weight_counts.keys() - self.layers.keys()) | _part_names(weights)
        stored_bytes = sum(weights.byte_count(name) for name in stored_names if name in weights)
        return 8 * stored_bytes / sum(self.weight_counts.values())


def _part_names(weights: _Weights) -> set[str]:
    return {f"{layer_name}.{part}" for layer_name in weights.layer_names for part in LAYER_PARTS}


def _write_weights(weights: _Weights, settings: _Settings, plain_folder: Path) -> float:
    """Write the weights as a plain folder has them; returns the bits that the GPTQ folder spends on a weight."""
    plan = _TensorPlan.of(weights, settings, plain_folder)

    def tensor_of(name: str) -> torch.Tensor:
        if name not in plan.layers:
            return weights.tensor(name)
        return _packed_layer(weights, plan.layers[name], settings).dequantize(weights.folder)

    byte_counts = {name: 4 * count for name, count in plan.weight_counts.items()}
    write_shards(byte_counts, ((name, tensor_of(name)) for name in byte_counts), plain_folder)
    return plan.bits_per_weight(weights)


def _packed_layer(weights: _Weights, layer_name: str, settings: _Settings) -> PackedLayer:
    tensors = {part: weights.tensor(f"{layer_name}.{part}") for part in LAYER_PARTS if part != GROUP_INDEX}
    if f"{layer_name}.{GROUP_INDEX}" in weights:
        tensors[GROUP_INDEX] = weights.tensor(f"{layer_name}.{GROUP_INDEX}")
    bits = _layer_bits(weights, layer_name, settings)
    return PackedLayer(layer_name, bits, settings.group_size, settings.subtracts_one_from_zeros, tensors)


def _layer_bits(weights: _Weights, layer_name: str, settings: _Settings) -> int:
    """The bits of a layer's numbers: GPTQModel's `dynamic` gives single layers others than the folder's.

    Words per column over inputs, where the layer names its inputs' groups.
    """
    if f"{layer_name}.{GROUP_INDEX}" not in weights:
        return settings.bits
    word_count, input_count = (weights.shape(f"{layer_name}.{part}")[0] for part in (QUANTIZED_WEIGHTS, GROUP_INDEX))
    return 32 * word_count // max(input_count, 1)


def _input_count(weights: _Weights, layer_name: str, settings: _Settings) -> int:
    word_count = weights.shape(f"{layer_name}.{QUANTIZED_WEIGHTS}")[0]
    return 32 * word_count // max(_layer_bits(weights, layer_name, settings), 1)


def _padding_bias_names(weights: _Weights, config_folder: Path) -> set[str]:
    """The biases of quantised layers that the model does not have: older quantisers give each layer one, all zeros."""
    library_settings.prepare_libraries()
    import torch
    from transformers import AutoModelForCausalLM

    names = {f"{layer_name}.bias" for layer_name in weights.layer_names if f"{layer_name}.bias" in weights}
    if not names:
        return set()
    try:
        config = architecture.load_config(config_folder)
    except UserError:  # another architecture: said where the model is checked
        return set()
    if architecture.unsupported_reason(config):
        return set()
    with catch_loading_errors(weights.folder), torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    model_names = set(model.state_dict())
    return {name for name in names if name not in model_names and not weights.tensor(name).any()}
