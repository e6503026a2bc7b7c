"""What the model is asked: its own template is read and rendered, or the turns are written down as one of ours has it.
Plain asyncio and files; it knows nothing of screens.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from engine.errors import CheckpointError, MiniGPTError
from engine.text.chat import WITHOUT, SpecialTokens, read_chat_template, read_special_tokens
from engine.text.chat import stops as template_stops
from engine.text.special_tokens import as_words
from minigpt_tui.chat.script import Script, lay, names_in, stops
from minigpt_tui.chat.turns import Turn
from minigpt_tui.chat_rendering import render_chat


class Voice(NamedTuple):
    """How a model wants to be spoken to.

    Attributes:
        template: Its own chat template; None where it has none.
        special: Its special tokens.
        problem: Why its template cannot be read; empty where it can.
        has_system: Whether its template has a place for a system message.
    """

    template: str | None = None
    special: SpecialTokens = SpecialTokens()
    problem: str = ""
    has_system: bool = False


class Question(NamedTuple):
    """What is sent to the engine.

    Attributes:
        prompt: The text.
        template: Whether it was rendered from the model's own template.
        stop: What ends the model's turn.
        names: Of all who speak, where they have names.
    """

    prompt: str
    template: bool
    stop: tuple[str, ...]
    names: tuple[str, ...] = ()


async def hear(path: str) -> Voice:
    """Find out how a model wants to be spoken to.

    Args:
        path: Its folder; one that is not on this machine has no template here.
    """
    voice = await asyncio.to_thread(_read, Path(path))
    if voice.template is None:
        return voice
    probe = [{"role": "system", "content": _PROBE}, {"role": "user", "content": "?"}]
    try:
        shown = _PROBE in await render_chat(voice.template, probe, voice.special)
    except MiniGPTError:  # a template that refuses it has no place for it; what else is wrong is said when it is used
        shown = False
    return voice._replace(has_system=shown)


_PROBE = "minigpt asks whether this is written down"


def _read(folder: Path) -> Voice:
    try:
        return Voice(read_chat_template(folder), read_special_tokens(folder))
    except CheckpointError as error:
        return Voice(problem=str(error))


async def ask(script: Script, voice: Voice, system: str, turns: Sequence[Turn], begun: str = "") -> Question:
    """Write down what was said, up to where the model's turn begins.

    Args:
        script: How turns are written down.
        voice: How the model wants to be spoken to.
        system: What it is told before all turns.
        turns: What was said.
        begun: What it has said of its turn already.

    Raises:
        CheckpointError: Its template is damaged, or does what it may not.
        DataError: Its template refuses this conversation.
        WorkerError: The template's process cannot be started.
    """
    if script.kind != "model":
        names = tuple(names_in(script, turns))
        return Question(lay(script, system, turns).text + begun, False, stops(script, names), names)
    if voice.template is None:
        raise CheckpointError(voice.problem or "this model has no chat template", WITHOUT)
    text = await render_chat(voice.template, messages_of(turns, system if voice.has_system else ""), voice.special)
    begun = as_words(begun, voice.special.names)
    return Question(text + begun, True, template_stops(voice.template, voice.special))


def messages_of(turns: Sequence[Turn], system: str = "") -> list[dict[str, str]]:
    """Turns as chat templates take them: where the reader spoke twice, because no answer came, it is one message."""
    messages = [{"role": "system", "content": system}] if system.strip() else []
    for turn in turns:
        if messages and turn.is_own and messages[-1]["role"] == "user":
            messages[-1]["content"] += f"\n\n{turn.text}"
        else:
            messages.append({"role": turn.role, "content": turn.text})
    return messages
