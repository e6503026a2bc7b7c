"""The model as decoding wants it: the same maths as `engine.model`, for a few rows of one text or of many, without
gradients, dropout or module calls. Token ids in, logits out; it knows nothing of sampling or of text.

On the CPU a row's logits are the same to the bit however many rows are read with it, its own text's or others': every
product is one whose sums do not depend on its number of rows (`engine.inference.products`), and attention adds up
positions in blocks that begin at fixed places. So a prompt may be read in one go or token by token, guesses may be
checked many at a time, and texts may share a pass: what is drawn stays the same. `rows_alike` says whether it is so.

Shapes: S texts, R rows of each, N = S R; C = n_embd, H heads, G key-value heads, D = head_size, V = vocab_size, L
places of the window that are looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from engine.inference.attention import Mask, Rows, RowsOfOne, RowsOfSeveral
from engine.inference.layout import Layer, lay_out
from engine.inference.products import LEAST_ROWS, Activation, Plain, Product, own, products
from engine.inference.slots import Slot, Slots
from engine.model.gpt import GPT

CHUNK = 256
"""Tokens of a prompt read in one pass."""

LOOK_UP_VOCABULARY = 1024
"""Up to this many tokens, the first block's projections are looked up."""


@dataclass(frozen=True)
class _Products:
    """One block's products."""

    qkv: Product
    out: Product
    up: Product
    down: Product


