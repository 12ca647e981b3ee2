"""The tensors of one GPTQ layer in, its matrix in float32 out; or an error that says which of them does not fit.

AutoGPTQ's layout, which GPTQModel, auto-round and the folders of the hub have. A layer of `inputs` × `outputs` has

- `qweight` [inputs × bits / 32, outputs], int32: each column's numbers 0 … 2^bits − 1, the first in the lowest bits;
- `qzeros` [groups, outputs × bits / 32], int32: the number that stands for 0, packed along the row; less one in the first
  version of the format (`checkpoint_format: gptq`), as it is in the second (`gptq_v2`);
- `scales` [groups, outputs], float16: the size of a step;
- `g_idx` [inputs], int32: the group of each input. Where layers were quantised in the order of their activations (`desc_act`),
  the groups are not runs of inputs.

A weight is `scales[g_idx[i], o] × (qweight[i, o] − qzeros[g_idx[i], o])`. A product of a float16 and a small whole number is
exact in float32, so nothing is rounded here; a GPTQ kernel computes in float16. Its own module because this is all that is
known of the format's bits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from orca_bench.errors import UserError

if TYPE_CHECKING:
    import torch

#: The parts of a quantised layer by the end of their tensors' names; the last one may be absent.
QUANTIZED_WEIGHTS, ZEROS, SCALES, GROUP_INDEX = "qweight", "qzeros", "scales", "g_idx"
LAYER_PARTS = (QUANTIZED_WEIGHTS, ZEROS, SCALES, GROUP_INDEX)
#: The types of each part's numbers, in the names of safetensors, and its number of dimensions.
_PART_DTYPES = {
    QUANTIZED_WEIGHTS: ("I32",),
    ZEROS: ("I32",),
    SCALES: ("F16", "BF16", "F32"),
    GROUP_INDEX: ("I32", "I64"),
}
_PART_DIMENSIONS = {QUANTIZED_WEIGHTS: 2, ZEROS: 2, SCALES: 2, GROUP_INDEX: 1}
_WORD_BITS = 32
#: Bits of a number that divide a word: of 3-bit numbers some lie across two words, in an order of their own.
_NUMBER_BITS = (2, 4, 8)


def check_part(name: str, part: str, dtype: str, shape: Sequence[int], where: Path) -> None:
    """Raise UserError where the part of the layer `name` has numbers of another type, or another number of dimensions.

    Whatever reads a shape can rely on it afterwards. `dtype` is the one in the header of the safetensors file.
    """
    if dtype not in _PART_DTYPES[part]:
        raise UserError(
            f"{name}.{part} has numbers of the type {dtype}, expected {' or '.join(_PART_DTYPES[part])}", where=where
        )
    if len(shape) != _PART_DIMENSIONS[part] or 0 in shape:
        expected = "a matrix" if _PART_DIMENSIONS[part] == 2 else "a row of numbers"
        raise UserError(f"{name}.{part} has the shape {list(shape)}, expected {expected}", where=where)


@dataclass(frozen=True)
class PackedLayer:
    """The tensors of a quantised layer by the names of LAYER_PARTS, and how to read them.

    The tensors have passed `check_part`. `group_size`, the inputs that share a scale, or -1 where all do, is used where there is
    no `g_idx`.
    """

    name: str
    bits: int
    group_size: int
    subtracts_one_from_zeros: bool
    tensors: dict[str, torch.Tensor]

    def dequantize(self, where: Path) -> torch.Tensor:
        """The matrix [outputs, inputs] in float32, exact. Raises UserError where shapes, groups or scales do not fit."""
        import torch

        self._check_shapes(where)
        numbers = _unpack(self.tensors[QUANTIZED_WEIGHTS].T, self.bits)  # [outputs, inputs]
        zeros = _unpack(self.tensors[ZEROS], self.bits)  # [groups, outputs]
        if self.subtracts_one_from_zeros:
            zeros = (zeros + 1) & (2**self.bits - 1)
        scales = self.tensors[SCALES].float()
        if not bool(scales.isfinite().all()):
            raise UserError(f"{self.name}.{SCALES} has numbers that are not finite", where=where)
        group_index = self._group_index(numbers.shape[1], where)
        steps = numbers - zeros[group_index].T
        return (steps.to(torch.float32) * scales[group_index].T).contiguous()

    def _check_shapes(self, where: Path) -> None:
        if self.bits not in _NUMBER_BITS:
            raise UserError(f"GPTQ of {self.bits} bits; 2, 4 and 8 bits can be read", where=where)
        output_count = self.tensors[QUANTIZED_WEIGHTS].shape[1]
        if output_count * self.bits % _WORD_BITS != 0:
            raise UserError(f"{self.name} has {output_count} outputs, whose zeros fill no whole words", where=where)
        group_count = self.tensors[SCALES].shape[0]
        expected_shapes = {
            ZEROS: (group_count, output_count * self.bits // _WORD_BITS),
            SCALES: (group_count, output_count),
        }
        for part, expected_shape in expected_shapes.items():
            shape = tuple(self.tensors[part].shape)
            if shape != expected_shape:
                raise UserError(
                    f"{self.name}.{part} has the shape {list(shape)}, expected {list(expected_shape)} with {self.bits} bits",
                    where=where,
                )

    def _group_index(self, input_count: int, where: Path) -> torch.Tensor:
        import torch

        group_count = self.tensors[SCALES].shape[0]
        group_index = self.tensors.get(GROUP_INDEX)
        if group_index is None:
            group_size = input_count if self.group_size == -1 else self.group_size
            if (expected_count := math.ceil(input_count / group_size)) != group_count:
                raise UserError(
                    f"{self.name} has scales of {group_count} groups and no {GROUP_INDEX}; "
                    f"{input_count} inputs in groups of {group_size} have {expected_count}",
                    where=where,
                )
            group_index = torch.arange(input_count) // group_size
        if group_index.shape != (input_count,):
            raise UserError(
                f"{self.name}.{GROUP_INDEX} has not one group for each of {input_count} inputs", where=where
            )
        if not 0 <= int(group_index.min()) <= int(group_index.max()) < group_count:
            raise UserError(f"{self.name} has {group_count} groups, and inputs of others", where=where)
        return group_index.long()


def _unpack(words: torch.Tensor, bits: int) -> torch.Tensor:
    """The numbers of each row of int32 words, the lowest bits first: [rows, words] → [rows, words × 32 / bits]."""
    import torch

    shifts = torch.arange(0, _WORD_BITS, bits, dtype=torch.int32)
    numbers = (words.contiguous().unsqueeze(-1) >> shifts) & (2**bits - 1)
    return numbers.reshape(words.shape[0], -1)
