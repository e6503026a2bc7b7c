"""The state of the engine and of the text in words, for the status line and the borders: plain functions."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from engine.config import ENDLESS
from engine.errors import MiniGPTError
from engine.worker.protocol import ModelInfo
from minigpt_tui.actions import hint
from minigpt_tui.settings import Session
from minigpt_tui.visible import visible_line
from minigpt_tui.writing import Writing

if TYPE_CHECKING:
    from minigpt_tui.connecting.place import Place

FINISHED = {
    "length": "done",
    "stop": "ended by itself",
    "cancelled": "stopped",
    "lost": "cut off",
}
"""What a finish reason is called on the screen."""


def short_name(name: str) -> str:
    """A model's name on one line, without the folders of one that was named by its path."""
    return visible_line(re.split(r"[/\\]", name.rstrip("/\\"))[-1])


def engine_words(
    state: str, model: ModelInfo | None, wanted: str, loading: str | None, failed: bool, place: Place | None = None
) -> str:
    """What the engine is doing while it cannot write yet; empty when it can, or when there is nothing to wait for.

    Args:
        state: As its client calls it.
        model: The model that was loaded last, or None.
        wanted: The name of the model that shall write; empty for the default.
        loading: The name of the model that is being loaded; None while none is.
        failed: Whether the last one could not be loaded.
        place: Where the engine is, when it is not on this machine.
    """
    if place is not None and state in ("stopped", "starting", "dead"):
        name = visible_line(place.name)
        return f"no link to {name}" if state == "dead" else f"connecting to {name}"
    if state in ("stopped", "starting"):
        return "starting the engine"
    if state == "importing":
        return "loading torch"
    if state == "dead":
        return "the engine stopped"
    if loading is None and (model is not None or failed):
        return ""
    name = wanted if loading is None else loading
    if model is not None and name != wanted:
        return f"loading {short_name(name)}; {short_name(model.name)} writes until then"
    return f"loading {short_name(name)}" if name else "loading the model"


def no_model_words() -> str:
    """That no model could be loaded, and what to do, as markup."""
    return f"no model · {hint('choose_model', 'chooses one')}"


def streaming_words(writing: Writing) -> str:
    """The speed while text is written, as markup; numbers keep their width."""
    speed = f"{writing.tokens_per_second:6,.0f} tok/s" if writing.tokens_per_second else "     – tok/s"
    return f"streaming {speed} · {hint('stop', 'stops')}"


def stopping_words() -> str:
    """While an engine that was told to stop does not answer, as markup."""
    return f"the engine is told to stop · {hint('stop', 'leaves it')}"


def text_keys(running: bool, session: Session, *, is_empty: bool = False) -> list[str]:
    """The keys of the text panel as markup, the most needed first: those that act there now."""
    if running:
        other = f"pace {session.pace:g}" if session.full_speed else "full speed"
        return [hint("stop"), hint("full_speed", other), hint("slower"), hint("faster")]
    if is_empty:
        return [hint(action_id) for action_id in ("focus_prompt", "from_nothing", "choose_model")]
    return [
        hint(action_id) for action_id in ("continue", "again", "inspect", "fork", "step", "branches", "copy", "save")
    ]


def finished_words(writing: Writing) -> str:
    """What came of a text, as markup."""
    came_to = FINISHED.get(writing.finish_reason, writing.finish_reason)
    if writing.finish_reason == "stop" and writing.params.stop:
        came_to = "came to an end"  # the engine does not say whether at a stop string or by itself
    if writing.stepping:
        came_to = "step by step"
    parts = [f"{came_to} · {writing.new_tokens:,} tokens"]
    if writing.tokens_per_second:
        parts.append(f"{writing.tokens_per_second:,.0f} tok/s")
    if writing.first_token_seconds:
        parts.append(f"first {writing.first_token_seconds * 1000:.0f} ms")
    if writing.seed is not None:
        parts.append(f"seed {writing.seed}")
    return " · ".join(parts)


def ready_words() -> str:
    """What can be done first, as markup."""
    return f"ready · {hint('generate', 'generates')} · {hint('from_nothing', 'starts from nothing')}"


def progress_words(writing: Writing, model: ModelInfo | None) -> str:
    """How far the text is and how full the context: `412 of 500 · context 61 %`."""
    if writing.is_empty:
        return ""
    limit = writing.params.max_new_tokens
    width = 1 if limit == ENDLESS else len(f"{limit:,}")
    parts = [f"{writing.new_tokens:>{width},}" + ("" if limit == ENDLESS else f" of {limit:,}")]
    if limit == ENDLESS:
        parts[0] += " tokens"
    if model is not None and writing.context:
        parts.append(f"context {min(1.0, writing.context / model.block_size) * 100:3.0f} %")
    return " · ".join(parts)


def sentence(error: MiniGPTError) -> str:
    """What happened and what to do, as one sentence to show in a notice."""
    text = visible_line(str(error)).rstrip(".")
    return f"{text[:1].upper()}{text[1:]}."
