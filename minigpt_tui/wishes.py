"""What a screen wishes of the app: to have a text kept, another screen shown with something, a model used. No screen
knows another: the app alone answers these messages.
"""

from __future__ import annotations

from dataclasses import dataclass

from textual.message import Message

from minigpt_tui.history.entry import Entry


@dataclass
class Written(Message):
    """A text has ended, and belongs into the history."""

    entry: Entry


@dataclass
class OpenEntry(Message):
    """Show a text of the history on the Play screen, as a branch of its own.

    Attributes:
        replay: Whether it is to be written again, to the letter, and not merely shown.
    """

    entry: Entry
    replay: bool = False


@dataclass
class UseModel(Message):
    """Go to the Play screen and write with a model."""

    name: str


@dataclass
class SessionChanged(Message):
    """Something that outlives the app has changed."""


@dataclass
class UsePrompt(Message):
    """Go to the Play screen with this prompt in its editor."""

    prompt: str


@dataclass
class CompareModels(Message):
    """Go to the Compare screen with a column for each of these models."""

    names: tuple[str, ...]
