"""Keys that a reader gives to actions: whether a key can be typed, whether it is free, and what is wrong where it is
not. Knows nothing of files nor of screens.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from textual.keys import Keys, _character_to_key, key_to_character

from engine.errors import InvalidSettingError
from engine.validation import nearest_hint
from minigpt_tui.actions import PRIORITY, Action, Where, shipped
from minigpt_tui.actions.action import shown_key

_TOGETHER: tuple[tuple[tuple[Where, ...], tuple[Where, ...]], ...] = (
    (
        (Where.PLAY, Where.SETTINGS),
        (Where.PROMPT, Where.TEXT, Where.SAMPLING, Where.INSPECT, Where.HEADS, Where.BRANCHES, Where.SCORE),
    ),
    ((Where.LIBRARY,), ()),
    ((Where.CHAT, Where.SETTINGS), (Where.TURN, Where.PROMPT)),
    ((Where.CHATS,), ()),
    ((Where.CHAT_FORM,), ()),
    ((Where.COMPARE, Where.SETTINGS), (Where.COLUMN, Where.PROMPT, Where.TEXT)),
    ((Where.BATCH,), ()),
    ((Where.TRAIN,), (Where.RUNS,)),
    ((Where.FORM,), (Where.FIELD,)),
    ((Where.HISTORY,), (Where.ENTRIES, Where.SEARCH)),
    ((Where.MODELS,), (Where.MODEL_LIST,)),
    ((Where.MODELS_ELSEWHERE,), ()),
    ((Where.SETTINGS_SCREEN,), ()),
)
"""Places whose keys act at the same time: those of a screen, and those of what has the focus on it."""

_TYPING = frozenset({Where.PROMPT, Where.SEARCH, Where.FORM, Where.CHAT_FORM})
"""Where letters are text."""

_MODIFIERS = ("alt", "ctrl", "hyper", "meta", "shift", "super")
_ALIASES = {"esc": "escape", "return": "enter", "pgup": "pageup", "pgdn": "pagedown", "del": "delete", "ins": "insert"}
_SAME = {"ctrl+i": "tab", "ctrl+m": "enter", "ctrl+left_square_bracket": "escape"}
"""What a terminal sends the same for."""

_CHARACTERS = {_character_to_key(chr(code)): chr(code) for code in range(0x20, 0x7F)}
_NAMES = frozenset(str(key.value) for key in Keys if "+" not in key.value and "<" not in key.value) | {"space"}


class Clash(NamedTuple):
    """A key that two actions would have where both act."""

    action: Action
    key: str
    other: Action

    @property
    def words(self) -> str:
        """What is in the way."""
        return f"{shown_key(self.key)} is the key of {self.other.title!r} ({self.other.where.value})"


def readable_keys(action: Action, text: str) -> str:
    """Keys as Textual names them, from what somebody wrote: `?` is question_mark.

    Args:
        action: Whose keys they shall be.
        text: Keys parted by commas.

    Raises:
        InvalidSettingError: There is no such key, or it cannot be one of this action.
    """
    words = ["comma"] if text.strip() == "," else [word.strip() for word in text.split(",")]
    keys = [_readable(word) for word in words if word]
    if not keys:
        raise InvalidSettingError(f"no key is given for {action.id}", 'write one, such as "ctrl+g" or "f2,1"')
    for key in keys:
        if character_of(key) and (action.id in PRIORITY or action.where in _TYPING):
            raise InvalidSettingError(
                f"{shown_key(key)} types a character",
                f"{action.title!r} acts where text is typed; add ctrl or take F1…",
            )
    return ",".join(dict.fromkeys(keys))


def character_of(key: str) -> str:
    """What a key types; empty where it types nothing."""
    character = _CHARACTERS.get(key) or key_to_character(key) or ""
    return character if character.isprintable() else ""


def _readable(word: str) -> str:
    head, _, name = ("", "", word) if len(word) == 1 else word.rpartition("+")
    if not name:  # `ctrl++`
        head, name = word[:-1].rstrip("+"), "plus"
    modifiers = sorted({part.strip().lower() for part in head.split("+") if part.strip()})
    if unknown := [part for part in modifiers if part not in _MODIFIERS]:
        raise InvalidSettingError(f"{word!r} is no key", f"{unknown[0]!r} is none of ctrl, shift, alt, super")
    name = name.strip()
    if len(name) > 1:
        name = _ALIASES.get(name.lower(), name.lower())
        if name not in _NAMES and not character_of(name):
            near = nearest_hint(name, dict.fromkeys(_NAMES))
            other = "write a character, or a name such as f5, home or question_mark"
            raise InvalidSettingError(f"{word!r} is no key", near if near.startswith("did") else other)
    elif "shift" in modifiers:
        raise InvalidSettingError(
            f"{word!r} cannot be typed", f"write the character that it makes, such as {name.upper()}"
        )
    else:
        name = _character_to_key(name.lower() if modifiers else name)
    key = "+".join([*modifiers, name])
    if key in _SAME:
        raise InvalidSettingError(f"{word!r} cannot be told from {_SAME[key]}", f"write {_SAME[key]}, or take another")
    return key


def clashes(action_id: str, keymap: Mapping[str, str]) -> list[Clash]:
    """What is in the way of an action's keys; what shares a key as it ships is not.

    Args:
        action_id: The action.
        keymap: All keys that are given to actions, this one's too.
    """
    known = {action.id: action for action in shipped()}
    mine = known[action_id]
    found = []
    for key in keymap.get(action_id, mine.keys).split(","):
        for other in known.values():
            theirs = keymap.get(other.id, other.keys).split(",")
            both_ship = key in mine.keys.split(",") and key in other.keys.split(",")
            if other is not mine and key in theirs and not both_ship and _meet(mine, other):
                found.append(Clash(mine, key, other))
    return found


def _meet(one: Action, other: Action) -> bool:
    """Whether both can be meant by one key."""
    places = {one.where, other.where}
    if len(places) == 1 or Where.EVERYWHERE in places:
        return True
    return any(places <= {*screen, *parts} and not places.isdisjoint(screen) for screen, parts in _TOGETHER)


class Resolved(NamedTuple):
    """What came of the keys that a file gives.

    Attributes:
        keymap: The keys that hold, by the ids of actions, as Textual names them.
        problems: What was wrong with the others, which keep their own.
    """

    keymap: dict[str, str]
    problems: tuple[str, ...]


def resolve(wanted: Mapping[str, str]) -> Resolved:
    """Take the keys that are right; the other actions keep the keys that they ship with.

    Args:
        wanted: Keys as they were written, by the ids of actions; of two that want one key the first has it.
    """
    if not wanted:
        return Resolved({}, ())
    known = {action.id: action for action in shipped()}
    taken: dict[str, str] = {}
    problems = []
    for action_id, text in wanted.items():
        try:
            if action_id not in known:
                raise InvalidSettingError(f"there is no action {action_id!r}", nearest_action(action_id))
            taken[action_id] = readable_keys(known[action_id], text)
        except InvalidSettingError as error:
            problems.append(f"keys.{action_id}: {error}")
    while clash := next((found[0] for name in reversed(taken) if (found := clashes(name, taken))), None):
        problems.append(f"keys.{clash.action.id}: {clash.words}; it keeps {shown_keys(clash.action.keys)}")
        del taken[clash.action.id]
    return Resolved(taken, tuple(problems))


def nearest_action(action_id: str) -> str:
    """A hint for an action that there is not."""
    near = nearest_hint(action_id, {action.id: action for action in shipped()})
    return near if near.startswith("did") else "`minigpt-tui config keys` lists them"


def shown_keys(keys: str) -> str:
    """Keys as a reader sees them, such as `F2 1`."""
    return " ".join(shown_key(key) for key in keys.split(",")) if keys else "no key"
