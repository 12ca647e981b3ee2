"""What a reader of a result should know of its model, as sentences, and which of them matters most.

Its own module because an evaluation writes the sentences into results, `generate` prints one of them, and tables and cards
order them.
"""

from __future__ import annotations

from collections.abc import Sequence

#: How the warning of a model's own prompt begins, also in older results; `generate` prints it.
OWN_PROMPT_WARNING = (
    "the model has a chat template of its own: it was not tuned in the Orca prompt, in which it is asked"
)
_OWN_PROTOCOL_HINT = "; `--protocol chat` asks it in its own"
#: What rounds besides where the weights of a quantised format run as they are, and not in full precision.
OWN_ROUNDING_BY_FORMAT = {"GGUF": "llama.cpp's own rounding", "GPTQ": "a GPTQ kernel's own rounding"}
RUN_BY_LLAMACPP = "run by llama.cpp, which rounds activations too"
RUN_BY_GPTQ_KERNEL = "run by the engine's own kernel, which rounds too"
_FEWEST_UNQUANTIZED_BITS = 16.0  # bits of a weight
_BITS_WARNING_START = "its weights are those of a file with "
_MOST_NAMED_WEIGHTS = 3


def model_warnings(
    asks_in_foreign_prompt: bool,
    unused_weight_names: Sequence[str],
    quantized_bits: float | None,
    computation: str,
) -> list[str]:
    """The warnings of a model, the most important one first.

    `asks_in_foreign_prompt` says that it is asked in the Orca prompt and has another one of its own, `unused_weight_names` are
    the weights of its folder that it has no place for, `quantized_bits` are those of a weight in the quantised file or folder
    that it came from, None for a model that is not quantised, and `computation` says what computes with them:
    RUN_BY_LLAMACPP, RUN_BY_GPTQ_KERNEL or `in_full_precision`.
    """
    warnings = [OWN_PROMPT_WARNING + _OWN_PROTOCOL_HINT] if asks_in_foreign_prompt else []
    if unused_weight_names:
        names_text = ", ".join(unused_weight_names[:_MOST_NAMED_WEIGHTS])
        ellipsis = ", …" if len(unused_weight_names) > _MOST_NAMED_WEIGHTS else ""
        warnings.append(f"the model has no place for some weights of its folder: {names_text}{ellipsis}")
    if quantized_bits is not None:
        warnings.append(f"{_BITS_WARNING_START}{quantized_bits:.2f} bits a weight, {computation}")
    return warnings


def in_full_precision(file_format: str) -> str:
    """What computes with weights of a format, GGUF or GPTQ, in float32, float16 or bfloat16: nothing that rounds besides."""
    return f"computed in full precision: what {OWN_ROUNDING_BY_FORMAT[file_format]} costs besides is not measured"


def has_quantized_bits(bits_per_weight: float | None) -> bool:
    """Whether weights of so many bits are quantised; not where the bits are not known."""
    return bits_per_weight is not None and bits_per_weight < _FEWEST_UNQUANTIZED_BITS


def warning_rank(warning: str) -> int:
    """The place of a warning among those of a model, also of an older result: 0 its prompt, 2 its bits, 1 all others."""
    if is_own_prompt_warning(warning):
        return 0
    return 2 if is_bits_warning(warning) else 1


def is_own_prompt_warning(warning: str) -> bool:
    """Whether a warning, also of an older result, says that the model was tuned in another prompt."""
    return warning.startswith(OWN_PROMPT_WARNING)


def is_bits_warning(warning: str) -> bool:
    """Whether a warning, also of an older result, says how many bits a weight has: that the model is quantised."""
    return warning.startswith(_BITS_WARNING_START)
