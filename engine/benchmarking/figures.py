"""What a benchmark tells while it goes on: facts, what it is about to measure, figures, and what it left out.
Knows nothing of torch, nor of how anything is measured.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Literal, get_args

import msgspec

Measure = Literal["decode", "unguessed", "together", "prefill", "first-token", "loss", "memory", "training"]
MEASURES: tuple[Measure, ...] = get_args(Measure)

UNITS: dict[Measure, str] = {
    "decode": "tokens/s",
    "unguessed": "tokens/s",
    "together": "tokens/s",
    "prefill": "tokens/s",
    "first-token": "ms",
    "loss": "nats/token",
    "memory": "bytes",
    "training": "s",
}


SECONDS = 20.0
"""How long a benchmark takes by default, about."""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What is measured, and on what.

    Attributes:
        model: What it was asked for by.
        device_name: The GPU's name; empty on the CPU.
        processor: The CPU's name.
        threads: How many compute, in the first precision that is measured.
        cpu_in_use: The share of the CPU that other programs took before anything was measured.
    """

    model: str
    family: str
    parameters: int
    n_layer: int
    n_embd: int
    vocab_size: int
    block_size: int
    device: str
    device_name: str
    processor: str
    threads: int
    cpu_in_use: float
    torch: str
    minigpt_tui: str


class Starting(msgspec.Struct, frozen=True):
    """What is measured next, and in what; the training step says in what when it is done."""

    measure: Measure
    precision: str


class LeftOut(msgspec.Struct, frozen=True):
    """What is not measured, and why."""

    what: str
    why: str


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One figure.

    Attributes:
        precision: What the model computed in.
        unit: Of the three values, such as tokens/s.
        median: Of all rounds.
        lowest: Of all rounds; so with `highest`.
        rounds: How often it was measured; 1 for what is the same every time.
        details: What belongs to it, such as how many texts there were.
    """

    measure: Measure
    precision: str
    unit: str
    median: float
    lowest: float
    highest: float
    rounds: int
    details: dict[str, str | float | bool] = {}

    @property
    def spread(self) -> float:
        """Half the way from the lowest to the highest, as a share of the median."""
        return (self.highest - self.lowest) / 2 / self.median if self.median else 0.0


def figure(measure: Measure, precision: str, values: Sequence[float], **details: str | float | bool) -> Figure:
    """The figure of some rounds.

    Args:
        measure: What was measured.
        precision: What the model computed in.
        values: What each round gave; at least one.
        details: What belongs to it.
    """
    return Figure(
        measure=measure,
        precision=precision,
        unit=UNITS[measure],
        median=statistics.median(values),
        lowest=min(values),
        highest=max(values),
        rounds=len(values),
        details=details,
    )
