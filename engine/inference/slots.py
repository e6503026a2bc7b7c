"""Room for the keys and values of the texts that a model reads, a slot for each. A slot that is free keeps what it
held, so that a text which begins alike need not be read again. It knows nothing of the model's maths.
"""

from __future__ import annotations

import itertools
import math
import mmap
import sys
import weakref
from collections.abc import Sequence
from contextlib import suppress

import torch
from torch import Tensor

from engine.config import ModelConfig

BLOCK = 128
"""Positions are read in whole blocks of so many."""

TILE = 16
"""The keys of so many positions may lie among each other."""

WORTH_COPYING = 32
"""Tokens that a text must share with one still being written for its keys and values to be copied."""


class Slot:
    """One text's place.

    Attributes:
        index: Which of the slots it is.
        held: The ids whose keys and values it has, from the beginning of the window.
        in_use: Whether a text is being written in it.
        layers: For each layer: both (2, G, capacity, D), keys transposed (G, D, capacity), and values (G, capacity, D).
    """

    def __init__(self, index: int) -> None:
        self.index = index
        self.held: list[int] = []
        self.in_use = False
        self.lease = 0  # counts who had it
        self.layers: list[tuple[Tensor, Tensor, Tensor]] = []

    def keep(self, tokens: Sequence[int], sure: int = 0) -> int:
        """Forget all but what is the beginning of a text.

        Args:
            tokens: The text's, but for the first ones.
            sure: How many these are; they are known to be held.

        Returns:
            How many of the text's tokens are held.
        """
        shared = sure + _shared(self.held[sure:], tokens)
        del self.held[shared:]
        return shared


class Slots:
    """All slots of one model: one at first, and more when more texts are written at once.

    Attributes:
        layers: For each layer, (2, slots, G, capacity, D): keys, then values.
        changes: How many times one of these was replaced.
    """

    def __init__(self, config: ModelConfig, device: torch.device, dtype: torch.dtype, room: int = 0) -> None:
        """Prepare; the memory is taken with the first text.

        Args:
            config: Of the model.
            device: Where keys and values are kept.
            dtype: What they are kept in.
            room: Of the numbers of a head, where it is more than there are of them.
        """
        self._config, self._device, self._dtype = config, device, dtype
        self._room = room or config.head_size
        self.capacity = -(-(config.block_size + BLOCK // 2) // BLOCK) * BLOCK
        self._slots: list[Slot] = []
        self._clock = itertools.count(1)
        self.layers: list[Tensor] = []
        self.changes = 0

    def __len__(self) -> int:
        return len(self._slots)

    def __getitem__(self, indices: slice) -> list[Slot]:
        return self._slots[indices]

    def take(self, owner: object, tokens: Sequence[int]) -> Slot:
        """A slot for a text, the one that has most of its beginning, and holds that alone.

        It is free again when its owner is gone.

        Args:
            owner: Who writes the text.
            tokens: The ids in its window.
        """
        free = [slot for slot in self._slots if not slot.in_use]
        if not free:
            free = self._grow()
        shared = {slot.index: _shared(slot.held, tokens) for slot in self._slots}
        slot = max(free, key=lambda slot: (shared[slot.index], not slot.held, -slot.lease))
        best = max(self._slots, key=lambda other: shared[other.index])
        slot.in_use, slot.lease, length = True, next(self._clock), shared[best.index]
        if length >= shared[slot.index] + WORTH_COPYING:
            for layer in self.layers:
                _copy(layer[:, best.index], layer[:, slot.index], length)
            slot.held = list(tokens[:length])
        slot.keep(tokens)
        weakref.finalize(owner, self._release, slot, slot.lease)
        return slot

    def release(self, slot: Slot) -> None:
        """Let another text have the slot; what it holds stays until then."""
        slot.in_use = False

    def _release(self, slot: Slot, lease: int) -> None:
        if slot.lease == lease:  # else it was given back before, and is another's now
            slot.in_use = False

    def _grow(self) -> list[Slot]:
        """Double the slots, and return the new ones."""
        config, before = self._config, len(self._slots)
        after = max(1, 2 * before)
        shape = (2, after, config.kv_heads, self.capacity, self._room)
        new = [Slot(index) for index in range(before, after)]
        for number in range(config.n_layer):  # one layer after the other, so that little is held twice
            layer = zeros(shape, self._device, self._dtype)  # where this fails, all is as it was
            for slot in self._slots:
                _copy(self.layers[number][:, slot.index], layer[:, slot.index], len(slot.held))
            self.layers[number : number + 1] = [layer]
            self.changes += 1
            for slot in (*self._slots, *new):
                both = layer[:, slot.index]
                slot.layers[number : number + 1] = [(both, both[0].transpose(1, 2), both[1])]
        self._slots += new
        return new


def zeros(shape: Sequence[int], device: torch.device, dtype: torch.dtype) -> Tensor:
    """Zeros, which on a CPU take no memory before something is written there, page by page.

    `torch.zeros` writes them all, and a large array of numpy's is in huge pages: either takes some 20 seconds and 5 GB
    for 64 texts of a model of 85 million weights that hold a tenth of it.

    Raises:
        MemoryError: There is no room.
    """
    if device.type != "cpu":
        return torch.zeros(shape, device=device, dtype=dtype)
    try:
        room = _fresh_memory(math.prod(shape) * dtype.itemsize)
    except OSError as error:
        raise MemoryError(f"no room for the keys and values of {shape[1]} texts ({error.strerror})") from None
    return torch.frombuffer(room, dtype=dtype).view(*shape)


def _fresh_memory(size: int) -> mmap.mmap:
    """Zeros, not shared with other processes and in pages as small as they are."""
    if sys.platform == "win32":
        return mmap.mmap(-1, size)
    room = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        with suppress(OSError):  # a kernel without huge pages
            room.madvise(mmap.MADV_NOHUGEPAGE)
    return room


@torch.inference_mode()  # else what was made in it could not be written outside of it
def _copy(source: Tensor, target: Tensor, length: int) -> None:
    """Copy so many of a text's keys and values, (2, G, capacity, D), and touch no memory behind them."""
    whole = -(-length // TILE) * TILE
    target[:, :, :whole] = source[:, :, :whole]


def _shared(held: Sequence[int], tokens: Sequence[int]) -> int:
    """How many ids two texts have in common before they part."""
    length = min(len(held), len(tokens))
    if held[:length] == list(tokens[:length]):  # as it mostly is
        return length
    return next(place for place in range(length) if held[place] != tokens[place])
