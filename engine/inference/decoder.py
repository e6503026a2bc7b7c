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

import torch
from torch import Tensor
from torch.nn import functional as F

from engine.inference.attention import Mask, Rows, RowsOfOne, RowsOfSeveral
from engine.inference.blocks import Blocks
from engine.inference.calibration import calibrated
from engine.inference.layout import lay_out
from engine.inference.products import LEAST_ROWS, Make, has_static_int8, products
from engine.inference.slots import Slot, Slots
from engine.model.gpt import GPT

CHUNK = 256
"""Tokens of a prompt read in one pass."""


class Decoder:
    """A model's weights laid out for decoding, and the slots of the texts that it reads.

    Attributes:
        precision: fp32, bf16, fp16 or int8.
        slots: Keys and values of each text.
        rows_alike: Whether a row's logits do not depend on how many rows are read with it.
    """

    @torch.inference_mode()
    def __init__(self, gpt: GPT, precision: str = "", make: Make | None = None) -> None:
        """Lay out the weights of `gpt`, which is not changed.

        Args:
            gpt: The model, on its device.
            precision: Of the products; empty for that of the weights.
            make: What makes them, where it is not as the precision says.
        """
        layout = lay_out(gpt)
        self.config, self.device = gpt.config, layout.device
        config, dtype = gpt.config, layout.dtype
        self.precision = precision or PRECISIONS.get(dtype, "fp32")
        self.dtype = stream_dtype(self.device, dtype)
        if make is None:
            make = products(self.precision, self.device, dtype)
            if self.precision == "int8" and self.dtype == torch.float32 and has_static_int8():
                make = calibrated(gpt, make, Decoder)
        self._blocks = Blocks(layout, make, self.dtype)
        self.rows_alike = self._blocks.rows_alike
        self.slots = Slots(config, self.device, self.dtype)
        beyond = self.slots.capacity - config.block_size  # rows that fill up a pass may stand there
        self._positions = self._turns = None
        if layout.positions is not None:
            self._positions = F.pad(layout.positions.to(self.dtype), (0, 0, 0, beyond))
        if layout.turns is not None:  # (capacity, 1, D / 2) complex, or (capacity, 1, D / 2, 2) with cosine and sine
            turns = torch.cat((layout.turns, layout.turns[-1:].expand(beyond, -1)))[:, None]
            self._turns = turns if self._blocks.is_wide else torch.view_as_real(turns).to(self.dtype)
        self._steps = self._blocks.steps(self._turns)
        self._mask = Mask(self.slots.capacity, self.device, self.dtype)

    @torch.inference_mode()
    def read(self, rows: Sequence[Sequence[int]], slots: Sequence[Slot], *, last: bool = False) -> Tensor:
        """Read tokens behind those that the slots hold.

        Args:
            rows: For each text its ids, at least one. The text that has most has R.
            slots: Of these texts.
            last: Whether only the logits behind the last row of each text are wanted.

        Returns:
            (S, R, V) logits in float32 of the tokens that follow each row, or (S, 1, V) with `last`, where all texts
            must have as many; what stands behind the rows of a text that has fewer means nothing.

        Raises:
            ValueError: They do not fit in the window.
        """
        longest = max(len(slot.held) + len(row) for slot, row in zip(slots, rows, strict=True))
        if longest > self.config.block_size:
            raise ValueError(f"{longest} tokens do not fit in a window of {self.config.block_size}")
        most, wanted = max(map(len, rows)), torch.empty(0)
        step = most if len(slots) > 1 else CHUNK
        parts = []
        for start in range(0, most, step):
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
        return self._steps.answer(flat)[: S * R].view(S, R, -1)

    def _pass(self, rows: Sequence[Sequence[int]], slots: Sequence[Slot], *, last: bool) -> Tensor:
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
        tokens = torch.tensor(ids, device=self.device)
        x = self._blocks.embedding[tokens]  # (N, C)
        if self._positions is not None:
            x = x + places.of(self._positions)
        turns = () if self._turns is None else (places.of(self._turns),)  # (N, 1, D / 2)
        if self._blocks.first is None:
            qkv = self._steps.begin(x, *turns)
        else:
            qkv = self._blocks.first[tokens]
            self._blocks.turn(qkv, *turns)
        for number, go_on in enumerate(self._steps.between):
            x, qkv = go_on(x, places.attend(number, qkv), *turns)
        read = places.attend(len(self._steps.between), qkv)
        if last:  # nothing looks at the others any more
            x, read = x[-LEAST_ROWS:], read[-LEAST_ROWS:]
        return self._steps.end(x, read)


def stream_dtype(device: torch.device, dtype: torch.dtype) -> torch.dtype:
    """The numbers between the products: wider than the weights where that costs nothing."""
    return torch.float32 if device.type == "cpu" and dtype != torch.float64 else dtype


PRECISIONS = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16", torch.float64: "fp64"}
