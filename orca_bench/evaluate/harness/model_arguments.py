"""`--model_args` of lm-eval's command line, checked: those of its `hf` class that mean something here, each by its name.

A dictionary comes in, as lm-eval read it; a `ModelArguments` goes out. An argument that would change an answer and is not served
is refused; one that changes none (batch sizes) is passed over. Its own module because it knows names and no model.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from orca_bench.errors import UserError, spelling_hint

_DTYPE_NAMES = ("auto", "float32", "bfloat16", "float16")
#: Arguments of `hf` that change no answer, whatever they are.
_IDLE_NAMES = ("batch_size", "max_batch_size", "logits_cache", "offload_folder", "max_memory_per_gpu", "max_cpu_memory")
#: Arguments of `hf` that are refused, but for the values with which they say nothing; and why.
_REFUSED: dict[str, tuple[tuple[Any, ...], str]] = {
    "backend": (("default", "causal"), "only causal language models are evaluated"),
    "subfolder": (("", None), "name the folder itself in pretrained"),
    "truncation": ((False, None), "contexts are cut to the window from the left, as without it"),
    "softmax_dtype": ((None, "float32", "auto"), "log-probabilities are always summed in float64"),
    "mixed_precision_dtype": ((None,), "dtype=bfloat16 gives the type of weights and activations"),
    "trust_remote_code": ((False, None), "code of a model folder is never run"),
    "use_fast_tokenizer": ((True, None), "the slow tokenizers of transformers are not used"),
    "tp_plan": ((None,), "parallelize=True spreads a model over several GPUs"),
    "peft": ((None, ""), "merge the adapter into its base and name the merged folder"),
    "delta": ((None, ""), "add the weights to their base and name the sum's folder"),
    "autogptq": ((False, None, ""), "a GPTQ folder is dequantised by itself"),
    "gptqmodel": ((False, None), "a GPTQ folder is dequantised by itself"),
}


@dataclasses.dataclass(frozen=True)
class ModelArguments:
    """The model arguments that are served. `seed` is that of sampled texts and our own; all others are those of `hf`.

    `pretrained` is a folder, a GGUF file or a hub id; None of another means what it means to `hf`.
    """

    pretrained: str
    revision: str | None = None
    gguf_file: str | None = None
    tokenizer: str | None = None
    dtype: str = "auto"
    device: str | None = None
    parallelize: bool = False
    max_length: int | None = None
    add_bos_token: bool | None = None
    prefix_token_id: int | None = None
    chat_template_args: dict[str, Any] | None = None
    enable_thinking: bool | None = None
    think_end_token: str | int | None = None
    seed: int | None = None


def read_model_arguments(arguments: Mapping[str, Any]) -> ModelArguments:
    """The arguments, checked; raises UserError, with the argument named, for one that is not served or not of its type."""
    values: dict[str, Any] = {}
    field_names = [field.name for field in dataclasses.fields(ModelArguments)]
    for name, value in arguments.items():
        if name in _REFUSED:
            allowed_values, reason = _REFUSED[name]
            if value not in allowed_values:
                raise UserError(f"{name}={value} is not served", where="--model_args", hint=reason)
        elif name in field_names:
            if value is not None:
                values[name] = _converted(name, value)
        elif name not in _IDLE_NAMES:
            raise UserError(
                f"'{name}' is not served",
                where="--model_args",
                hint=spelling_hint(name, field_names) or f"served are {', '.join(field_names)}",
            )
    if not values.get("pretrained"):
        raise UserError(
            "no model", where="--model_args", hint="pretrained=DIR names a model folder, a GGUF file or a hub id"
        )
    if values.get("enable_thinking") and values.get("think_end_token") is None:
        raise UserError("enable_thinking wants a think_end_token, as in lm-eval", where="--model_args")
    return ModelArguments(**values)


def _converted(name: str, value: Any) -> Any:
    """The value of an argument in the type of its field; raises UserError."""
    if name == "dtype":
        dtype_name = str(value).removeprefix("torch.")
        if dtype_name not in _DTYPE_NAMES:
            raise _value_error(name, value, f"one of {', '.join(_DTYPE_NAMES)}")
        return dtype_name
    if name == "think_end_token":
        return int(value) if str(value).isascii() and str(value).isdigit() else str(value)
    if name == "chat_template_args":
        if not isinstance(value, dict):
            raise _value_error(name, value, "a JSON object")
        return value
    expected, convert = _CONVERSIONS.get(name, ("a text", str))
    try:
        return convert(value)
    except (TypeError, ValueError):
        raise _value_error(name, value, expected) from None


def _flag(value: Any) -> bool:
    if value not in (True, False):
        raise ValueError(value)
    return bool(value)


def _count(value: Any) -> int:
    if isinstance(value, bool) or int(value) != value or value < 0:
        raise ValueError(value)
    return int(value)


def _positive_count(value: Any) -> int:
    if _count(value) < 1:
        raise ValueError(value)
    return int(value)


_CONVERSIONS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "parallelize": ("true or false", _flag),
    "add_bos_token": ("true or false", _flag),
    "enable_thinking": ("true or false", _flag),
    "max_length": ("a number of tokens, 1 or more", _positive_count),
    "prefix_token_id": ("a token id", _count),
    "seed": ("a whole number, 0 or more", _count),
}


def _value_error(name: str, value: Any, expected: str) -> UserError:
    return UserError(f"{name} is {value!r}", where="--model_args", hint=f"expected: {expected}")
