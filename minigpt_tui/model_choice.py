"""The model that is chosen on the Play screen, as the other screens hear of it. Plain data."""

from __future__ import annotations

from typing import NamedTuple

from engine.config import Device, Precision
from engine.worker.protocol import ModelInfo


class ModelChoice(NamedTuple):
    """A model, and how to compute with it.

    Attributes:
        name: By which to ask the engine for it; empty for the default.
        info: What is known of it once it is loaded.
    """

    name: str
    device: Device
    precision: Precision
    info: ModelInfo | None
