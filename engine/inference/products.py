"""Matrix products as decoding wants them: weights packed once, and the answer to a row the same to the bit however many
rows are asked for at once, where the kernels allow it. Knows nothing of models.

Shapes: M rows, at least `LEAST_ROWS`; K numbers in a row, N numbers in its answer.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Literal, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

LEAST_ROWS = 4
"""With fewer rows, kernels sum in another order, and round otherwise."""

Activation = Literal["none", "relu", "gelu"]

MAGIC = 1.5 * 2**23
"""Added to a number below 2**22 in float32, it leaves the nearest whole number in the lowest bits."""


SMALLEST_INT8 = 8
"""Kernels for whole numbers do not reckon with fewer rows or columns."""


class Product(Protocol):
    """y = x W' + b, for (M, K) rows in float32 (or in the dtype that the stream has on this device)."""

    def __call__(self, x: Tensor, activation: Activation = "none") -> Tensor:
        """(M, K) to (M, N), in the product's own dtype."""
        ...

    def add(self, x: Tensor, stream: Tensor) -> Tensor:
        """`stream` (M, N) with the product of x added, perhaps in place."""
        ...


class Plain:
    """What torch does by itself: for GPUs, for dtypes without packed kernels, and where there is no oneDNN."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self._weight, self._bias = weight, bias

    def __call__(self, x: Tensor, activation: Activation = "none") -> Tensor:
        """As `Product` says."""
        return activate(F.linear(x.to(self._weight.dtype), self._weight, self._bias), activation)

    def add(self, x: Tensor, stream: Tensor) -> Tensor:
        """As `Product` says."""
        return stream.add_(self(x))


class Packed:
    """oneDNN's product with weights in its own order, in float32 or bfloat16.

    A row of a batch of them costs little more than one row alone, and activation and sum come along for free.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self._dtype, self._bias = weight.dtype, bias
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), 2 * LEAST_ROWS)

    def __call__(self, x: Tensor, activation: Activation = "none") -> Tensor:
        """As `Product` says."""
        kind = "tanh" if activation == "gelu" else ""
        linear = torch.ops.mkldnn._linear_pointwise
        return linear(x.to(self._dtype), self._weight, self._bias, activation, [], kind)  # type: ignore[no-any-return]

    def add(self, x: Tensor, stream: Tensor) -> Tensor:
        """As `Product` says."""
        if self._dtype != stream.dtype:
            return stream.add_(self(x))
        linear = torch.ops.mkldnn._linear_pointwise.binary
        return linear(x, stream, self._weight, self._bias, "add")  # type: ignore[no-any-return]


class Int8:
    """Whole numbers of 8 bits: weights with a scale for each of their N rows, and x with a scale for each of its M.

    The sums are whole numbers too, so they are exact, and do not depend on how many rows there are.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        scale = weight.abs().amax(dim=1, keepdim=True).clamp_(min=1e-12) / 127  # (N, 1)
        self._weight = (weight / scale).round_().to(torch.int8).t()  # (K, N)
        self._scale, self._bias = scale[:, 0] / 127, bias
        self._magic = torch.tensor(MAGIC)

    def __call__(self, x: Tensor, activation: Activation = "none") -> Tensor:
        """As `Product` says."""
        sums, scales = self._sums(x)
        y = sums * scales if self._bias is None else torch.addcmul(self._bias, sums, scales)
        return activate(y, activation)

    def add(self, x: Tensor, stream: Tensor) -> Tensor:
        """As `Product` says."""
        sums, scales = self._sums(x)
        stream = torch.addcmul(stream, sums, scales)
        return stream if self._bias is None else stream.add_(self._bias)

    def _sums(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The sums of products as whole numbers, and what one of each is worth, both (M, N)."""
        largest = x.abs().amax(dim=1, keepdim=True)  # (M, 1)
        rounded = torch.addcdiv(self._magic, x, largest, value=127.0)  # a row of zeros is worth nothing, whatever it is
        rows = rounded.view(torch.int8)[:, ::4].contiguous()
        return torch._int_mm(rows, self._weight), largest * self._scale


def activate(y: Tensor, activation: Activation) -> Tensor:
    """Apply an activation that some products have built in."""
    if activation == "none":
        return y
    return y.relu_() if activation == "relu" else F.gelu(y, approximate="tanh")


def products(precision: str, device: torch.device, dtype: torch.dtype) -> Callable[[Tensor, Tensor | None], Product]:
    """What makes products of weights (N, K) and biases (N), in a precision, on a device.

    Args:
        precision: fp32, bf16, fp16 or int8.
        device: Where the weights lie.
        dtype: Of the weights as they are given; float64 keeps to itself.
    """
    if device.type != "cpu" or dtype == torch.float64 or precision == "fp16":
        return Plain
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    made = Packed if can_pack(kind) else Plain

    def make(weight: Tensor, bias: Tensor | None) -> Product:
        if precision == "int8" and min(weight.shape) >= SMALLEST_INT8:
            return Int8(weight.float(), bias if bias is None else bias.float())
        return made(weight.to(kind), bias if bias is None else bias.to(kind))

    return make


@functools.cache
def can_pack(dtype: torch.dtype) -> bool:
    """Whether this build of torch has oneDNN's packed product for a dtype, and this processor computes in it."""
    if dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    try:
        product = Packed(torch.ones(16, 16, dtype=dtype), None)
        answer = product.add(torch.ones(LEAST_ROWS, 16, dtype=dtype), torch.ones(LEAST_ROWS, 16, dtype=dtype))
    except (RuntimeError, AttributeError):  # another build of torch; NotImplementedError is a RuntimeError
        return False
    return bool((answer == 17).all())


@functools.cache
def has_exact_int8() -> bool:
    """Whether 8-bit products are exact here: some older processors clip their sums."""
    rows = torch.full((LEAST_ROWS, 256), -127, dtype=torch.int8)
    try:
        return bool((torch._int_mm(rows, rows[:1].expand(16, 256).t().contiguous()) == 256 * 127 * 127).all())
    except RuntimeError:
        return False
