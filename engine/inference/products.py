"""Matrix products as decoding wants them: weights packed once, and the answer to a row the same to the bit however many
rows are asked for at once, where the kernels allow it. Knows nothing of models.

Shapes: M rows, at least `LEAST_ROWS`; K numbers in a row, N numbers in its answer.
"""

from __future__ import annotations

import contextlib
import functools
import math
import warnings
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

LEAST_ROWS = 4
"""With fewer rows, kernels sum in another order, and round otherwise."""

INT8_COLUMNS = 32
"""The kernel of 8-bit weights reads so many columns at a time."""

MOST_STATIC_COLUMNS = 1 << 16
"""A sum of more products of 8-bit numbers may not fit in 32 bits."""

OF_FBGEMM = "linear_with_input_q_dq_qweight_dq_{}output_fp32"
"""The operation that rounds inputs to whole numbers, multiplies them, and gives floating-point numbers back."""

GELU_SCALE, GELU_CUBE = math.sqrt(2 / math.pi), 0.044715

Activation = Literal["none", "relu", "gelu"]


class Product(Protocol):
    """y = x W' + b, for (M, K) rows in float32 (or in the dtype that the stream has on this device)."""

    def __call__(self, x: Tensor, activation: Activation = "none") -> Tensor:
        """(M, K) to (M, N), in the product's own dtype."""
        ...

    def add(self, x: Tensor, stream: Tensor) -> Tensor:
        """`stream` (M, N) with the product of x added, perhaps in place."""
        ...


Make = Callable[[Tensor, Tensor | None], Product]
"""Makes a product of a weight (N, K) and a bias (N)."""


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
    """Weights of 8 bits with a scale for each of their N rows, times bfloat16: few bytes, and one operation."""

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


class Range(NamedTuple):
    """The least and the greatest of some numbers, and zero."""

    low: float
    high: float

    def is_finite(self) -> bool:
        """Whether all of them were numbers."""
        return math.isfinite(self.low) and math.isfinite(self.high)


class StaticInt8:
    """Whole numbers of 8 bits on both sides, in one operation of FBGEMM: weights with a scale for each of their N rows,
    and inputs with one scale and one zero point that are fixed beforehand, so that no row depends on another.

    What is beyond the range of the inputs counts as its end.

    Attributes:
        packed: The weights and the bias, in FBGEMM's order.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, inputs: Range) -> None:
        """Quantise.

        Args:
            weight: (N, K); `fits_static` says whether it can be.
            bias: (N).
            inputs: The range of what will be multiplied with it.
        """
        scale = weight.float().abs().amax(dim=1, keepdim=True).clamp_(min=1e-12) / 127  # (N, 1)
        numbers = (weight.float() / scale).round_().to(torch.int8)
        with _quantising():
            zeros = torch.zeros(len(scale), dtype=torch.long)
            whole = torch._make_per_channel_quantized_tensor(numbers, scale[:, 0].double(), zeros, 0)
            self.packed = torch.ops.quantized.linear_prepack(whole, bias if bias is None else own(bias, torch.float32))
        self._scale = max(inputs.high - inputs.low, 1e-30) / 255
        self._zero = round(-inputs.low / self._scale)
        self._linear = getattr(torch.ops.quantized, OF_FBGEMM.format("")).default
        self._relu = getattr(torch.ops.quantized, OF_FBGEMM.format("relu_")).default

    def __call__(self, x: Tensor, activation: Activation = "none") -> Tensor:
        """As `Product` says."""
        if activation == "relu":
            return self._relu(x, self._scale, self._zero, self.packed)  # type: ignore[no-any-return]
        y: Tensor = self._linear(x, self._scale, self._zero, self.packed)
        return y if activation == "none" else gelu(y)

    def add(self, x: Tensor, stream: Tensor) -> Tensor:
        """As `Product` says."""
        return stream.add_(self._linear(x, self._scale, self._zero, self.packed))


def fits_static(weight: Tensor) -> bool:
    """Whether a product of whole numbers can be made of a weight."""
    return weight.shape[1] <= MOST_STATIC_COLUMNS


@contextlib.contextmanager
def _quantising() -> Iterator[None]:
    """Have torch make tensors of whole numbers for FBGEMM, and say nothing of their being another's task one day."""
    before = torch.backends.quantized.engine
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.backends.quantized.engine = "fbgemm"
        try:
            yield
        finally:
            torch.backends.quantized.engine = before


def activate(y: Tensor, activation: Activation) -> Tensor:
    """Apply an activation that some products have built in."""
    if activation == "none":
        return y
    return y.relu_() if activation == "relu" else gelu(y)


def gelu(x: Tensor) -> Tensor:
    """GELU by tanh: x / (1 + exp(-2 sqrt(2 / pi) (x + 0.044715 x^3))).

    On the CPU of operations that round each number alike. Torch's own, and its sigmoid, compute the last few of all
    numbers, and of each thread's, in another way than the others, so that the last row would depend on their count.
    """
    if x.device.type != "cpu":
        return F.gelu(x, approximate="tanh")
    inner = (x * x).mul_(-2 * GELU_SCALE * GELU_CUBE).add_(-2 * GELU_SCALE).mul_(x)
    return x / inner.exp_().add_(1.0)


def gelu_erf(x: Tensor) -> Tensor:
    """GELU by its definition, x times the normal distribution's share below it; on the CPU as `gelu` says."""
    return x * (x * 2**-0.5).erf_().add_(1.0).mul_(0.5) if x.device.type == "cpu" else F.gelu(x)


def silu(x: Tensor) -> Tensor:
    """X times its sigmoid; on the CPU as `gelu` says."""
    return x / x.neg().exp_().add_(1.0) if x.device.type == "cpu" else F.silu(x)


def own(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """The same numbers in memory of their own: a weight that was read from a file may keep the whole file there."""
    return tensor.detach().to(dtype, copy=True)


def products(precision: str, device: torch.device, dtype: torch.dtype) -> Make:
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
        if precision == "int8" and weight.shape[1] % INT8_COLUMNS == 0 and has_weight_only_int8():
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


def has_int8() -> bool:
    """Whether this build of torch multiplies 8-bit weights, and rows of them are alike here."""
    return has_static_int8() or has_weight_only_int8()


@functools.cache
def has_weight_only_int8() -> bool:
    """Whether that is so for `Int8`."""
    try:
        product = Int8(torch.ones(16, INT8_COLUMNS), None)
        answer = product(torch.ones(LEAST_ROWS, INT8_COLUMNS))
    except (RuntimeError, AttributeError):
        return False
    return bool((answer == INT8_COLUMNS).all())


@functools.cache
def has_static_int8() -> bool:
    """Whether that is so for `StaticInt8`: older processors without VNNI cut off the sum of two large products."""
    try:
        product = StaticInt8(torch.ones(16, 64), None, Range(0.0, 1.0))
        answer = product(torch.ones(LEAST_ROWS, 64), "relu")
    except (RuntimeError, AttributeError):
        return False
    return bool(((answer - 64).abs() < 1e-3).all())
