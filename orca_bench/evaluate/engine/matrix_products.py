"""Activations and weights in, their products out, as fast as the CPU allows.

PyTorch 2.13 takes MKL for float32, and MKL 2024.2 does not use AVX-512 on processors of AMD: half the rate of oneDNN, which is
in PyTorch too and is reached by the operators that torch.compile uses. oneDNN's products apply what follows them before a value
is rounded and written. Its own module because the operators are no public interface: where they are missing, plain products
stand in, and a test fails.
"""

from __future__ import annotations

import functools
import platform
from typing import Protocol

import torch
from torch.nn import functional

#: Up to so many rows in float32 PyTorch's own products are the faster ones: the time is that of reading the weight, and of the
#: call, which takes some 20 µs less (measured with weights of 288 to 1,536 features on a CPU of Intel; on one of AMD it was not).
#: The last bits of a product may so be others at 9 rows than at 8, as they are at other numbers of rows.
_MAX_ROWS_OF_TORCH = 8


@functools.cache
def products_of_this_cpu() -> Products:
    """oneDNN's products on x86-64, where this build of PyTorch has them; PyTorch's own elsewhere."""
    has_operators = hasattr(torch.ops.mkldnn, "_linear_pointwise") and torch.backends.mkldnn.is_available()
    is_x86 = platform.machine().lower() in ("x86_64", "amd64")
    return OneDnnProducts() if has_operators and is_x86 else TorchProducts()


class Products(Protocol):
    """Products with a weight [outputs, inputs] and a bias [outputs] or None; inputs and outputs are [..., features]."""

    def linear(self, inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """The product."""

    def linear_silu(self, inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """SiLU of the product."""

    def linear_multiplied(
        self, inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, factors: torch.Tensor
    ) -> torch.Tensor:
        """The product times `factors`, which are of its type and may be overwritten."""

    def linear_added(
        self, inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, summands: torch.Tensor
    ) -> torch.Tensor:
        """The product and `summands`, which may be of a wider type; they may be overwritten."""

    def linear_in_bfloat16(self, inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """The float32 product of float32 inputs, which may be rounded to bfloat16, and of a float32 weight of bfloat16 values."""


class TorchProducts:
    """PyTorch's own products, through which gradients go too."""

    def linear(self, inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """The product."""
        return functional.linear(inputs, weight, bias)

    def linear_silu(self, inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """SiLU of the product."""
        return functional.silu(self.linear(inputs, weight, bias))

    def linear_multiplied(
        self, inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, factors: torch.Tensor
    ) -> torch.Tensor:
        """The product times `factors`."""
        return self.linear(inputs, weight, bias) * factors

    def linear_added(
        self, inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, summands: torch.Tensor
    ) -> torch.Tensor:
        """The product and `summands`."""
        return summands + self.linear(inputs, weight, bias)

    def linear_in_bfloat16(self, inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """The float32 product; nothing is rounded."""
        return self.linear(inputs, weight, bias)


class OneDnnProducts(TorchProducts):
    """oneDNN's products; PyTorch's own for few rows in float32, and where a gradient is wanted."""

    def __init__(self) -> None:
        self._operator = torch.ops.mkldnn._linear_pointwise

    def linear(self, inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """The product."""
        if _takes_torch_product(inputs):
            return super().linear(inputs, weight, bias)
        return self._operator(inputs, weight, bias, "none", [], "")

    def linear_silu(self, inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """SiLU of the product."""
        if _takes_torch_product(inputs):
            return super().linear_silu(inputs, weight, bias)
        return self._operator(inputs, weight, bias, "swish", [], "")

    def linear_multiplied(
        self, inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, factors: torch.Tensor
    ) -> torch.Tensor:
        """The product times `factors`."""
        if _takes_torch_product(inputs):
            return super().linear_multiplied(inputs, weight, bias, factors)
        return self._operator.binary(inputs, factors, weight, bias, "mul")

    def linear_added(
        self, inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, summands: torch.Tensor
    ) -> torch.Tensor:
        """The product and `summands`."""
        if _takes_torch_product(inputs):
            return super().linear_added(inputs, weight, bias, summands)
        if summands.dtype != inputs.dtype:
            return summands.add_(self.linear(inputs, weight, bias))
        return self._operator.binary(inputs, summands, weight, bias, "add")

    def linear_in_bfloat16(self, inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """The float32 product, multiplied in bfloat16 where the CPU has AMX; the bias stays as it is.

        oneDNN has products in bfloat16 with a float32 output for float32 inputs alone, and PyTorch allows them by a setting for
        the whole process, which holds for this product and is then as it was. Callers with several threads let one compute at
        a time.
        """
        settings = torch.backends.mkldnn.matmul
        original_precision = settings.fp32_precision
        settings.fp32_precision = "bf16"
        try:
            if torch.is_grad_enabled():
                return super().linear(inputs, weight, bias)
            return self._operator(inputs, weight, bias, "none", [], "")
        finally:
            settings.fp32_precision = original_precision


def _takes_torch_product(inputs: torch.Tensor) -> bool:
    """Whether PyTorch's own product of [..., features] is taken."""
    has_few_rows = inputs.numel() <= _MAX_ROWS_OF_TORCH * inputs.shape[-1]
    return torch.is_grad_enabled() or (has_few_rows and inputs.dtype == torch.float32)
