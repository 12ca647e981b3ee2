"""What a result warns of its model: the bits of its weights, and what computed with them."""

import pytest

from orca_bench.models.model_warnings import model_warnings, warning_rank


@pytest.mark.parametrize(
    ("is_run_by_llamacpp", "text"),
    [(False, "4.50 bits a weight, computed in full precision"), (True, "4.50 bits a weight, run by llama.cpp, which")],
)
def test_the_warning_of_a_quantised_file_says_what_computed(is_run_by_llamacpp, text):
    (warning,) = model_warnings(False, [], 4.5, is_run_by_llamacpp=is_run_by_llamacpp)
    assert text in warning and warning_rank(warning) == 2


@pytest.mark.parametrize(
    ("is_run_by_gptq_kernel", "text"),
    [(False, "4.50 bits a weight, computed in full precision"), (True, "4.50 bits a weight, run by the engine's own")],
)
def test_the_warning_of_a_gptq_folder_says_what_computed(is_run_by_gptq_kernel, text):
    (warning,) = model_warnings(False, [], None, 4.5, is_run_by_gptq_kernel=is_run_by_gptq_kernel)
    assert text in warning and warning_rank(warning) == 2


def test_a_file_of_16_bits_has_no_warning():
    assert model_warnings(False, [], 16.0, is_run_by_llamacpp=True) == []