class Decoder:
    """A model's weights laid out for decoding, and the slots of the texts that it reads.

    Attributes:
        precision: fp32, bf16, fp16 or int8.
        slots: Keys and values of each text.
        rows_alike: Whether a row's logits do not depend on how many rows are read with it.
    """

    @torch.inference_mode()
    def __init__(self, gpt: GPT, precision: str = "") -> None:
        """Lay out the weights of `gpt`, which is not changed.

        Args:
            gpt: The model, on its device.
            precision: Of the products; empty for that of the weights.
        """
        layout = lay_out(gpt)
        self.config, self.device = gpt.config, layout.device
        config, dtype = gpt.config, layout.dtype
        self.precision = precision or PRECISIONS.get(dtype, "fp32")
        self.dtype = stream_dtype(self.device, dtype)
        self._eps = torch.tensor(config.eps, device=self.device, dtype=self.dtype)
        make = products(self.precision, self.device, dtype)
        self._layout = [_without_products(layer, self.dtype) for layer in layout.layers]
        self._embedding = own(layout.embedding, self.dtype)
        self._final_norm = _as(layout.final_norm, self.dtype)
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
        self.rows_alike = self.device.type == "cpu" and not isinstance(self._head, Plain)
        self.slots = Slots(config, self.device, self.dtype)
        beyond = self.slots.capacity - config.block_size  # rows that fill up a pass may stand there
        self._positions = self._turns = None
        if layout.positions is not None:
            self._positions = F.pad(layout.positions.to(self.dtype), (0, 0, 0, beyond))
        if layout.turns is not None:  # (capacity, 1, D / 2) complex, or (capacity, 1, D / 2, 2) with cosine and sine
            turns = torch.cat((layout.turns, layout.turns[-1:].expand(beyond, -1)))[:, None]
            self._turns = turns if self._is_wide else torch.view_as_real(turns).to(self.dtype)
        self._first = self._first_projections(layout.layers[0]) if layout.turns is not None else None
        self._mask = Mask(self.slots.capacity, self.device, self.dtype)

    @property
    def _is_wide(self) -> bool:
        """Whether the stream has numbers that its norms can be summed up in, and that complex ones are made of."""
        return self.device.type == "cpu" and self.dtype in (torch.float32, torch.float64)

    @torch.inference_mode()
    def read(self, rows: Sequence[Sequence[int]], slots: Sequence[Slot], *, last: bool = False) -> Tensor:
        """Read tokens behind those that the slots hold.

        Args:
            rows: For each text its R ids, all as many, at least one.
            slots: Of these texts.
            last: Whether only the logits behind the last row of each text are wanted.

        Returns:
            (S, R, V) logits in float32 of the tokens that follow each row, or (S, 1, V) with `last`.

        Raises:
            ValueError: They do not fit in the window.
        """
        longest = max(len(slot.held) for slot in slots) + len(rows[0])
        if longest > self.config.block_size:
            raise ValueError(f"{longest} tokens do not fit in a window of {self.config.block_size}")
        step, wanted = len(rows[0]) if len(slots) > 1 else CHUNK, torch.empty(0)
        parts = []
        for start in range(0, len(rows[0]), step):
            chunk = [row[start : start + step] for row in rows]
            wanted = self._pass(chunk, slots, last=last)  # (S, R, C)
            for slot, ids in zip(slots, chunk, strict=True):
                slot.held += ids
            if not last:
                parts.append(wanted)
        x = wanted[:, -1:] if last else parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
        return self._logits(x)

    def _logits(self, x: Tensor) -> Tensor:
        """The head and the soft cap: (S, R, C) to (S, R, V) in float32."""
        S, R, C = x.shape
        flat = x.reshape(S * R, C)
        if S * R < LEAST_ROWS:
            flat = F.pad(flat, (0, 0, 0, LEAST_ROWS - S * R))
        logits = self._head(self._norm(flat, self._final_norm))[: S * R].float()
        if cap := self.config.logit_soft_cap:
            logits = cap * torch.tanh(logits / cap)
        return logits.view(S, R, -1)

    def _pass(self, rows: Sequence[Sequence[int]], slots: Sequence[Slot], *, last: bool) -> Tensor:
        """The stream behind the last block, (S, R, C); too few rows for the kernels are filled up with any.

        With `last`, of the first rows of one text there may be none.
        """
        wanted = len(rows[0])
        if len(slots) == 1:
            R = max(wanted, LEAST_ROWS)
            ids = [*rows[0], *[0] * (R - wanted)]
            x = self._stream(ids, RowsOfOne(self.config, slots[0], R, self._mask), last=last and wanted == R)
            return x[None, :wanted]
        first, end = min(slot.index for slot in slots), max(slot.index for slot in slots) + 1
        R = max(wanted, -(-LEAST_ROWS // (end - first)))
        all_rows = [[0] * R for _ in range(first, end)]  # what lies between them is read as if it went on with anything
        for slot, row in zip(slots, rows, strict=True):
            all_rows[slot.index - first][:wanted] = row
        several = RowsOfSeveral(self.config, self.slots[first:end], R, self._mask, self.slots.layers)
        x = self._stream([id for row in all_rows for id in row], several).view(end - first, R, -1)
        return x[[slot.index - first for slot in slots], :wanted]

    def _stream(self, ids: list[int], places: Rows, *, last: bool = False) -> Tensor:
        """N ids to the stream behind the last block, (N, C), or with `last` (LEAST_ROWS, C) of the last ones."""
        tokens = torch.tensor(ids, device=self.device)
        x = self._embedding[tokens]  # (N, C)
        if self._positions is not None:
            x = x + places.of(self._positions)
        turns = places.of(self._turns) if self._turns is not None else None  # (N, 1, D / 2)
        kind = self.config.activation_kind
        fused: Activation = "gelu" if kind == "gelu" else "none" if kind == "silu" else "relu"
        for number, (layer, product) in enumerate(zip(self._layout, self._products, strict=True)):
            if number == 0 and self._first is not None:
                qkv = self._first[tokens]
                if turns is not None:
                    self._turn(qkv, turns)
            else:
                qkv = self._project(x, layer, product, turns)
            read = places.attend(number, qkv)
            if last and number == self.config.n_layer - 1:  # nothing looks at the others any more
                x, read = x[-LEAST_ROWS:], read[-LEAST_ROWS:]
            x = product.out.add(read, x)
            h = product.up(self._norm(x, layer.norms[1] if layer.norms else None), fused)
            if kind == "silu":
                gate, up = h.chunk(2, dim=-1)
                h = F.silu(gate) * up
            elif kind == "relu2":
                h = h * h
            x = product.down.add(h, x)
        return x

    def _project(self, x: Tensor, layer: _Rest, product: _Products, turns: Tensor | None) -> Tensor:
        """Queries, keys and values of the stream, normed and turned, (N, H D + 2 G D)."""
        qkv = product.qkv(self._norm(x, layer.norms[0] if layer.norms else None)).to(self.dtype)
        if turns is not None:
            self._norm_heads(qkv, layer.qk_norm)
            self._turn(qkv, turns)
        return qkv

    def _norm_heads(self, qkv: Tensor, weights: Tensor | None) -> None:
        """Norm each head's query and key, in place."""
        config = self.config
        qk = qkv.view(len(qkv), -1, config.head_size)[:, : config.n_head + config.kv_heads]
        if not self._is_wide:
            normed = F.rms_norm(qk, (config.head_size,), None, config.eps)
            qk.copy_(normed if weights is None else normed * weights)
            return
        lengths = torch.linalg.vector_norm(qk, dim=-1, keepdim=True)  # (N, H + G, 1)
        qk.mul_(torch.addcmul(self._eps, lengths, lengths, value=1 / config.head_size).rsqrt_())
        if weights is not None:
            qk.mul_(weights)

    def _turn(self, qkv: Tensor, turns: Tensor) -> None:
        """Turn each head's query and key by its position, in place."""
        config = self.config
        pairs = qkv.view(len(qkv), -1, config.head_size // 2, 2)[:, : config.n_head + config.kv_heads]
        if self._is_wide:
            torch.view_as_complex(pairs).mul_(turns)
            return
        (x, y), (cos, sin) = pairs.unbind(-1), turns.unbind(-1)
        pairs.copy_(torch.stack((x * cos - y * sin, x * sin + y * cos), dim=-1))

    def _norm(self, x: Tensor, weights: tuple[Tensor, Tensor | None] | None) -> Tensor:
        if weights is not None:
            return F.layer_norm(x, (self.config.n_embd,), weights[0], weights[1], self.config.eps)
        if not self._is_wide:
            return F.rms_norm(x, (self.config.n_embd,), None, self.config.eps)
        lengths = torch.linalg.vector_norm(x, dim=-1, keepdim=True)  # less work than torch's own norm, with few rows
        return x * torch.addcmul(self._eps, lengths, lengths, value=1 / self.config.n_embd).rsqrt_()

    def _first_projections(self, layer: Layer) -> Tensor | None:
        """The first block's queries, keys and values of every token, normed, (V, H D + 2 G D), where that is small.

        With rotary positions they depend on the token alone: a row to look up instead of a product.
        """
        if self.config.vocab_size > LOOK_UP_VOCABULARY:
            return None
        qkv = F.linear(self._norm(self._embedding, None), layer.qkv.to(self.dtype))
        self._norm_heads(qkv, layer.qk_norm)
        return qkv


def stream_dtype(device: torch.device, dtype: torch.dtype) -> torch.dtype:
    """The numbers between the products: wider than the weights where that costs nothing."""
    return torch.float32 if device.type == "cpu" and dtype != torch.float64 else dtype


PRECISIONS = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16", torch.float64: "fp64"}


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
