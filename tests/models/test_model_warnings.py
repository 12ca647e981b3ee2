"""What a result warns of its model: the bits of its weights, and what computed with them."""

import pytest

from orca_bench.models.model_warnings import (
    RUN_BY_GPTQ_KERNEL,
    RUN_BY_LLAMACPP,
    has_quantized_bits,
    in_full_precision,
    model_warnings,
    warning_rank,
)


@pytest.mark.parametrize(
    ("computation", "text"),
    [
        (in_full_precision("GGUF"), "computed in full precision: what llama.cpp's own rounding costs besides is not"),
        (in_full_precision("GPTQ"), "computed in full precision: what a GPTQ kernel's own rounding costs besides is"),
        (RUN_BY_LLAMACPP, "run by llama.cpp, which rounds activations too"),
        (RUN_BY_GPTQ_KERNEL, "run by the engine's own kernel, which rounds too"),
    ],
)
def test_the_warning_of_a_quantised_file_says_what_computed(computation, text):
    (warning,) = model_warnings(False, [], 4.5, computation)
    assert warning.startswith(f"its weights are those of a file with 4.50 bits a weight, {text}")
    assert warning_rank(warning) == 2


def test_weights_of_16_bits_or_without_a_file_are_not_quantised():
    assert not has_quantized_bits(16.0) and not has_quantized_bits(None) and has_quantized_bits(8.5)
    assert model_warnings(False, [], None, RUN_BY_LLAMACPP) == []
