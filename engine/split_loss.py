"""What a model can be asked about a split of its own text, and the answer. Knows nothing of torch, so that the server
can import it; `engine.split_measure` is the process that answers.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from engine.config import Device, Precision

Split = Literal["train", "val", "test"]


class SplitRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What to measure.

    Attributes:
        path: The model's folder.
    """

    path: str
    split: Split
    device: Device = "auto"
    precision: Precision = "auto"


class SplitLoss(msgspec.Struct, frozen=True, kw_only=True):
    """The measure, or the error that there is instead; the figures are those of `engine.evaluation.Evaluation`."""

    loss: float = 0.0
    perplexity: float = 0.0
    bits_per_byte: float = 0.0
    tokens: int = 0
    kind: str = ""
    problem: str = ""
    hint: str = ""
