"""Settings that change in mid-stream, as words of a command line: `POSITION:KEY=VALUE,...`, the position counted in
tokens from the start of the prompt. `stop` takes all that follows it, written as in the sampling panel. What is written
here is read here, to the same settings.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from engine.config import SamplingParams
from engine.errors import InvalidSettingError
from engine.validation import fields, nearest_hint, parse_text
from engine.worker.protocol import ParamsAt
from minigpt_tui.parameters import parse_stop, stop_text

EXAMPLE = "write for example 120:temperature=1.2,top_k=20"


def parse_changes(words: Iterable[str], params: SamplingParams) -> tuple[ParamsAt, ...]:
    """The settings from each position on, in order.

    Args:
        words: As they were typed; of two that change the same at one position the later counts.
        params: The settings of the first token.

    Raises:
        InvalidSettingError: A word makes no sense, or a value is out of its range.
    """
    found: dict[int, dict[str, Any]] = {}
    for word in words:
        position, values = _parse(word)
        found.setdefault(position, {}).update(values)
    changes, now = [], params
    for position in sorted(found):
        now = now.replace(**found[position])
        changes.append(ParamsAt(position, now))
    return tuple(changes)


def _parse(word: str) -> tuple[int, dict[str, Any]]:
    place, colon, rest = word.partition(":")
    if not colon or not place.strip().isdecimal() or len(place) > 18:
        raise InvalidSettingError(f"{word!r} is not POSITION:KEY=VALUE", EXAMPLE)
    known = {name: field for name, field in fields(SamplingParams).items() if name != "seed"}
    values: dict[str, Any] = {}
    while rest:
        key, equals, text = rest.partition("=")
        key = key.strip().replace("-", "_")
        if not equals:
            raise InvalidSettingError(f"{rest!r} is not KEY=VALUE", EXAMPLE)
        if key == "seed":
            raise InvalidSettingError("the seed of a text cannot change", "leave it out: the noise stays the same")
        if key not in known:
            raise InvalidSettingError(f"there is no setting {key!r}", nearest_hint(key, known))
        if key == "stop":
            values[key], rest = parse_stop(text), ""
        else:
            text, _, rest = text.partition(",")
            values[key] = parse_text(known[key], text.strip())
    if not values:
        raise InvalidSettingError(f"{word!r} changes nothing", EXAMPLE)
    return int(place), values


def change_words(changes: Iterable[ParamsAt], params: SamplingParams, without: Iterable[str] = ()) -> list[str]:
    """Changes as `parse_changes` reads them; what changes nothing has no word.

    Args:
        changes: In order.
        params: The settings of the first token.
        without: Settings that are left out.
    """
    words, before = [], params
    for change in changes:
        names = [name for name in SamplingParams.__struct_fields__ if name not in ("seed", *without)]
        parts = [
            f"{name}={_value_text(getattr(change.params, name))}"
            for name in sorted(names, key=lambda name: name == "stop")  # it takes all that follows
            if getattr(change.params, name) != getattr(before, name)
        ]
        if parts:
            words.append(f"{change.position}:{','.join(parts)}")
        before = change.params
    return words


def _value_text(value: Any) -> str:
    return stop_text(value) if isinstance(value, tuple) else repr(value)
