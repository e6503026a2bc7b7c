"""The state of the engine and of the text in words, for the status line and the borders: plain functions."""

from __future__ import annotations

from engine.config import ENDLESS
from engine.worker.protocol import ModelInfo
from minigpt_tui.actions import hint
from minigpt_tui.settings import Session
from minigpt_tui.writing import Writing

FINISHED = {
    "length": "done",
    "stop": "ended by itself",
    "cancelled": "stopped",
    "lost": "cut off",
}
"""What a finish reason is called on the screen."""


def engine_words(state: str, model: ModelInfo | None, wanted: str) -> str:
    """What the engine is doing while it cannot write yet; empty when it can."""
    if state in ("stopped", "starting"):
        return "starting the engine"
    if state == "importing":
        return "loading torch"
    if state == "dead":
        return "the engine stopped"
    if model is None:
        return f"loading {wanted}" if wanted else "loading the model"
    return ""


def streaming_words(writing: Writing, first_ms: float) -> str:
    """Speed and pace while text is written, as markup; numbers keep their width."""
    speed = f"{writing.tokens_per_second:6,.0f} tok/s" if writing.tokens_per_second else "     – tok/s"
    return f"streaming {speed} · first {first_ms:.0f} ms · {hint('stop', 'stops')}"


def text_keys(running: bool, session: Session) -> list[str]:
    """The keys of the text panel as markup, the most needed first."""
    if running:
        other = f"pace {session.pace:g}" if session.full_speed else "full speed"
        return [hint("stop"), hint("full_speed", other), hint("slower"), hint("faster")]
    return [hint(action_id) for action_id in ("continue", "again", "copy", "save")]


def finished_words(writing: Writing) -> str:
    """What came of a text, as markup."""
    parts = [f"{FINISHED.get(writing.finish_reason, writing.finish_reason)} · {writing.new_tokens:,} tokens"]
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
