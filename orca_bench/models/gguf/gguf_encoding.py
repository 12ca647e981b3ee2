"""A matrix in float32 and a type of GGUF's in, the bytes of its blocks out; with an importance matrix where there is one.

`gguf`, llama.cpp's reference code in Python, rounds to float16, bfloat16, Q8_0 and, without an importance matrix, to Q4_0, Q4_1,
Q5_0 and Q5_1. All else needs `libgguf`, llama.cpp's quantisers compiled, which is an extra of its own: most who read and write
GGUF files need no more than `gguf`. Both dequantise every type to the same numbers, and round what both can to the same bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orca_bench.errors import UserError
from orca_bench.models.gguf.gguf_types import FILE_TYPES, INDIFFERENT_TENSOR_TYPES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_TYPES_OF_GGUF = ("F32", "F16", "BF16", "Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0")


def needs_libgguf(type_name: str, with_importance: bool) -> bool:
    """Whether `gguf` alone cannot round to a type of tensors."""
    return type_name not in _TYPES_OF_GGUF or (with_importance and type_name not in INDIFFERENT_TENSOR_TYPES)


def check_libgguf_installed(reason: str) -> None:
    """Raise UserError where libgguf is not installed; `reason` is what needs it."""
    try:
        import libgguf  # noqa: F401
    except ImportError:
        other_types = [name for name in FILE_TYPES if name.upper() in _TYPES_OF_GGUF]
        raise UserError(
            f"{reason} needs the package libgguf",
            hint=f"install it: pip install 'orca-bench[k-quants]'; {', '.join(other_types)} need no more than gguf",
        ) from None


def encode(numbers: NDArray[np.float32], type_name: str, importance: NDArray[np.float32] | None = None) -> NDArray[Any]:
    """The blocks of a matrix [outputs, inputs], as bytes [outputs, bytes of a row]; float32 itself for F32.

    `importance` [inputs], one positive number for each column: by how much its errors count.
    """
    import gguf

    quantization = gguf.GGMLQuantizationType[type_name]
    if type_name == "F32":
        return numbers
    if not needs_libgguf(type_name, importance is not None):
        return gguf.quantize(numbers, quantization)
    import libgguf

    return libgguf.quantize_rows(numbers, quantization, importance)
