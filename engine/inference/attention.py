"""Attention of new rows over what their texts hold: their keys and values go into the slots, and every head reads.

Positions are summed up in blocks of `BLOCK` that begin at fixed places, and the places that are looked at are a
multiple of `WIDTH`, so that a row's answer does not depend on the rows beside it, nor on how long other texts are.

Shapes: S texts, R rows of each, N = S R; H heads, G key-value heads, D = head_size, L places.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from engine.config import ModelConfig
from engine.inference.products import LEAST_ROWS
from engine.inference.slots import BLOCK, Slot

WIDTH = 64
"""Places are looked at in multiples of so many: sums over what is left over would round otherwise."""

LONGEST_KEPT = 2048
"""Up to this window the causal mask is kept; beyond, it is made for each pass."""


class Rows(Protocol):
    """Where the rows of one pass stand."""

    def of(self, table: Tensor) -> Tensor:
        """The entries (N, ...) of a table by position."""
        ...

    def attend(self, layer: int, qkv: Tensor) -> Tensor:
        """Queries, keys and values (N, H D + 2 G D) to what the heads read, (N, H D)."""
        ...


class Mask:
    """What is added to the scores: minus infinity for the places behind a row's own.

    Args:
        capacity: Places of a window.
    """

    def __init__(self, capacity: int, device: torch.device, dtype: torch.dtype) -> None:
        self._device, self._dtype = device, dtype
        self._kept: Tensor | None = None
        if capacity <= LONGEST_KEPT:
            self._kept = self._made(torch.arange(capacity, device=device), capacity)

    def of_one(self, past: int, rows: int, length: int) -> Tensor:
        """For a text's `rows` positions from `past` on, (R, L)."""
        if self._kept is not None:
            return self._kept[past : past + rows, :length]
        return self._made(torch.arange(past, past + rows, device=self._device), length)

    def of_several(self, positions: Tensor, length: int) -> Tensor:
        """For positions (S, R): (S, R, L)."""
        return self._made(positions, length) if self._kept is None else self._kept[:, :length][positions]

    def _made(self, positions: Tensor, length: int) -> Tensor:
        ahead = torch.arange(length, device=self._device) > positions[..., None]
        return torch.zeros(ahead.shape, device=self._device, dtype=self._dtype).masked_fill_(ahead, float("-inf"))


class RowsOfOne:
    """R rows behind what one slot holds."""

    def __init__(self, config: ModelConfig, slot: Slot, rows: int, mask: Mask) -> None:
        self._config, self._slot = config, slot
        self._past, self._end = len(slot.held), len(slot.held) + rows
        self._length = _looked_at(self._end)
        own = mask.of_one(self._past, rows, self._length)  # (R, L)
        shared = config.n_head // config.kv_heads
        own = own if shared == 1 else own.repeat(shared, 1)
        self._mask = own.expand(config.kv_heads, shared * rows, self._length)

    def of(self, table: Tensor) -> Tensor:
        """As `Rows` says."""
        return table[self._past : self._end]

    def attend(self, layer: int, qkv: Tensor) -> Tensor:
        """As `Rows` says."""
        R, H, G, D = len(qkv), self._config.n_head, self._config.kv_heads, self._config.head_size
        both, keys, values = self._slot.layers[layer]
        both[:, :, self._past : self._end] = qkv[:, H * D :].view(R, 2, G, D).permute(1, 2, 0, 3)
        q = qkv[:, : H * D].view(R, H, D).transpose(0, 1).reshape(G, -1, D)  # (G, H / G R, D)
        y = _read(q, keys[:, :, : self._length], values[:, : self._length], self._mask)
        return y.view(H, R, D).transpose(0, 1).reshape(R, H * D)


class RowsOfSeveral:
    """R rows behind what each of several neighbouring slots holds.

    Args:
        slots: Neighbours, in their order.
        layers: As in `Slots`.
    """

    def __init__(
        self, config: ModelConfig, slots: Sequence[Slot], rows: int, mask: Mask, layers: Sequence[Tensor]
    ) -> None:
        self._config = config
        first, device = slots[0].index, layers[0].device
        self._layers = [layer[:, first : first + len(slots)] for layer in layers]
        past = [len(slot.held) for slot in slots]
        self._length = _looked_at(max(past) + rows)
        self._positions = torch.tensor(past, device=device)[:, None] + torch.arange(rows, device=device)  # (S, R)
        self._which = torch.arange(len(slots), device=device)[:, None]
        own = mask.of_several(self._positions, self._length)[:, None, None]  # (S, 1, 1, R, L)
        shape = (len(slots), config.kv_heads, config.n_head // config.kv_heads, rows, self._length)
        self._mask = own.expand(shape).reshape(shape[0] * shape[1], -1, self._length)
        self._short = max(0, LEAST_ROWS - self._mask.shape[1])
        if self._short:
            self._mask = F.pad(self._mask, (0, 0, 0, self._short))

    def of(self, table: Tensor) -> Tensor:
        """As `Rows` says."""
        return table[self._positions.flatten()]

    def attend(self, layer: int, qkv: Tensor) -> Tensor:
        """As `Rows` says."""
        S, R = self._positions.shape
        H, G, D = self._config.n_head, self._config.kv_heads, self._config.head_size
        both = self._layers[layer]  # (2, S, G, capacity, D)
        both[:, self._which, :, self._positions] = qkv[:, H * D :].view(S, R, 2, G, D)
        q = qkv[:, : H * D].view(S, R, H, D).transpose(1, 2).reshape(S * G, -1, D)  # (S G, H / G R, D)
        if self._short:
            q = F.pad(q, (0, 0, 0, self._short))
        keys, values = (part.flatten(0, 1)[:, : self._length] for part in both)  # (S G, L, D)
        y = _read(q, keys.transpose(1, 2), values, self._mask)[:, : H // G * R]
        return y.reshape(S, H, R, D).transpose(1, 2).reshape(S * R, H * D)


def _looked_at(end: int) -> int:
    """How many places are looked at when the last row stands before `end`."""
    return -(-end // WIDTH) * WIDTH


def _read(q: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    """(B, M, D) queries over (B, D, L) keys and (B, L, D) values, with what is added to the scores (B, M, L)."""
    shares = torch.baddbmm(mask, q, keys, alpha=q.shape[-1] ** -0.5).softmax(dim=-1)  # (B, M, L)
    y = torch.bmm(shares[:, :, :BLOCK], values[:, :BLOCK])
    for start in range(BLOCK, shares.shape[2], BLOCK):
        y.baddbmm_(shares[:, :, start : start + BLOCK], values[:, start : start + BLOCK])
    return y
