"""A setting as a reader turns it: how its value is shown and typed, what the keys step through, which choices it has.
Ranges, kinds and choices come from the setting's own declaration. Knows nothing of a screen.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left, bisect_right
from typing import Any, get_args, get_origin

from engine.errors import InvalidSettingError
from engine.validation import Field, Setting, parse_text

_BY_ONE = 256
"""Whole numbers that end here are stepped one by one."""

_NO_BOUND = 2**53
"""A range that ends here or later is as good as open."""

_HALVES = (1.0, 1.5)
_ROUND = (1.0, 1.5, 2.0, 3.0, 5.0, 7.5)
_NEAR_ONE = (0.0, 0.5, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)  # what decay rates are chosen from

IN_BINARY = frozenset({"n_embd", "block_size", "batch_size", "accumulation", "vocab_size", "eval_tokens"})
"""Settings that are stepped through powers of two and what lies half-way between them."""


def choices(field: Field) -> tuple[Any, ...]:
    """All values of a setting that has but a few: a word of a list, yes or no, some words of a list."""
    if field.choices:
        return field.choices
    if field.type is bool:
        return (False, True)
    if get_origin(field.type) is tuple and (words := get_args(get_args(field.type)[0])):
        return tuple(itertools.chain.from_iterable(itertools.combinations(words, n) for n in range(len(words) + 1)))
    return ()


def shown(value: Any) -> str:
    """A value as text."""
    if value is None or value == ():
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(value)
    if isinstance(value, int):
        return f"{value:,}" if value >= 10_000 else str(value)
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def typed(field: Field, text: str) -> Any:
    """The value that a reader typed.

    Raises:
        InvalidSettingError: It cannot be read, or is out of range; the message says the range.
    """
    text = text.strip()
    if not text and field.type is not str and field.default is not None:
        raise InvalidSettingError(f"{field.name} has no value", f"it must be {range_words(field)}")
    if field.type in (int, float) or is_number(field):
        text = text.replace(",", "" if field.type is int else ".")
    return parse_text(field, text)


def is_number(field: Field) -> bool:
    """Whether its value is a number, or a number or none."""
    return field.type in (int, float) or any(part in (int, float) for part in get_args(field.type))


def range_words(field: Field) -> str:
    """Which values it takes, such as `from 1 to 256` or `gpt2, nanochat, qwen3 or llama`."""
    if field.choices:
        return " or ".join(filter(None, (", ".join(field.choices[:-1]), field.choices[-1])))
    if field.type is bool:
        return "yes or no"
    if get_origin(field.type) is tuple:
        return f"none, or some of {', '.join(map(str, get_args(get_args(field.type)[0])))}"
    setting = field.setting
    if setting is not None and setting.low is not None and setting.high is not None and setting.high >= _NO_BOUND:
        return f"at least {setting.low:g}"
    return setting.range_text if setting else ""


def stepped(field: Field, value: Any, direction: int) -> Any:
    """The next value up (+1) or down (-1); the same at the end of the range. Choices go round.

    Args:
        field: The setting.
        value: Where it stands.
        direction: +1 or -1.
    """
    if known := choices(field):
        place = known.index(value) if value in known else 0
        return known[(place + direction) % len(known)]
    setting = field.setting or Setting("")
    if not is_number(field):
        return value
    if value is None:
        return 1.0 if direction > 0 else None
    ladder = _ladder(field, setting, value)
    place = bisect_right(ladder, value) if direction > 0 else bisect_left(ladder, value) - 1
    if not 0 <= place < len(ladder):
        return None if direction < 0 and field.default is None else value
    return ladder[place]


def _ladder(field: Field, setting: Setting, value: float) -> list[Any]:
    """The values near `value` that the keys step through, rising, all of them in the range."""
    whole = field.type is int
    near: list[float]
    first = 1.0 if whole or setting.high is None else min(1.0, setting.high / 1000)  # the step up from nothing
    by_one = setting.high is not None and (setting.high <= _BY_ONE or setting.high >= _NO_BOUND)  # a seed has no scale
    if whole and by_one and field.name not in IN_BINARY:
        first, near = 0.0, [value - 1, value + 1]
    elif not whole and setting.high is not None and 0.95 < setting.high < 1:
        first, near = 0.0, list(_NEAR_ONE)
    elif not whole and setting.low == 0 and setting.high is not None and setting.high <= 1:
        first, near = 0.0, [step / 20 for step in range(21)]
    elif field.name in IN_BINARY:
        near = [share * 2**power for power in _powers(value or first, 2) for share in _HALVES]
    else:
        near = [share * 10**power for power in _powers(value or first, 10) for share in _ROUND]
    if setting.low is not None:
        near = [step for step in near if step >= first or setting.low > 0] + [setting.low]
    steps = {int(step) if whole else float(f"{step:.6g}") for step in near if not whole or step == int(step)}
    return sorted(step for step in steps if setting.allows(step))


def _powers(value: float, base: int) -> range:
    """The exponents around a value."""
    exponent = math.floor(math.log(value, base))
    return range(exponent - 1, exponent + 2)
