"""Entries for the tests of the history."""

from __future__ import annotations

from typing import Any

from engine.config import SamplingParams
from minigpt_tui.history.entry import Entry


def make_entry(text: str = " was here.", prompt: str = "The fox", **fields: Any) -> Entry:
    """A text of a model that never was, with a token for each character."""
    given: dict[str, Any] = {
        "time": 1_800_000_000.0,
        "source": "play",
        "prompt": prompt,
        "text": text,
        "prompt_tokens": tuple(map(ord, prompt)) or (0,),
        "tokens": tuple(map(ord, text)),
        "params": SamplingParams(seed=7, max_new_tokens=max(1, len(text))),
        "finish_reason": "length",
        "tokens_per_second": 60.0,
        "time_to_first_token": 0.01,
        "model": "shakespeare",
        "device": "cpu",
        "precision": "fp32",
    }
    return Entry(**(given | fields))
