"""What a reader of a result should know of its model, as sentences, and which of them matters most.

Its own module because an evaluation writes the sentences into results, `generate` prints one of them, and tables and cards
order them.
"""

from __future__ import annotations

from collections.abc import Sequence

OWN_PROMPT_WARNING = (
    "the model has a chat template of its own: it was not tuned in the Orca prompt, in which it is asked"
)
#: What rounds besides where the weights of a quantised format run as they are, and not in full precision.
OWN_ROUNDING_BY_FORMAT = {"GGUF": "llama.cpp's own rounding", "GPTQ": "a GPTQ kernel's own rounding"}
_FEWEST_UNQUANTIZED_BITS = 16.0  # bits of a weight
_BITS_WARNING_START = "its weights are those of a file with "
_MOST_NAMED_WEIGHTS = 3


def model_warnings(
    asks_in_foreign_prompt: bool,
    unused_weight_names: Sequence[str],
    bits_per_weight: float | None,
    gptq_bits_per_weight: float | None = None,
    is_run_by_llamacpp: bool = False,
    is_run_by_gptq_kernel: bool = False,
) -> list[str]:
    """The warnings of a model, the most important one first.

    `asks_in_foreign_prompt` says that it is asked in the Orca prompt and has another one of its own, `unused_weight_names` are
    the weights of its folder that it has no place for, `bits_per_weight` are those of the GGUF file that it came from, which
    llama.cpp itself runs or not, `gptq_bits_per_weight` those of the GPTQ folder, which an engine's own kernel runs or not.
    """
    warnings = [OWN_PROMPT_WARNING] if asks_in_foreign_prompt else []
    if unused_weight_names:
        names_text = ", ".join(unused_weight_names[:_MOST_NAMED_WEIGHTS])
        ellipsis = ", …" if len(unused_weight_names) > _MOST_NAMED_WEIGHTS else ""
        warnings.append(f"the model has no place for some weights of its folder: {names_text}{ellipsis}")
    for bits, own_rounding, own_computation in (
        (
            bits_per_weight if has_quantized_bits(bits_per_weight) else None,
            OWN_ROUNDING_BY_FORMAT["GGUF"],
            "run by llama.cpp, which rounds activations too" if is_run_by_llamacpp else None,
        ),
        (
            gptq_bits_per_weight,
            OWN_ROUNDING_BY_FORMAT["GPTQ"],
            "run by the engine's own kernel, which rounds too" if is_run_by_gptq_kernel else None,
        ),
    ):
        if bits is not None:
            computation = own_computation or (
                f"computed in full precision: what {own_rounding} costs besides is not measured"
            )
            warnings.append(f"{_BITS_WARNING_START}{bits:.2f} bits a weight, {computation}")
    return warnings


def has_quantized_bits(bits_per_weight: float | None) -> bool:
    """Whether weights of so many bits are quantised; not where the bits are not known."""
    return bits_per_weight is not None and bits_per_weight < _FEWEST_UNQUANTIZED_BITS


def warning_rank(warning: str) -> int:
    """The place of a warning among those of a model, also of an older result: 0 its prompt, 2 its bits, 1 all others."""
    if warning == OWN_PROMPT_WARNING:
        return 0
    return 2 if is_bits_warning(warning) else 1


def is_bits_warning(warning: str) -> bool:
    """Whether a warning, also of an older result, says how many bits a weight has: that the model is quantised."""
    return warning.startswith(_BITS_WARNING_START)
