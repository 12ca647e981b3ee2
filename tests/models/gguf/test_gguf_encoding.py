"""Matrices are rounded to every type, and both packages read what either has written as the same numbers."""

import sys

import numpy as np
import pytest

gguf = pytest.importorskip("gguf")
libgguf = pytest.importorskip("libgguf")

from orca_bench.errors import UserError  # noqa: E402
from orca_bench.models.gguf.gguf_encoding import check_libgguf_installed, encode, needs_libgguf  # noqa: E402

LARGEST_ERRORS = {"F16": 3e-4, "BF16": 3e-3, "Q8_0": 0.01, "Q6_K": 0.03, "Q5_0": 0.06, "Q5_1": 0.06, "Q5_K": 0.06}
LARGEST_ERRORS |= dict.fromkeys(("Q4_0", "Q4_1", "Q4_K", "IQ4_NL", "IQ4_XS"), 0.12) | {"Q3_K": 0.2, "Q2_K": 0.4}
ROUNDED_TYPES = [name for name in LARGEST_ERRORS if name not in ("F16", "BF16")]


@pytest.fixture(scope="module")
def numbers():
    return np.random.default_rng(0).normal(size=(24, 512)).astype(np.float32) * 0.02


@pytest.fixture(scope="module")
def importance():
    return np.random.default_rng(1).lognormal(sigma=2, size=512).astype(np.float32)


def dequantize(blocks, type_name):
    return gguf.dequantize(blocks, gguf.GGMLQuantizationType[type_name])


@pytest.mark.parametrize("type_name", LARGEST_ERRORS)
def test_a_type_rounds_by_what_its_bits_say(numbers, type_name):
    error = np.linalg.norm(dequantize(encode(numbers, type_name), type_name) - numbers) / np.linalg.norm(numbers)
    assert LARGEST_ERRORS[type_name] / 10 < error < LARGEST_ERRORS[type_name]


@pytest.mark.parametrize("with_importance", [False, True])
@pytest.mark.parametrize("type_name", ROUNDED_TYPES)
def test_the_reader_dequantises_what_was_written_exactly_as_llamacpps_own_code(
    numbers, importance, type_name, with_importance
):
    blocks = encode(numbers, type_name, importance if with_importance else None)
    compiled = libgguf.dequantize_rows(blocks, gguf.GGMLQuantizationType[type_name], numbers.shape[1])
    assert np.array_equal(dequantize(blocks, type_name), compiled)


@pytest.mark.parametrize("type_name", [name for name in ROUNDED_TYPES if not needs_libgguf(name, False)])
def test_both_packages_round_alike(numbers, type_name):
    compiled = libgguf.quantize_rows(numbers, gguf.GGMLQuantizationType[type_name])
    assert np.array_equal(encode(numbers, type_name), compiled)


@pytest.mark.parametrize("type_name", [name for name in ROUNDED_TYPES if name != "Q8_0"])
def test_an_importance_matrix_rounds_more_exactly_what_it_calls_important(numbers, importance, type_name):
    def weighted_error(blocks):
        return float((importance * (dequantize(blocks, type_name) - numbers) ** 2).sum())

    assert weighted_error(encode(numbers, type_name, importance)) < 0.97 * weighted_error(encode(numbers, type_name))


def test_what_needs_libgguf_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "libgguf", None)
    with pytest.raises(UserError, match="q4_k_m needs the package libgguf") as caught:
        check_libgguf_installed("q4_k_m")
    assert "orca-bench[k-quants]" in str(caught.value)
    assert "f32, f16, bf16, q8_0, q5_1, q5_0, q4_1, q4_0 need no more than gguf" in str(caught.value)
