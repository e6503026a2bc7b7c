"""The model as decoding wants it: the same maths as `engine.model`, for a few rows of one text or of many, without
gradients, dropout or module calls. Token ids in, logits out; it knows nothing of sampling or of text.

On the CPU a whole pass is one call of a library that was built for the processor at hand (`engine.inference.native`),
or, where there is no C compiler, some calls of torch for each block (`engine.inference.torch_pass`). Either way a row's
logits are the same to the bit however many rows are read with it, its own text's or others'. So a prompt may be read in
one go or token by token, guesses may be checked many at a time, and texts may share a pass: what is drawn stays the
same. `rows_alike` says whether it is so.

Shapes: S texts, R rows of each; V = vocab_size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from engine.inference.calibration import calibrated
from engine.inference.layout import lay_out
from engine.inference.native import building
from engine.inference.native.passes import NativePass
from engine.inference.native.weights import KINDS
from engine.inference.products import Make, has_static_int8, products
from engine.inference.slots import Slot, Slots
from engine.inference.torch_pass import TorchPass
from engine.model.gpt import GPT

CHUNK = 256
"""Tokens of a prompt read in one pass."""


class Pass(Protocol):
    """What brings rows of texts through the model.

    Attributes:
        threads: That it computes with; those of torch, where that does it.
    """

    threads: int

    @property
    def rows_alike(self) -> bool:
        """Whether a row's logits do not depend on how many rows are read with it."""
        ...

    @property
    def slots(self) -> Slots:
        """Keys and values of each text."""
        ...

    def read(self, rows: Sequence[Sequence[int]], slots: Sequence[Slot], wanted: Sequence[int]) -> Tensor:
        """Logits behind rows of texts, which are yet to be entered in `held`.

        Args:
            rows: For each text its ids, at least one.
            slots: Of these texts.
            wanted: Of each text, behind how many of its last rows; R is the most.

        Returns:
            (S, R, V) logits in float32.
        """
        ...


class Decoder:
    """A model's weights laid out for decoding, and the slots of the texts that it reads.

    Attributes:
        precision: fp32, bf16, fp16 or int8.
        library: What reads in one call, and draws; None where torch does.
        rows_alike: Whether a row's logits do not depend on how many rows are read with it.
        slots: Keys and values of each text.
    """

    @torch.inference_mode()
    def __init__(self, gpt: GPT, precision: str = "", make: Make | None = None) -> None:
        """Lay out the weights of `gpt`, which is not changed.

        Args:
            gpt: The model, on its device.
            precision: Of the products; empty for that of the weights.
            make: What makes torch's products, where they are not as the precision says.
        """
        layout = lay_out(gpt)
        self.config, self.device = gpt.config, layout.device
        self.precision = precision or PRECISIONS.get(layout.dtype, "fp32")
        self.library = building.find().library if make is None and self._can_be_native(layout.dtype) else None
        self._pass: Pass
        if self.library is not None:
            self._pass = NativePass(self.library, layout, self.precision)
        else:
            dtype = stream_dtype(self.device, layout.dtype)
            if make is None:
                make = products(self.precision, self.device, layout.dtype)
                if self.precision == "int8" and dtype == torch.float32 and has_static_int8():
                    make = calibrated(gpt, make, Decoder)
            self._pass = TorchPass(layout, make, dtype)
        self.rows_alike, self.slots = self._pass.rows_alike, self._pass.slots

    def _can_be_native(self, dtype: torch.dtype) -> bool:
        return self.device.type == "cpu" and self.precision in KINDS and dtype != torch.float64

    @property
    def is_native(self) -> bool:
        """Whether a pass is one call."""
        return self.library is not None

    @property
    def threads(self) -> int:
        """Threads of a pass."""
        return self._pass.threads

    @threads.setter
    def threads(self, threads: int) -> None:
        self._pass.threads = threads

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
        most, parts = max(map(len, rows)), []
        step = most if len(slots) > 1 else CHUNK
        for start in range(0, most, step):
            chunk = [row[start : start + step] for row in rows]
            is_end = start + step >= most
            parts.append(self.read_once(chunk, slots, [int(is_end) if last else len(row) for row in chunk]))
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    def read_once(self, rows: Sequence[Sequence[int]], slots: Sequence[Slot], wanted: Sequence[int]) -> Tensor:
        """Read tokens in one pass, which must fit in the window.

        Args:
            rows: For each text its ids, at least one.
            slots: Of these texts.
            wanted: Behind how many of each text's last rows logits are wanted. By torch, behind all, or of each text
                as many, one or none.

        Returns:
            (S, R, V) logits in float32, R being the most that are wanted of a text. Those of a text come first in its
            row; what stands behind them means nothing.
        """
        logits = self._pass.read(rows, slots, wanted)
        for slot, ids in zip(slots, rows, strict=True):
            slot.held += ids
        return logits


def stream_dtype(device: torch.device, dtype: torch.dtype) -> torch.dtype:
    """The numbers between the products: wider than the weights where that costs nothing."""
    return torch.float32 if device.type == "cpu" and dtype != torch.float64 else dtype


PRECISIONS = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16", torch.float64: "fp64"}
