"""Passes of a model through torch: for GPUs, and for CPUs on which there is nothing quicker.

On the CPU every product is one whose sums do not depend on its number of rows (`engine.inference.products`), and
attention adds up positions in blocks that begin at fixed places, so that rows are alike.

Shapes: S texts, R rows of each, N = S R; C = n_embd, H heads, D = head_size, V = vocab_size.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from engine.inference.attention import Mask, Rows, RowsOfOne, RowsOfSeveral
from engine.inference.blocks import Blocks
from engine.inference.layout import Layout
from engine.inference.products import LEAST_ROWS, Make
from engine.inference.slots import Slot, Slots
from engine.inference.threads import torch_threads


class TorchPass:
    """A model in torch's hands; see `engine.inference.decoder.Pass`."""

    def __init__(self, layout: Layout, make: Make, dtype: torch.dtype) -> None:
        """Lay out the weights.

        Args:
            layout: Them.
            make: What makes the products.
            dtype: Of the stream.
        """
        self.config, self._device = layout.config, layout.device
        self.blocks = Blocks(layout, make, dtype)
        self.rows_alike = self.blocks.rows_alike
        self.slots = Slots(self.config, layout.device, dtype)
        beyond = self.slots.capacity - self.config.block_size  # rows that fill up a pass may stand there
        self._positions = self._turns = None
        if layout.positions is not None:
            self._positions = F.pad(layout.positions.to(dtype), (0, 0, 0, beyond))
        if layout.turns is not None:  # (capacity, 1, D / 2) complex, or (capacity, 1, D / 2, 2) with cosine and sine
            turns = torch.cat((layout.turns, layout.turns[-1:].expand(beyond, -1)))[:, None]
            self._turns = turns if self.blocks.is_wide else torch.view_as_real(turns).to(dtype)
        self._steps = self.blocks.steps(self._turns)
        self._mask = Mask(self.slots.capacity, layout.device, dtype)
        self.threads = torch.get_num_threads()

    def read(self, rows: Sequence[Sequence[int]], slots: Sequence[Slot], wanted: Sequence[int]) -> Tensor:
        """As `Pass` says, but that behind all rows, or behind the last one or none of texts that have as many."""
        with torch_threads(self.threads):
            if all(count == len(row) for count, row in zip(wanted, rows, strict=True)):
                return self._logits(self._streams(rows, slots, last=False))
            x = self._streams(rows, slots, last=True)
            return self._logits(x[:, x.shape[1] - wanted[0] :])

    def _logits(self, x: Tensor) -> Tensor:
        """The head and the soft cap: (S, R, C) to (S, R, V) in float32."""
        S, R, C = x.shape
        if not R:
            return x.new_empty(S, 0, self.config.vocab_size)
        flat = x.reshape(S * R, C)
        if S * R < LEAST_ROWS:
            flat = F.pad(flat, (0, 0, 0, LEAST_ROWS - S * R))
        return self._steps.answer(flat)[: S * R].view(S, R, -1)

    def _streams(self, rows: Sequence[Sequence[int]], slots: Sequence[Slot], *, last: bool) -> Tensor:
        """The stream behind the last block, (S, R, C); too few rows for the kernels are filled up with any.

        With `last`, of the first rows of one text there may be none.
        """
        wanted = max(map(len, rows))
        if len(slots) == 1:
            R = max(wanted, LEAST_ROWS)
            ids = [*rows[0], *[0] * (R - wanted)]
            x = self._stream(ids, RowsOfOne(self.config, slots[0], R, self._mask), last=last and wanted == R)
            return x[None, :wanted]
        first, end = min(slot.index for slot in slots), max(slot.index for slot in slots) + 1
        R = max(wanted, -(-LEAST_ROWS // (end - first)))
        all_rows = [[0] * R for _ in range(first, end)]  # what lies between them is read as if it went on with anything
        for slot, row in zip(slots, rows, strict=True):
            all_rows[slot.index - first][: len(row)] = row
        several = RowsOfSeveral(self.config, self.slots[first:end], R, self._mask, self.slots.layers)
        x = self._stream([id for row in all_rows for id in row], several).view(end - first, R, -1)
        return x[[slot.index - first for slot in slots], :wanted]

    def _stream(self, ids: list[int], places: Rows, *, last: bool = False) -> Tensor:
        """N ids to the stream behind the last block, (N, C), or with `last` (LEAST_ROWS, C) of the last ones."""
        tokens = torch.tensor(ids, device=self._device)
        x = self.blocks.embedding[tokens]  # (N, C)
        if self._positions is not None:
            x = x + places.of(self._positions)
        turns = () if self._turns is None else (places.of(self._turns),)  # (N, 1, D / 2)
        if self.blocks.first is None:
            qkv = self._steps.begin(x, *turns)
        else:
            qkv = self.blocks.first[tokens]
            self.blocks.turn(qkv, *turns)
        for number, go_on in enumerate(self._steps.between):
            x, qkv = go_on(x, places.attend(number, qkv), *turns)
        read = places.attend(len(self._steps.between), qkv)
        if last:  # nothing looks at the others any more
            x, read = x[-LEAST_ROWS:], read[-LEAST_ROWS:]
        return self._steps.end(x, read)
