"""A model's weights as `pass.c` wants them, and what it is told of a pass. It computes nothing itself.

Shapes: C = n_embd, H heads, G key-value heads, D = head_size, V = vocab_size; L = lanes, the numbers in a register; a
product has N outputs and K inputs.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import POINTER, Structure, c_float, c_int32, c_int64, c_void_p

import torch
from torch import Tensor
from torch.nn import functional as F

from engine.inference.layout import Layer, Layout, NormWeights, first_projections

FP32, BF16, INT8 = range(3)
KINDS = {"fp32": FP32, "bf16": BF16, "int8": INT8}
ACTIVATIONS = ("gelu", "gelu_erf", "relu", "relu2", "silu")
"""In the order that `pass.c` counts them in."""

HEAD_STEP = 16
"""The numbers of a head are kept in rooms of a multiple of so many."""

TILES_AT_ONCE = 2
"""Tiles of a product that are computed together."""

MOST_COLUMNS = 1 << 16
"""A sum of more products of 8-bit numbers may not fit in 32 bits."""


class ProductStruct(Structure):
    """`product` in `products.h`."""

    _fields_ = (
        ("kind", c_int32),
        ("inputs", c_int32),
        ("tiles", c_int32),
        ("weights", c_void_p),
        ("bias", c_void_p),
        ("scales", c_void_p),
        ("sums", c_void_p),
    )


class LayerStruct(Structure):
    """`layer` in `pass.c`."""

    _fields_ = (
        ("qkv", ProductStruct),
        ("out", ProductStruct),
        ("up", ProductStruct),
        ("down", ProductStruct),
        ("norms", c_void_p * 2),
        ("norm_biases", c_void_p * 2),
        ("qk_norm", c_void_p),
        ("kept", c_void_p),
        ("slots", c_int64),
    )


class ModelStruct(Structure):
    """`model` in `pass.c`."""

    _fields_ = (
        *((name, c_int32) for name in ("C", "H", "G", "D", "P", "inner", "vocabulary", "blocks", "capacity")),
        *((name, c_int32) for name in ("activation", "norms_heads", "is_layer_norm", "is_narrow")),
        ("eps", c_float),
        ("cap", c_float),
        *((name, c_void_p) for name in ("embedding", "positions", "turns", "first", "norm", "norm_bias")),
        ("head", ProductStruct),
        ("layers", POINTER(LayerStruct)),
    )


class BatchStruct(Structure):
    """`batch` in `pass.c`."""

    _fields_ = (
        ("texts", c_int32),
        ("threads", c_int32),
        *((name, POINTER(c_int32)) for name in ("ids", "slots", "past", "rows", "wanted", "places")),
        ("logits", c_void_p),
        ("scratch", c_void_p),
    )


class Weights:
    """A model's weights, packed.

    Attributes:
        struct: What points to them, but to the room for keys and values.
        layers: What `struct` says of each block.
    """

    def __init__(self, layout: Layout, precision: str, lanes: int) -> None:
        """Pack the weights.

        Args:
            layout: Them, on the CPU.
            precision: fp32, bf16 or int8.
            lanes: L, of the library.
        """
        self._kind, self._lanes = KINDS[precision], lanes
        self._tensors: list[Tensor] = []  # what is pointed to
        config = layout.config
        self.layers = (LayerStruct * config.n_layer)(*(self._layer(layer, config.is_gated) for layer in layout.layers))
        norm, norm_bias = self._norm(layout.final_norm)
        first = first_projections(layout, torch.float32)
        if first is not None:
            first = F.pad(first, (0, -first.shape[1] % (TILES_AT_ONCE * lanes)))
        turns = torch.view_as_real(layout.turns.to(torch.complex64)) if layout.turns is not None else None
        self.struct = ModelStruct(
            C=config.n_embd,
            H=config.n_head,
            G=config.kv_heads,
            D=config.head_size,
            P=head_room(config.head_size),
            inner=config.inner_size,
            vocabulary=config.vocab_size,
            blocks=config.n_layer,
            activation=ACTIVATIONS.index(config.activation_kind),
            norms_heads=config.norms_heads,
            is_layer_norm=layout.final_norm is not None,
            is_narrow=precision != "fp32",
            eps=config.eps,
            cap=config.logit_soft_cap,
            embedding=self._floats(layout.embedding),
            positions=self._floats(layout.positions),
            turns=self._floats(turns),
            first=self._floats(first),
            norm=norm,
            norm_bias=norm_bias,
            head=self._product(layout.head, None),
            layers=self.layers,
        )

    def _layer(self, layer: Layer, is_gated: bool) -> LayerStruct:
        up, up_bias = layer.up, layer.up_bias
        if is_gated:  # tiles of the gate and of what goes through it take turns
            halves = [self._in_tiles(half) for half in up.chunk(2)]  # (tiles, L, K) each
            up = torch.stack(halves, dim=1).flatten(0, 2)
        norms = [self._norm(weights) for weights in layer.norms or (None, None)]
        return LayerStruct(
            qkv=self._product(layer.qkv, layer.qkv_bias),
            out=self._product(layer.out, layer.out_bias),
            up=self._product(up, up_bias),
            down=self._product(layer.down, layer.down_bias),
            norms=(c_void_p * 2)(*(weight for weight, _ in norms)),
            norm_biases=(c_void_p * 2)(*(bias for _, bias in norms)),
            qk_norm=self._floats(layer.qk_norm),
        )

    def _product(self, weight: Tensor, bias: Tensor | None) -> ProductStruct:
        """A weight (N, K) and a bias (N) in tiles."""
        weight, inputs = weight.detach(), weight.shape[1]
        kind = BF16 if self._kind == INT8 and inputs > MOST_COLUMNS else self._kind
        struct = ProductStruct(kind=kind, inputs=inputs)
        if kind == FP32:
            packed = self._in_tiles(weight.float()).transpose(1, 2)  # (tiles, K, L)
        elif kind == BF16:
            packed = self._in_groups(weight.bfloat16(), 2)
        else:
            weight = weight.float()
            scales = weight.abs().amax(dim=1) / 127  # (N)
            whole = (weight / scales.clamp(min=1e-30)[:, None]).round_().nan_to_num_().to(torch.int8)
            packed = self._in_groups(whole, 4)
            struct.scales = self._floats(self._in_tiles(scales))
            struct.sums = self._kept(self._in_tiles(128 * whole.sum(dim=1, dtype=torch.int32)))
        struct.weights, struct.tiles = self._kept(packed), len(packed)
        if bias is not None:
            struct.bias = self._floats(self._in_tiles(bias.detach()))
        return struct

    def _in_groups(self, weight: Tensor, group: int) -> Tensor:
        """Weights (N, K) as (tiles, K / group, L, group)."""
        tiled = self._in_tiles(F.pad(weight, (0, -weight.shape[1] % group)))
        return tiled.view(*tiled.shape[:2], -1, group).transpose(1, 2)

    def _in_tiles(self, tensor: Tensor) -> Tensor:
        """Numbers (N, ...) as (tiles, L, ...), an even number of tiles, with zeros behind the last number."""
        missing = -len(tensor) % (TILES_AT_ONCE * self._lanes)
        whole = F.pad(tensor, (*(0, 0) * (tensor.dim() - 1), 0, missing))
        return whole.view(-1, self._lanes, *whole.shape[1:])

    def _norm(self, weights: NormWeights | None) -> tuple[int | None, int | None]:
        return (None, None) if weights is None else (self._floats(weights[0]), self._floats(weights[1]))

    def _floats(self, tensor: Tensor | None) -> int | None:
        return None if tensor is None else self._kept(tensor.detach().float())

    def _kept(self, tensor: Tensor) -> int:
        """Where the numbers lie, in memory of their own."""
        self._tensors.append(tensor.clone(memory_format=torch.contiguous_format))
        return self._tensors[-1].data_ptr()


def head_room(head_size: int) -> int:
    """P: the room of a head's numbers."""
    return -(-head_size // HEAD_STEP) * HEAD_STEP


def counts(numbers: Sequence[int]) -> ctypes.Array[c_int32]:
    """Whole numbers for a pass."""
    return (c_int32 * len(numbers))(*numbers)
