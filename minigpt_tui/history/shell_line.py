"""The line that writes a text again in a shell, to the letter: its model, device, precision, seed, its settings and
where they changed.
"""

from __future__ import annotations

import shlex
from typing import get_args

from engine.config import ENDLESS, Device, Precision, SamplingParams
from engine.validation import fields
from minigpt_tui.history.entry import Entry
from minigpt_tui.setting_changes import change_words
from minigpt_tui.visible import UNSAFE


def shell_line(entry: Entry) -> str:
    """A command for a POSIX shell.

    A text that was cut off, or ran into its limit, is asked for in its length. A prompt with characters that could
    steer a terminal comes through a pipe, written with escapes, so that the line is safe to paste.
    """
    words = ["minigpt-tui", "generate"]
    if model := entry.model or entry.model_path:
        words.append(f"--model={model}" if model.startswith("-") else f"--model {shlex.quote(model)}")
    words += [
        f"--{name} {value}"
        for name, value, known in (
            ("device", entry.device, get_args(Device)),
            ("precision", entry.precision, get_args(Precision)),
        )
        if value in known
    ]
    params, exact = _with_length(entry)
    for name, field in fields(SamplingParams).items():
        value = getattr(params, name)
        if name == "stop":
            words += [shlex.quote(f"--stop={text}") for text in value]
        elif value != field.default:
            words.append(f"--{name.replace('_', '-')} {value!r}")
    words += [
        f"--change {shlex.quote(word)}"
        for word in change_words(entry.changes, entry.params, without=("max_new_tokens",) if exact else ())
    ]
    if UNSAFE.search(entry.prompt):
        return f"printf %b {shlex.quote(_escaped(entry.prompt))} | {' '.join(words)}"
    if entry.prompt.startswith("-"):
        words.append("--")
    return " ".join([*words, shlex.quote(entry.prompt)])


def _with_length(entry: Entry) -> tuple[SamplingParams, bool]:
    """The settings to begin with, and whether their length is the text's own: then no change says another."""
    if entry.finish_reason != "stop" and entry.tokens:
        own: SamplingParams = entry.params.replace(max_new_tokens=len(entry.tokens))
        return own, True
    lengths = [settings.max_new_tokens for settings in (entry.params, *(change.params for change in entry.changes))]
    longest: SamplingParams = entry.params.replace(max_new_tokens=ENDLESS if ENDLESS in lengths else max(lengths))
    return longest, bool(entry.changes)


def _escaped(text: str) -> str:
    """A text as `printf %b` writes it."""
    doubled = text.replace("\\", "\\\\")
    return UNSAFE.sub(lambda match: "".join(f"\\0{byte:03o}" for byte in match[0].encode()), doubled)
