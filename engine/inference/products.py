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

INT8_COLUMNS = 32
"""The kernel of 8-bit weights reads so many columns at a time."""

Activation = Literal["none", "relu", "gelu"]


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
    """Weights of 8 bits with a scale for each of their N rows, times bfloat16: few bytes, and one operation.

    Whole numbers on both sides (`torch._int_mm`) take a third of the time for the product of many rows, but four more
    operations for each: with few rows they were slower, and they lose more.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        if weight.shape[1] % INT8_COLUMNS:  # the kernel would read beyond them
            raise ValueError(f"{weight.shape[1]} columns are no multiple of {INT8_COLUMNS}")
        scale = weight.abs().amax(dim=1, keepdim=True).clamp_(min=1e-12) / 127  # (N, 1)
        scale = scale.bfloat16().float()  # the weights are divided by what they are multiplied with later
        self._weight = (weight / scale).round_().clamp_(-127, 127).to(torch.int8)  # (N, K)
        self._scale = scale[:, 0].bfloat16()
        self._bias = bias if bias is None else bias.bfloat16()

    def __call__(self, x: Tensor, activation: Activation = "none") -> Tensor:
        """As `Product` says."""
        y = torch._weight_int8pack_mm(x.to(torch.bfloat16), self._weight, self._scale)
        return activate(y if self._bias is None else y.add_(self._bias), activation)

    def add(self, x: Tensor, stream: Tensor) -> Tensor:
        """As `Product` says."""
        return stream.add_(self(x))


def activate(y: Tensor, activation: Activation) -> Tensor:
    """Apply an activation that some products have built in."""
    if activation == "none":
        return y
    return y.relu_() if activation == "relu" else F.gelu(y, approximate="tanh")


def own(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """The same numbers in memory of their own: a weight that was read from a file may keep the whole file there."""
    return tensor.detach().to(dtype, copy=True)


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
        if precision == "int8" and weight.shape[1] % INT8_COLUMNS == 0:
            return Int8(weight.float(), bias)
        return made(weight.to(kind), bias if bias is None else own(bias, kind))

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
def has_int8() -> bool:
    """Whether this build of torch multiplies 8-bit weights, and rows of them are alike here."""
    try:
        product = Int8(torch.ones(16, INT8_COLUMNS), None)
        answer = product(torch.ones(LEAST_ROWS, INT8_COLUMNS))
    except (RuntimeError, AttributeError):
        return False
    return bool((answer == INT8_COLUMNS).all())
