"""Passes of one model through `pass.c`."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

from engine.inference.layout import Layout
from engine.inference.native.weights import BatchStruct, Weights, counts, head_room
from engine.inference.slots import Slot, Slots


class NativePass:
    """A model in the library's hands; see `engine.inference.decoder.Pass`.

    It has threads of its own, and torch's have nothing to do meanwhile. One thread of Python at a time may call it.

    Keys and values are bfloat16 but for fp32: half the bytes, which are most of what many texts at once wait for.
    """

    rows_alike = True

    def __init__(self, library: ctypes.CDLL, layout: Layout, precision: str) -> None:
        """Lay out the weights.

        Args:
            library: What was built of `pass.c`.
            layout: The weights, on the CPU.
            precision: fp32, bf16 or int8.
        """
        self._library, self._weights = library, Weights(layout, precision, library.lanes())
        kept = torch.float32 if precision == "fp32" else torch.bfloat16
        self.slots = Slots(layout.config, layout.device, kept, head_room(layout.config.head_size))
        self._weights.struct.capacity = self.slots.capacity
        self._scratch = torch.empty(0, dtype=torch.uint8)
        self._seen = 0
        self.threads = torch.get_num_threads()

    def read(self, rows: Sequence[Sequence[int]], slots: Sequence[Slot], wanted: Sequence[int]) -> Tensor:
        """As `Pass` says."""
        model, lengths = self._weights.struct, [len(row) for row in rows]
        ids = [id for row in rows for id in row]
        if not 0 <= min(ids) <= max(ids) < model.vocabulary:  # the library would read beyond the embedding
            raise IndexError(f"ids go from 0 to {model.vocabulary - 1}")
        if self._seen != self.slots.changes:
            self._seen = self.slots.changes
            for struct, layer in zip(self._weights.layers, self.slots.layers, strict=True):
                struct.kept, struct.slots = layer.data_ptr(), layer.shape[1]
        most = max(wanted)
        make = torch.empty if min(wanted) == most else torch.zeros
        logits = make(len(rows), most, model.vocabulary)
        batch = BatchStruct(
            texts=len(rows),
            threads=self.threads,
            ids=counts(ids),
            slots=counts([slot.index for slot in slots]),
            past=counts([len(slot.held) for slot in slots]),
            rows=counts(lengths),
            wanted=counts(wanted),
            places=counts([text * most for text in range(len(rows))]),
            logits=logits.data_ptr(),
            scratch=self._room(sum(lengths), len(rows)),
        )
        self._library.read_rows(ctypes.byref(model), ctypes.byref(batch))
        return logits

    def _room(self, rows: int, texts: int) -> int:
        """Where a pass may write what it needs for the moment."""
        needed = self._library.scratch_bytes(ctypes.byref(self._weights.struct), rows, texts, self.threads)
        if len(self._scratch) < needed:
            self._scratch = torch.empty(needed, dtype=torch.uint8)
        return self._scratch.data_ptr()
