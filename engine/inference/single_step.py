"""One token on the CPU, where what costs is the call of each operation and the bytes of the weights: no module calls,
no allocation where a buffer will do, no operation that another can take along.

Shapes: C = n_embd, H heads, G key-value heads, D = head_size, V = vocab_size, P parts.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from engine.inference.layout import Layer, Layout
from engine.model.kv_cache import KVCache

LOOK_UP_VOCABULARY = 1024
"""Up to this many tokens, the first block's projections are looked up."""


class SingleStep:
    """Computes what `Decoder` computes for one token, in the buffers of this object.

    A product of a matrix and a vector runs on one core in torch, a batch of them on all: so each matrix is a batch of
    P parts of its rows, one for each thread. An RMSNorm is one number, 1 / rms(x), and goes into the product that
    follows as its factor.
    """

    def __init__(self, layout: Layout) -> None:
        """Make the buffers, and the views of weights and buffers that the operations take.

        Args:
            layout: Weights in float32 or float64 on the CPU.
        """
        self.layout, config = layout, layout.config
        C, H, G, D = config.n_embd, config.n_head, config.kv_heads, config.head_size
        inner, self._gated = config.inner_size, config.activation_kind == "silu"
        sizes = (C, (H + 2 * G) * D, inner)
        parts = torch.get_num_threads()
        while any(size % parts for size in sizes):
            parts -= 1
        with torch.inference_mode():
            self._x = _Vector(C, parts, layout.dtype)
            self._normed = _Vector(C, parts, layout.dtype)
            self._qkv = _Vector((H + 2 * G) * D, parts, layout.dtype)
            self._heads = _Vector(H * D, parts, layout.dtype)
            self._up = _Vector(inner * (2 if self._gated else 1), parts, layout.dtype)
            self._hidden = _Vector(inner, parts, layout.dtype) if self._gated else self._up
            self._gate, self._ungated = self._up.whole[:inner], self._up.whole[-inner:]
            heads = self._qkv.whole.view(H + 2 * G, D)
            self._q = heads[:H].view(G, H // G, D)
            self._qk = heads[: H + G]
            self._kv = heads[H:].view(2, G, 1, D)
            self._read = self._heads.whole.view(G, H // G, D)
            self._qk_eps = torch.full((H + G, 1), D * config.eps, dtype=layout.dtype)
            if layout.turns is not None:
                self._qk_pairs = torch.view_as_complex(self._qk.view(H + G, D // 2, 2))
                # RMS-normed vectors are sqrt(D) long; attention's 1 / sqrt(D) takes that from the queries again
                lengths = torch.cat((torch.ones(H), torch.full((G,), D**0.5)))[:, None]
                self._turns = layout.turns[:, None] * lengths  # (block_size, H + G, D / 2)
            self._layers = [_Products(layer, parts) for layer in layout.layers]
            self._first = self._first_projections()

    def read(self, token: int, cache: KVCache) -> Tensor:
        """Read one token behind those in the cache, which takes its keys and values.

        Returns:
            (V,) logits of the token that follows, in the weights' dtype; without a soft cap.
        """
        layout, past = self.layout, cache.length
        x, qkv = self._x, self._qkv
        x.whole.copy_(layout.embedding[token])
        if layout.positions is not None:
            x.whole.add_(layout.positions[past])
        for number, (products, (both, keys, values)) in enumerate(zip(self._layers, cache.layers, strict=True)):
            if number == 0 and self._first is not None:
                qkv.whole.copy_(self._first[token])
                self._qk_pairs.mul_(self._turns[past])
            else:
                self._project(products, past)
            both.narrow(2, past, 1).copy_(self._kv)
            scores = torch.bmm(self._q, keys.narrow(2, 0, past + 1))  # (G, H / G, past + 1)
            torch.bmm(scores.softmax(dim=-1), values.narrow(1, 0, past + 1), out=self._read)
            torch.baddbmm(x.parts, self._heads.rows, products.out, out=x.parts)
            if products.layer.out_bias is not None:
                x.whole.add_(products.layer.out_bias)
            self._feed_forward(products)
        cache.advance(1)
        return torch.mv(layout.head, layout.norm(x.whole, layout.final_norm))

    def _project(self, products: _Products, past: int) -> None:
        """Queries, keys and values of the stream, normed and turned, into their buffer."""
        layer, config, qkv = products.layer, self.layout.config, self._qkv
        if layer.norms is not None:
            self._normed.whole.copy_(self.layout.norm(self._x.whole, layer.norms[0]))
            _multiply(products.qkv, self._normed, layer.qkv_bias, qkv)
            self._q.mul_(config.head_size**-0.5)
            return
        torch.baddbmm(qkv.parts, self._x.rows, products.qkv, beta=0, alpha=self._scale(), out=qkv.parts)
        lengths = torch.linalg.vector_norm(self._qk, dim=-1, keepdim=True)  # (H + G, 1)
        self._qk.mul_(torch.addcmul(self._qk_eps, lengths, lengths).rsqrt_())
        if layer.qk_norm is not None:
            self._qk.mul_(layer.qk_norm)
        self._qk_pairs.mul_(self._turns[past])

    def _feed_forward(self, products: _Products) -> None:
        """Add the MLP's answer to the stream."""
        layer, kind, up = products.layer, self.layout.config.activation_kind, self._up
        if layer.norms is not None:
            self._normed.whole.copy_(self.layout.norm(self._x.whole, layer.norms[1]))
            _multiply(products.up, self._normed, layer.up_bias, up)
        else:
            torch.baddbmm(up.parts, self._x.rows, products.up, beta=0, alpha=self._scale(), out=up.parts)
        if self._gated:
            torch.mul(F.silu(self._gate), self._ungated, out=self._hidden.whole)
        elif kind == "gelu":
            up.whole.copy_(F.gelu(up.whole, approximate="tanh"))
        else:
            up.whole.relu_()
            if kind == "relu2":
                up.whole.mul_(up.whole)
        torch.baddbmm(self._x.parts, self._hidden.rows, products.down, out=self._x.parts)
        if layer.down_bias is not None:
            self._x.whole.add_(layer.down_bias)

    def _scale(self) -> float:
        """1 / rms of the stream."""
        x, config = self._x.whole, self.layout.config
        return 1 / math.sqrt(x.dot(x).item() / config.n_embd + config.eps)

    def _first_projections(self) -> Tensor | None:
        """The first block's queries, keys and values of every token, normed, (V, H D + 2 G D), where that is small.

        With rotary positions they depend on the token alone: a row to look up instead of a product.
        """
        layout, config = self.layout, self.layout.config
        if layout.turns is None or config.vocab_size > LOOK_UP_VOCABULARY:
            return None
        layer, D, normed = layout.layers[0], config.head_size, config.n_head + config.kv_heads
        qkv = F.linear(layout.norm(layout.embedding, None), layer.qkv).view(config.vocab_size, -1, D)
        qk = F.rms_norm(qkv[:, :normed], (D,), None, config.eps) * D**-0.5  # the length is in the turns
        qkv[:, :normed] = qk if layer.qk_norm is None else qk * layer.qk_norm
        return qkv.flatten(1)


class _Vector:
    """A buffer, and how a batch of P products reads it (each part all of it) and writes it (each its share)."""

    def __init__(self, size: int, parts: int, dtype: torch.dtype) -> None:
        self.whole = torch.zeros(size, dtype=dtype)
        self.rows = self.whole.expand(parts, 1, size)
        self.parts = self.whole.view(parts, 1, -1)


class _Products:
    """One block's matrices as batches of P parts, (P, columns, rows / P)."""

    def __init__(self, layer: Layer, parts: int) -> None:
        self.layer = layer
        self.qkv, self.out, self.up, self.down = (
            weight.view(parts, -1, weight.shape[1]).transpose(1, 2)
            for weight in (layer.qkv, layer.out, layer.up, layer.down)
        )


def _multiply(weight: Tensor, x: _Vector, bias: Tensor | None, out: _Vector) -> None:
    """Write weight @ x, with the bias where there is one, into `out`."""
    if bias is None:
        torch.bmm(x.rows, weight, out=out.parts)
    else:
        torch.baddbmm(bias.view(out.parts.shape), x.rows, weight, out=out.parts)
