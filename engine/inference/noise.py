"""The noise of sampling as a pure function of (seed, position): the same wherever and however a text is drawn.

Philox4x32-10 (Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", 2011), computed on the
CPU in torch's 64-bit integers, so that texts on all devices see the same numbers. Key: the seed. Counter: position
and index in the vocabulary. Knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

_M0, _M1 = 0xD2511F53, 0xCD9E8D57
_W0, _W1 = 0x9E3779B9, 0xBB67AE85
_MASK = 0xFFFFFFFF
_ROUNDS = 10

BLOCK_NUMBERS = 16_384
"""Numbers drawn ahead at once: many positions of a small vocabulary, few of a large one."""

LEAST_AHEAD = 8
"""Positions drawn ahead at least: as many as are guessed at once."""

PLAIN_ROWS = 16
"""Positions that are made into lists at once."""

PLAIN_VOCABULARY = 1024
"""Up to this many numbers in a row, lists are quicker to read than arrays."""


def philox(counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[int, int]) -> tuple[Tensor, ...]:
    """Four words of noise for each counter.

    Args:
        counter: Four int64 tensors of one shape, each holding 32-bit words.
        key: Two 32-bit words.

    Returns:
        Four int64 tensors of that shape, each holding 32-bit words.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(_ROUNDS):
        # the product wraps around in 64 bits, and its two halves are right all the same
        p0, p1 = c0 * _M0, c2 * _M1
        c0, c1, c2, c3 = ((p1 >> 32) & _MASK) ^ c1 ^ k0, p1 & _MASK, ((p0 >> 32) & _MASK) ^ c3 ^ k1, p0 & _MASK
        k0, k1 = (k0 + _W0) & _MASK, (k1 + _W1) & _MASK
    return c0, c1, c2, c3


def gumbel(seed: int, first: int, count: int, vocab_size: int) -> Tensor:
    """Standard Gumbel noise for `count` positions from `first` on, (count, vocab_size) in float32.

    Args:
        seed: 0 or more, below 2**64.
        first: The first position, 0 or more, below 2**63 - count.
        count: How many positions.
        vocab_size: Numbers for each position, V.
    """
    quads = -(-vocab_size // 4)
    positions = torch.arange(first, first + count)[:, None]  # (count, 1)
    column = torch.arange(quads)[None, :]  # (1, V / 4)
    zero = torch.zeros(count, quads, dtype=torch.int64)
    counter = (zero + column, zero, zero + (positions & _MASK), zero + ((positions >> 32) & _MASK))
    words = torch.stack(philox(counter, (seed & _MASK, (seed >> 32) & _MASK)), dim=-1)  # (count, V / 4, 4)
    uniform = (words.view(count, -1)[:, :vocab_size].double() + 0.5) * 2.0**-32  # in (0, 1), never an end
    return -(-uniform.log()).log().float()


class Noise:
    """The noise of one text, drawn a block of positions ahead."""

    def __init__(self, seed: int, vocab_size: int, device: torch.device | str = "cpu") -> None:
        """Prepare.

        Args:
            seed: As in `gumbel`.
            vocab_size: Numbers for each position, V.
            device: Where they are wanted.
        """
        self.seed, self.vocab_size, self.device = seed, vocab_size, device
        self._ahead = max(LEAST_AHEAD, min(256, BLOCK_NUMBERS // vocab_size))
        self._blocks: dict[int, Tensor] = {}  # by their number, the latest two
        self._joined: Tensor | None = None  # rows of both
        self._plain: dict[tuple[int, int], Any] = {}  # parts of them, by their places in the block

    def rows(self, position: int, count: int) -> Tensor:
        """The noise of `count` positions, (count, V) in float32."""
        number, place = divmod(position, self._ahead)
        block = self._block(number)
        if place + count <= self._ahead:
            return block[place : place + count]
        return torch.cat((block[place:], self.rows((number + 1) * self._ahead, place + count - self._ahead)))

    def address(self, position: int, count: int) -> int:
        """Where the same lies in memory, until the next call or the one behind that."""
        number, place = divmod(position, self._ahead)
        if place + count > self._ahead:
            self._joined = self.rows(position, count)
            return self._joined.data_ptr()
        return self._block(number).data_ptr() + 4 * self.vocab_size * place

    def plain_rows(self, position: int, count: int) -> list[Sequence[float]]:
        """The same for what draws without torch."""
        found = []
        for each in range(position, position + count):
            number, place = divmod(each, self._ahead)
            key = number, place // PLAIN_ROWS
            if key not in self._plain:
                rows = self._block(number)[key[1] * PLAIN_ROWS : (key[1] + 1) * PLAIN_ROWS].cpu()
                while len(self._plain) > 1:
                    del self._plain[next(iter(self._plain))]
                self._plain[key] = rows.tolist() if self.vocab_size <= PLAIN_VOCABULARY else rows.numpy()
            found.append(self._plain[key][place % PLAIN_ROWS])
        return found

    def _block(self, number: int) -> Tensor:
        if number not in self._blocks:
            while len(self._blocks) > 1:
                del self._blocks[next(iter(self._blocks))]
            rows = gumbel(self.seed, number * self._ahead, self._ahead, self.vocab_size)
            self._blocks[number] = rows.to(self.device)
        return self._blocks[number]
