"""What an action is: its id, keys, title and sentence, and where its keys act."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum


class Where(Enum):
    """Where an action's keys act."""

    EVERYWHERE = "Everywhere"
    PLAY = "Play; letters act outside the prompt"
    PROMPT = "Prompt"
    TEXT = "Text"
    INSPECT = "Inspecting the text"
    HEADS = "Attention"
    BRANCHES = "Branches"
    SAMPLING = "Sampling"
    SETTINGS = "Sampling settings, from the text and the side panels"
    LIBRARY = "Presets and named prompts"
    CHAT = "Chat"
    TURN = "The turns of a chat"
    CHATS = "Kept chats"
    CHAT_FORM = "How a chat is written down"
    COMPARE = "Compare"
    COLUMN = "A column of a comparison"
    BATCH = "Batch"
    TRAIN = "Train"
    RUNS = "Runs"
    FORM = "Start a run"
    FIELD = "A setting of a run"
    HISTORY = "History"
    ENTRIES = "Generations"
    SEARCH = "Search"
    MODELS = "Models"
    MODEL_LIST = "The list of models"
    MODELS_ELSEWHERE = "Models elsewhere"
    SCORE = "Score"
    SETTINGS_SCREEN = "Settings of the app"


@dataclass(frozen=True)
class Action:
    """Something that can be done.

    Attributes:
        id: Its name, by which bindings and hints find it; no two have the same.
        keys: Textual's names of its keys, parted by commas; empty when the palette alone has it.
        shown: Its main key as it stands on the screen.
        title: Two or three words.
        sentence: What it does, for the help and the palette.
        where: Where its keys act.
        call: What Textual runs.
        palette: Whether the palette lists it.
    """

    id: str
    keys: str
    shown: str
    title: str
    sentence: str
    where: Where
    call: str
    palette: bool = True

    def with_keys(self, keys: str) -> Action:
        """The same, on other keys.

        Args:
            keys: As `keys` has them.
        """
        return replace(self, keys=keys, shown=shown_key(keys.partition(",")[0]))

    @property
    def target(self) -> str:
        """`call` with its namespace, so that a click or the palette finds it from anywhere."""
        if "." in self.call.partition("(")[0]:
            return self.call
        return f"{'app' if self.where is Where.EVERYWHERE else 'screen'}.{self.call}"


_SHOWN = {
    "escape": "esc", "up": "↑", "down": "↓", "left": "←", "right": "→", "backspace": "⌫", "delete": "del",
    "insert": "ins", "pageup": "pgup", "pagedown": "pgdn", "shift+tab": "⇧tab",
    "shift+up": "⇧↑", "shift+down": "⇧↓", "shift+left": "⇧←", "shift+right": "⇧→",
}  # fmt: skip


def shown_key(key: str) -> str:
    """A key as it stands on the screen: `ctrl+q` is ^q, `question_mark` is ?."""
    if key in _SHOWN:
        return _SHOWN[key]
    modifiers, _, name = key.rpartition("+")
    if len(name) > 1 and name in _SHOWN:
        name = _SHOWN[name]
    elif len(name) > 1 and name[0] == "f" and name[1:].isdigit():
        name = name.upper()
    elif len(name) > 1:
        from minigpt_tui.keymap import character_of  # for keys that were chosen; those that ship say how they look

        name = name if name == "space" else character_of(name) or name
    if modifiers == "ctrl" and len(name) == 1:
        return f"^{name}"
    return f"{modifiers}+{name}" if modifiers else name
