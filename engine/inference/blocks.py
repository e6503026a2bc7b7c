"""What a pass does to each row by itself: norms, products, rotations, activations. Its steps are cut where the rows
of a text look at each other, which is not known here.

Shapes: N rows; C = n_embd, H heads, G key-value heads, D = head_size, V = vocab_size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from engine.inference.layout import Layer, Layout, first_projections
from engine.inference.products import LEAST_ROWS, Activation, Make, Plain, Product, gelu_erf, own, silu
from engine.inference.tracing import as_written, traced

ALIKE = 32_768
"""Up to so many numbers torch leaves an operation to one thread. It cuts more of them anywhere, and rounds some
products of complex numbers otherwise on either side of a cut.
"""


@dataclass(frozen=True)
class _Products:
    """One block's products."""

    qkv: Product
    out: Product
    up: Product
    down: Product


class Blocks:
    """A model's blocks and its head, without attention.

    Args:
        layout: The weights.
        make: What makes the products.
        dtype: Of the stream.

    Attributes:
        embedding: (V, C).
        rows_alike: Whether no row depends on how many are read with it.
        first: The first block's queries, keys and values of every token, where they can be looked up.
    """

    def __init__(self, layout: Layout, make: Make, dtype: torch.dtype) -> None:
        self._config, self._dtype = layout.config, dtype
        # whether the stream has numbers that its norms can be summed up in, and that complex ones are made of
        self.is_wide = layout.device.type == "cpu" and dtype in (torch.float32, torch.float64)
        self._eps = torch.tensor(layout.config.eps, device=layout.device, dtype=dtype)
        self._rests = [_without_products(layer, dtype) for layer in layout.layers]
        self.embedding = own(layout.embedding, dtype)
        self._final_norm = _as(layout.final_norm, dtype)
        self._products = [
            _Products(
                make(layer.qkv, layer.qkv_bias),
                make(layer.out, layer.out_bias),
                make(layer.up, layer.up_bias),
                make(layer.down, layer.down_bias),
            )
            for layer in layout.layers
        ]
        self._head = make(layout.head, None)
        all_products = [getattr(each, field.name) for each in self._products for field in fields(each)]
        self.rows_alike = layout.device.type == "cpu" and not any(
            isinstance(product, Plain) for product in (*all_products, self._head)
        )
        self.first = first_projections(layout, dtype)

    def steps(self, turns: Tensor | None) -> Steps:
        """The steps of a pass.

        Args:
            turns: Of some positions, at least LEAST_ROWS; None where nothing is turned.
        """
        config, device = self._config, self.embedding.device
        x = torch.zeros(LEAST_ROWS, config.n_embd, device=device, dtype=self._dtype)
        read = torch.zeros(LEAST_ROWS, config.n_head * config.head_size, device=device, dtype=self._dtype)
        some = () if turns is None else (turns[:LEAST_ROWS],)
        uses = [(each.out, each.up, each.down) for each in self._products]
        last = len(self._products) - 1
        return Steps(
            begin=traced(partial(self.project, 0), [self._products[0].qkv], x, *some),
            between=[
                traced(partial(self.go_on, number), [*uses[number], self._products[number + 1].qkv], x, read, *some)
                for number in range(last)
            ],
            end=traced(partial(self.finish, last), uses[last], x, read),
            answer=traced(self.answer, [self._head], x),
        )

    def go_on(self, number: int, x: Tensor, read: Tensor, turns: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The stream behind a block, and the next one's queries, keys and values."""
        x = self.finish(number, x, read)
        return x, self.project(number + 1, x, turns)

    def project(self, number: int, x: Tensor, turns: Tensor | None = None) -> Tensor:
        """A block's queries, keys and values of the stream, normed and turned, (N, H D + 2 G D)."""
        layer = self._rests[number]
        qkv = self._products[number].qkv(self._norm(x, layer.norms[0] if layer.norms else None)).to(self._dtype)
        if turns is not None:
            self._norm_heads(qkv, layer.qk_norm)
            self.turn(qkv, turns)
        return qkv

    def finish(self, number: int, x: Tensor, read: Tensor) -> Tensor:
        """The stream behind a block, (N, C), from what its heads have read."""
        product, norms, kind = self._products[number], self._rests[number].norms, self._config.activation_kind
        fused: Activation = "gelu" if kind == "gelu" else "relu" if kind in ("relu", "relu2") else "none"
        x = product.out.add(read, x)
        h = product.up(self._norm(x, norms[1] if norms else None), fused)
        if kind == "silu":
            gate, up = h.chunk(2, dim=-1)
            h = silu(gate) * up
        elif kind == "relu2":
            h = h * h
        elif kind == "gelu_erf":
            h = gelu_erf(h)
        return product.down.add(h, x)

    def answer(self, x: Tensor) -> Tensor:
        """The logits of the stream, (N, V) in float32."""
        logits = self._head(self._norm(x, self._final_norm)).float()
        if cap := self._config.logit_soft_cap:
            logits = cap * torch.tanh(logits / cap)
        return logits

    def _norm(self, x: Tensor, weights: tuple[Tensor, Tensor | None] | None) -> Tensor:
        if weights is not None:
            return F.layer_norm(x, (self._config.n_embd,), weights[0], weights[1], self._config.eps)
        if not self.is_wide:
            return F.rms_norm(x, (self._config.n_embd,), None, self._config.eps)
        lengths = torch.linalg.vector_norm(x, dim=-1, keepdim=True)  # less work than torch's own norm, with few rows
        return x * torch.addcmul(self._eps, lengths, lengths, value=1 / self._config.n_embd).rsqrt_()

    def _norm_heads(self, qkv: Tensor, weights: Tensor | None) -> None:
        """Norm each head's query and key, in place, where the family does."""
        config = self._config
        if not config.norms_heads:
            return
        qk = qkv.view(-1, config.n_head + 2 * config.kv_heads, config.head_size)
        qk = qk[:, : config.n_head + config.kv_heads]
        if not self.is_wide:
            normed = F.rms_norm(qk, (config.head_size,), None, config.eps)
            qk.copy_(normed if weights is None else normed * weights)
            return
        lengths = torch.linalg.vector_norm(qk, dim=-1, keepdim=True)  # (N, H + G, 1)
        qk.mul_(torch.addcmul(self._eps, lengths, lengths, value=1 / config.head_size).rsqrt_())
        if weights is not None:
            qk.mul_(weights)

    def turn(self, qkv: Tensor, turns: Tensor) -> None:
        """Turn each head's query and key by its position, in place."""
        config = self._config
        pairs = qkv.view(-1, config.n_head + 2 * config.kv_heads, config.head_size // 2, 2)
        pairs = pairs[:, : config.n_head + config.kv_heads]
        if self.is_wide:
            turn_pairs(pairs, turns, ALIKE)
            return
        (x, y), (cos, sin) = pairs.unbind(-1), turns.unbind(-1)
        pairs.copy_(torch.stack((x * cos - y * sin, x * sin + y * cos), dim=-1))


@as_written
def turn_pairs(pairs: Tensor, turns: Tensor, at_once: int) -> None:
    """Turn pairs of numbers (N, heads, D / 2, 2) by (N, 1, D / 2) complex ones, in place."""
    rows = max(1, at_once // (pairs.shape[1] * pairs.shape[2]))
    for first in range(0, pairs.shape[0], rows):
        torch.view_as_complex(pairs[first : first + rows]).mul_(turns[first : first + rows])


@dataclass(frozen=True)
class Steps:
    """A pass but for attention.

    Attributes:
        begin: The stream (N, C), and the turns of its positions where there are any, to queries, keys and values.
        between: For each block but the last, the stream and what its heads have read, (N, H D), and the turns, to the
            stream behind it, and the next block's queries, keys and values.
        end: For the last block, to the stream behind it.
        answer: The stream to logits, (N, V) in float32.
    """

    begin: Callable[..., Tensor]
    between: list[Callable[..., tuple[Tensor, Tensor]]]
    end: Callable[[Tensor, Tensor], Tensor]
    answer: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class _Rest:
    """What of a block is no product."""

    norms: tuple[tuple[Tensor, Tensor | None], tuple[Tensor, Tensor | None]] | None
    qk_norm: Tensor | None


def _without_products(layer: Layer, dtype: torch.dtype) -> _Rest:
    norms = None
    if layer.norms is not None:
        first, second = (_as(weights, dtype) for weights in layer.norms)
        if first is not None and second is not None:
            norms = first, second
    return _Rest(norms, own(layer.qk_norm, dtype) if layer.qk_norm is not None else None)


def _as(weights: tuple[Tensor, Tensor | None] | None, dtype: torch.dtype) -> tuple[Tensor, Tensor | None] | None:
    if weights is None:
        return None
    return own(weights[0], dtype), own(weights[1], dtype) if weights[1] is not None else None
