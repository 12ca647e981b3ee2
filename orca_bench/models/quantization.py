"""A model folder in; by which method its weights are quantised, and why they cannot be read where they cannot, out.

Its own module because folders say it in several places, and transformers 5.23 reads a folder of a method that it does not know as
if its weights were plain numbers, with no more than a warning.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from orca_bench import library_settings
from orca_bench.errors import UserError, one_line
from orca_bench.files import read_json

_HINT = "use the model as it was before it was quantised, or a GPTQ folder or GGUF file of it: these are dequantised exactly"


def quantization_settings(folder: Path) -> dict[str, Any]:
    """What a folder says of its quantisation, `quant_method` among it; nothing where its weights are plain numbers.

    It stands in config.json, in folders that AutoGPTQ wrote before 2024 in quantize_config.json alone.
    Raises UserError where it is no JSON object, or `quant_method` is no text.
    """
    config_file, gptq_file = folder / "config.json", folder / "quantize_config.json"
    config = read_json(config_file) if config_file.is_file() else None
    if not isinstance(config, dict):
        return {}
    if (settings := config.get("quantization_config")) is not None:
        return _checked_settings(settings, "quantization_config is", config_file)
    if gptq_file.is_file():
        return {"quant_method": "gptq"} | _checked_settings(
            read_json(gptq_file), "settings of the quantisation are", gptq_file
        )
    return {}


def _checked_settings(settings: Any, subject: str, where: Path) -> dict[str, Any]:
    if not isinstance(settings, dict):
        raise UserError(f"{subject} {settings!r:.40}, expected a JSON object", where=where)
    method = settings.get("quant_method")
    if method is not None and not isinstance(method, str):
        raise UserError(f"quant_method of the quantisation is {method!r:.40}, expected a name", where=where)
    return settings


def check_quantization(folder: Path) -> None:
    """Raise UserError where the weights are quantised by a method that cannot be read in this process, with the reason.

    Methods that transformers knows are its own to load, where the packages and devices that they need are here.
    """
    settings = quantization_settings(folder)
    if not settings:
        return
    library_settings.prepare_libraries()
    from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING, AutoHfQuantizer

    is_bitsandbytes = bool(settings.get("load_in_8bit") or settings.get("load_in_4bit"))
    method = "bitsandbytes" if is_bitsandbytes else settings.get("quant_method")
    if not is_bitsandbytes and method not in AUTO_QUANTIZATION_CONFIG_MAPPING:
        method_text = (
            "no quant_method" if method is None else f"{one_line(method, 40)}, which transformers does not know"
        )
        raise UserError(f"quantised weights: config.json names {method_text}", where=folder, hint=_HINT)
    try:
        AutoHfQuantizer.from_config(dict(settings), pre_quantized=True).validate_environment(device_map=None)
    except Exception as error:  # a package or a device is missing, or the settings are damaged: one thing to the user
        raise UserError(
            f"the weights are quantised by {method}, and transformers cannot load them here ({one_line(error, 200)})",
            where=folder,
            hint=_HINT,
        ) from error
