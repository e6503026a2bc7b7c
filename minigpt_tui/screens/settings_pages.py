"""What stands on the pages of the settings' screen: the lines of each, how a value is shown, stepped and typed, and
whether a key is free. Plain functions that know nothing of widgets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from engine.config import ENDLESS
from engine.errors import InvalidSettingError
from engine.validation import parse_text
from minigpt_tui.actions import Action, all_actions
from minigpt_tui.config_file import Config, Option, options, value_of
from minigpt_tui.keymap import shown_keys
from minigpt_tui.settings import PACES
from minigpt_tui.widgets.page_list import PageLine

_LADDERS: dict[str, tuple[Any, ...]] = {
    "pace": (None, *PACES, 0.0),
    "new_tokens": (None, 50, 100, 200, 300, 500, 1000, 2000, 5000, 10_000, ENDLESS),
    "bell": (None, False, True),
    "copy_limit": (0, 4096, 8192, 16_384, 32_768, 74_994, 1_000_000, 100_000_000),
}
"""The values that the arrows step through, where the kind does not say them."""

_NEXT_START = frozenset({"model", "device", "precision", "pace", "new_tokens", "mouse"})
"""What is heeded when the app starts."""

_UNITS = {"pace": " tok/s", "copy_limit": " bytes"}


def shown(option: Option, value: Any) -> str:
    """A value for a reader."""
    if value is None:
        return "as last time"
    if isinstance(value, bool):
        return "on" if value else "off"
    if option.key == "pace" and value == 0:
        return "full speed"
    if option.key == "new_tokens" and value == ENDLESS:
        return "endless"
    if option.key == "copy_limit" and value == 0:
        return "0: always a file"
    if isinstance(value, tuple):
        return ", ".join(value) or "none"
    if isinstance(value, str):
        return value or "default"
    number = f"{value:g}" if isinstance(value, float) else f"{value:,}"
    return number + _UNITS.get(option.key, "")


def written(value: Any) -> str:
    """A value as it stands where it is typed."""
    if value is None:
        return ""
    if isinstance(value, tuple):
        return ", ".join(value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def typed(option: Option, text: str) -> Any:
    """The value of what was typed.

    Raises:
        InvalidSettingError: It is none, or out of range.
    """
    words = {"new_tokens": {"endless": "-1"}, "pace": {"full": "0", "full speed": "0"}}
    text = words.get(option.key, {}).get(text.strip().lower(), text.strip())
    return parse_text(option.field, text.replace(",", "") if option.key in ("new_tokens", "copy_limit") else text)


def ladder(option: Option, themes: Sequence[str]) -> tuple[Any, ...]:
    """The values that the arrows step through; none where a value can only be typed.

    Args:
        option: The setting.
        themes: The names of all themes.
    """
    if option.key == "theme":
        return tuple(themes)
    if option.field.type is bool:
        return (False, True)
    return _LADDERS.get(option.key, option.field.choices)


def stepped(option: Option, value: Any, direction: int, themes: Sequence[str]) -> Any:
    """The next value up (+1) or down (-1); numbers stop at their ends, choices go round."""
    steps = ladder(option, themes)
    if not steps:
        return value
    if option.key in ("pace", "new_tokens", "copy_limit"):
        if value in steps:
            return steps[max(0, min(len(steps) - 1, steps.index(value) + direction))]
        numbers = [step for step in steps if step is not None and step > 0]
        between = [step for step in numbers if (step > value) == (direction > 0)]
        return (min(between) if direction > 0 else max(between)) if between else value
    place = steps.index(value) if value in steps else (-1 if direction > 0 else 0)
    return steps[(place + direction) % len(steps)]


def setting_lines(config: Config, word: str, themes: Sequence[str]) -> tuple[PageLine, ...]:
    """The settings by their groups.

    Args:
        config: What holds.
        word: What a line has to hold to be shown.
        themes: The names of all themes.
    """
    lines: list[PageLine] = []
    group = ""
    for option in options().values():
        if word.lower() not in f"{option.group} {option.title} {option.help}".lower():
            continue
        if option.group != group:
            lines += [PageLine("", "")] * bool(lines) + [PageLine("", option.group)]
            group = option.group
        value = value_of(config, option.key)
        lines.append(
            PageLine(
                option.key,
                option.title,
                shown(option, value),
                option.help,
                changed=value != value_of(Config(), option.key),
                turns=bool(ladder(option, themes)),
                typed=option.key in ("pace", "new_tokens", "copy_limit"),
            )
        )
    return tuple(lines)


def about_setting(option: Option, said: frozenset[str]) -> tuple[str, str]:
    """What a setting means, and where its value is from."""
    sentence = f"{option.help[:1].upper()}{option.help[1:]}."
    default = f"Ships with {shown(option, value_of(Config(), option.key))}"
    allowed = f"; {'one of ' if option.field.choices else ''}{option.range_text}" if option.range_text else ""
    where = "Said in config.toml" if option.key in said else "Not in config.toml"
    heeded = " Heeded at the next start." if option.key in _NEXT_START else ""
    return sentence, f"{where}. {default}{allowed}.{heeded}"


def key_lines(keymap: Mapping[str, str], word: str) -> tuple[PageLine, ...]:
    """Every action that has keys, by its place.

    Args:
        keymap: The keys that were given.
        word: What a line has to hold to be shown.
    """
    lines: list[PageLine] = []
    place = None
    for action in sorted(all_actions(), key=_place):
        keys = shown_keys(action.keys)
        text = f"{action.where.value} {action.title} {action.sentence} {action.id} {keys}"
        if not action.keys or word.lower() not in text.lower():
            continue
        if action.where is not place:
            lines += [PageLine("", "")] * bool(lines) + [PageLine("", action.where.value)]
            place = action.where
        lines.append(PageLine(action.id, action.title, keys, action.sentence, changed=action.id in keymap))
    return tuple(lines)


def _place(action: Action) -> int:
    return list(type(action.where)).index(action.where)


def theme_lines(themes: Mapping[str, str], current: str, word: str) -> tuple[PageLine, ...]:
    """Every theme, the one that was decided on marked.

    Args:
        themes: Names, and a few words on each.
        current: The one that holds.
        word: What a line has to hold to be shown.
    """
    return tuple(
        PageLine(name, name, "in use" if name == current else "", about, changed=name == current)
        for name, about in themes.items()
        if word.lower() in f"{name} {about}".lower()
    )


def swapped(mine: Action, key: str, other: Action, keys: str) -> dict[str, str]:
    """The keys of two actions when one takes a key of the other, which gets the first key of the one.

    Args:
        mine: The action that takes.
        key: The key.
        other: The action that has it.
        keys: What the taker shall have.

    Raises:
        InvalidSettingError: The other would be left with none.
    """
    mine_first = next((old for old in mine.keys.split(",") if old not in keys.split(",")), "")
    theirs = [mine_first if old == key else old for old in other.keys.split(",")]
    left = [old for old in theirs if old]
    if not left:
        raise InvalidSettingError(f"{other.title!r} would have no key", "give it another first")
    return {mine.id: keys, other.id: ",".join(dict.fromkeys(left))}
