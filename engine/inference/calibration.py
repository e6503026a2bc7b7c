"""What the inputs of a model's products are like, so that they can be whole numbers of 8 bits: their ranges, found by
having the model read what it writes itself. The same model gives the same ranges on every load, with any number of
threads. It knows nothing of other texts.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from engine.allocation import give_back_freed_memory
from engine.inference.noise import gumbel
from engine.inference.products import (
    Activation,
    Make,
    Product,
    Range,
    StaticInt8,
    can_pack,
    fits_static,
    products,
)
from engine.model.gpt import GPT

if TYPE_CHECKING:
    from engine.inference.decoder import Decoder

ROUNDS, TOKENS = 3, 256
"""Times that the model reads what it writes, and tokens of that."""

LONGEST = 1024
"""Tokens that the last time is made longer to, over and over the same, for the places of a large window."""

LOGITS_AT_ONCE = 8_388_608
"""Logits in memory at once, 32 MiB of them."""


def calibrated(gpt: GPT, otherwise: Make, decoder_of: type[Decoder]) -> Make:
    """What makes the products of a model with whole numbers on both sides, in the order that a decoder makes them.

    Args:
        gpt: The model, on the CPU.
        otherwise: Makes those that cannot be, and all of a model whose answers are no numbers.
        decoder_of: What reads.
    """
    ranges = _input_ranges(gpt, decoder_of)
    give_back_freed_memory()
    if not all(each.is_finite() for each in ranges) or not all(_is_finite(weight) for weight in gpt.parameters()):
        return otherwise
    coming = iter(ranges)

    def make(weight: Tensor, bias: Tensor | None) -> Product:
        inputs = next(coming)
        return StaticInt8(weight, bias, inputs) if fits_static(weight) else otherwise(weight, bias)

    return make


def _is_finite(weight: Tensor) -> bool:
    return math.isfinite(weight.sum(dtype=torch.float32))


def _input_ranges(gpt: GPT, decoder_of: type[Decoder]) -> list[Range]:
    """The range of each product's inputs."""
    precision = "bf16" if can_pack(torch.bfloat16) else "fp32"  # what is quickest for many rows
    make = products(precision, torch.device("cpu"), torch.float32)
    watched: list[_Watched] = []

    def watch(weight: Tensor, bias: Tensor | None) -> Product:
        watched.append(_Watched(make(weight, bias)))
        return watched[-1]

    _read_own_text(decoder_of(gpt, precision, watch))
    return [product.range() for product in watched]


class _Watched:
    """A product that remembers the least and the greatest number of the rows that it was asked for."""

    def __init__(self, product: Product) -> None:
        self._product = product
        self._low = self._high = torch.zeros(())

    def __call__(self, x: Tensor, activation: Activation = "none") -> Tensor:
        """As `Product` says."""
        self._see(x)
        return self._product(x, activation)

    def add(self, x: Tensor, stream: Tensor) -> Tensor:
        """As `Product` says."""
        self._see(x)
        return self._product.add(x, stream)

    def range(self) -> Range:
        """Of what it was asked for; zero is always in it."""
        return Range(float(self._low), float(self._high))

    def _see(self, x: Tensor) -> None:
        low, high = torch.aminmax(x.float())
        self._low, self._high = torch.minimum(self._low, low), torch.maximum(self._high, high)  # which keep a NaN


def _read_own_text(decoder: Decoder) -> None:
    """Have a model read a window of any tokens, and then what it draws behind each of these, and so on.

    Each round more of it is what the model would write by itself, at a temperature of 1, and all of it after as many
    rounds as it has tokens; but ranges are much the same after a few, and the first are of what is rare.
    """
    block_size, vocab_size = decoder.config.block_size, decoder.config.vocab_size
    size, longest = min(block_size, TOKENS), min(block_size, LONGEST)
    rows = max(1, LOGITS_AT_ONCE // vocab_size)
    chance = gumbel(0, 0, size, 1).neg().exp().neg().exp()  # (T, 1), even in (0, 1)
    tokens = (chance[:, 0] * vocab_size).long().clamp_(max=vocab_size - 1).tolist()
    slot = decoder.slots.take(decoder, ())
    for _ in range(ROUNDS):
        slot.held.clear()
        read, drawn = tokens, tokens[:1]
        for first in range(0, size, rows):
            logits = decoder.read([read[first : first + rows]], [slot])[0]
            shares = logits.softmax(dim=-1).cumsum(dim=-1)
            ids = torch.searchsorted(shares, chance[first : first + rows]).clamp_(max=vocab_size - 1)
            drawn += ids[:, 0].tolist()
        tokens = drawn[:size]
    if longest > size:
        again = read * (longest // size)
        decoder.read([again[: longest - size]], [slot], last=True)
