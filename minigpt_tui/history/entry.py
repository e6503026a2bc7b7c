"""One generation as it is kept: enough to show it, to find it, and to write it again to the letter. Plain data."""

from __future__ import annotations

from typing import Literal

import msgspec

from engine.config import SamplingParams
from engine.worker.protocol import ParamsAt

Source = Literal["play", "compare", "chat", "batch", "generate"]
"""Where a text was written."""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A text that a model wrote.

    Attributes:
        time: When it began, in seconds since 1970.
        prompt: What it was written from, as the model read it.
        text: The new text alone.
        prompt_tokens: Ids of the prompt, with which the text can be written again.
        tokens: Ids of the new text.
        params: The settings of its first token, with the seed in use.
        changes: The settings from a position on, where they were changed in mid-stream, in order.
        change_at: Of each change, how many characters of the new text were there already; empty where not known.
        finish_reason: length, stop, cancelled, or lost (the engine died).
        tokens_per_second: After the first token; 0 where it is not known.
        time_to_first_token: Seconds; 0 where it is not known.
        model: The name by which the model was asked for.
        model_path: Where it lay.
        sha256: Of its weights' file.
        version: Of minigpt-tui.
        id: Its number in the store; 0 before it is kept.
        favourite, note, tags: What the reader added.
    """

    time: float
    source: Source
    prompt: str
    text: str
    prompt_tokens: tuple[int, ...]
    tokens: tuple[int, ...]
    params: SamplingParams
    changes: tuple[ParamsAt, ...] = ()
    change_at: tuple[int, ...] = ()
    finish_reason: str
    tokens_per_second: float = 0.0
    time_to_first_token: float = 0.0
    model: str
    model_path: str = ""
    sha256: str = ""
    family: str = ""
    parameters: int = 0
    device: str = ""
    precision: str = ""
    version: str = ""
    id: int = 0
    favourite: bool = False
    note: str = ""
    tags: tuple[str, ...] = ()
