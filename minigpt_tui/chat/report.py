"""A conversation as a file: Markdown to read, JSON for programs. Plain data in, text out."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from minigpt_tui.chat.script import Script, lay
from minigpt_tui.chat.turns import Chat, Turn


def as_text(script: Script, system: str, turns: Sequence[Turn]) -> str:
    """What was said as the model of a play, or of a dialogue, reads it.

    Args:
        script: How; the model's own template is no text for a reader, and a dialogue stands in for it.
        system: What stands before all turns.
        turns: In order.
    """
    if script.kind == "model":
        script = msgspec.structs.replace(script, after=": ", between="\n\n")
    return lay(script, system, turns, answered=False).text


def as_markdown(chat: Chat, script: Script) -> str:
    """The branch that is shown."""
    models = list(dict.fromkeys(turn.model for turn in chat.path() if turn.model))
    when = datetime.fromtimestamp(chat.changed).strftime("%Y-%m-%d %H:%M")
    parts = [f"# {chat.title or 'Chat'}", " · ".join([when, *models])]
    if chat.system.strip():
        parts += ["**System**", chat.system.strip()]
    for turn in chat.path():
        parts += [f"**{script.name_of(turn)}**", "  \n".join(turn.text.rstrip().split("\n"))]
    return "\n\n".join(parts) + "\n"


def as_json(chat: Chat, script: Script) -> str:
    """The branch that is shown as messages, and all branches as they are kept."""
    messages: list[dict[str, Any]] = [{"role": "system", "content": chat.system}] if chat.system.strip() else []
    for turn in chat.path():
        message: dict[str, Any] = {"role": turn.role, "name": script.name_of(turn), "content": turn.text}
        if not turn.is_own:
            message |= {"model": turn.model, "seed": turn.seed, "finish_reason": turn.finish_reason}
        messages.append(message)
    whole = {"title": chat.title, "changed": chat.changed, "messages": messages, "turns": chat.turns}
    return msgspec.json.format(msgspec.json.encode(whole)).decode() + "\n"
