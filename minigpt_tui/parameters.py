"""The sampling parameters as a reader turns them: their order, names, two keys each, sensible steps, and how a value
is shown and typed. Ranges come from `SamplingParams`; nothing here knows of a screen.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from engine.config import ENDLESS, SamplingParams
from engine.errors import InvalidSettingError
from engine.validation import fields, parse_text

_TOP_K = (1, 2, 3, 5, 10, 20, 50, 100, 200)
_TOP_P = (*(step / 20 for step in range(1, 20)), 0.96, 0.97, 0.98, 0.99, 1.0)
_MIN_P = (*(step / 100 for step in range(21)), *(step / 20 for step in range(5, 21)))
_TEMPERATURE = tuple(step / 20 for step in range(201))
_REPETITION = tuple(step / 20 for step in range(2, 201))
_LENGTHS = (50, 100, 200, 300, 500, 1000, 2000, 5000, 10_000)

_WORDS: dict[str, dict[str, int | None]] = {
    "top_k": {"off": 0},
    "max_new_tokens": {"endless": ENDLESS},
    "seed": {"random": None, "": None},
}  # what can be typed in place of a number


@dataclass(frozen=True)
class Parameter:
    """One row of the sampling panel.

    Attributes:
        field: Its name in `SamplingParams`.
        name: Its name for a reader.
        short: Its name where room is scarce; it holds the lower key's letter.
        lower_key: The key that lowers it (for the seed: a new random one; for stop strings: edit them).
        raise_key: The key that raises it (for the seed: type one), or empty.
        ladder: The values that the keys step through, rising.
        beyond: The value above the ladder's last (off, endless), or None when there is none.
        bar: The share of the bar that a value fills, from 0 to 1, and the value of a share; None for no bar.
    """

    field: str
    name: str
    short: str
    lower_key: str
    raise_key: str = ""
    ladder: tuple[float, ...] = ()
    beyond: int | None = None
    bar: tuple[Callable[[float], float], Callable[[float], float]] | None = None

    @property
    def actions(self) -> tuple[str, ...]:
        """The ids of the actions that turn it."""
        own = {"seed": ("new_seed", "type_seed"), "stop": ("edit_stop",)}
        return own.get(self.field, (f"lower_{self.field}", f"raise_{self.field}"))

    @property
    def range_text(self) -> str:
        """The range in words."""
        setting = fields(SamplingParams)[self.field].setting
        return setting.range_text if setting else ""

    @property
    def help(self) -> str:
        """What it does, as one sentence."""
        setting = fields(SamplingParams)[self.field].setting
        return setting.help if setting else ""

    def value(self, params: SamplingParams) -> Any:
        """Its value in `params`."""
        return getattr(params, self.field)

    def is_default(self, params: SamplingParams) -> bool:
        """Whether it stands where it stands without anybody's doing."""
        return bool(self.value(params) == fields(SamplingParams)[self.field].default)

    def stepped(self, params: SamplingParams, direction: int) -> SamplingParams:
        """`params` with this one a step up (+1) or down (-1); unchanged at its end."""
        value, ladder = self.value(params), self.ladder
        if direction < 0:
            place = len(ladder) if value == self.beyond else bisect_left(ladder, value)
            new = ladder[max(0, place - 1)] if place or value == self.beyond else value
        else:
            place = len(ladder) if value == self.beyond else bisect_right(ladder, value)
            past_end = value if self.beyond is None else self.beyond
            new = ladder[place] if place < len(ladder) else past_end
        return self.replaced(params, new)

    def replaced(self, params: SamplingParams, value: Any) -> SamplingParams:
        """`params` with this one set to `value`.

        Raises:
            InvalidSettingError: It is out of range.
        """
        if self.ladder and fields(SamplingParams)[self.field].type is int:
            value = int(value)
        changed: SamplingParams = params.replace(**{self.field: value})
        return changed

    def typed(self, params: SamplingParams, text: str) -> SamplingParams:
        """`params` with this one set to what a reader typed.

        Raises:
            InvalidSettingError: It cannot be read, or is out of range; the message says the range.
        """
        text = text.strip()
        known = _WORDS.get(self.field, {})
        if text.lower() in known:
            return self.replaced(params, known[text.lower()])
        if self.field == "stop":
            return self.replaced(params, parse_stop(text))
        if not text:
            raise InvalidSettingError(f"{self.name} has no value", f"it must be {self.range_text}")
        field = fields(SamplingParams)[self.field]
        return self.replaced(params, parse_text(field, text.replace(",", "." if field.type is float else "")))

    def shown(self, params: SamplingParams) -> str:
        """Its value as text."""
        value = self.value(params)
        if self.field == "stop":
            return stop_text(value) or "none"
        if self.field == "seed":
            return "random" if value is None else str(value)
        if self.beyond is not None and value == self.beyond:
            return "endless" if self.beyond == ENDLESS else "off"
        return f"{value:,}" if isinstance(value, int) else f"{value:.2f}"

    def share(self, params: SamplingParams) -> float | None:
        """The filled share of its bar from 0 to 1, or None when it has no bar."""
        return None if self.bar is None else max(0.0, min(1.0, self.bar[0](self.value(params))))

    def at_share(self, params: SamplingParams, share: float) -> SamplingParams:
        """`params` with this one set to the value where its bar is filled to `share`, on the ladder."""
        if self.bar is None:
            return params
        wanted = self.bar[1](max(0.0, min(1.0, share)))
        choices = [*self.ladder, *([] if self.beyond is None else [self.beyond])]
        return self.replaced(params, min(choices, key=lambda value: abs(value - wanted)))


def _top_k_share(value: float) -> float:
    return 0.0 if value == 0 else (bisect_left(_TOP_K, value) + 1) / len(_TOP_K)


def _top_k_at(share: float) -> float:
    return 0 if share <= 0 else _TOP_K[min(len(_TOP_K) - 1, int(share * len(_TOP_K)))]


PARAMETERS: tuple[Parameter, ...] = (
    Parameter("temperature", "temperature", "temp", "t", "T", _TEMPERATURE, None, (lambda v: v / 2, lambda s: s * 2)),
    Parameter("top_k", "top-k", "top-k", "k", "K", _TOP_K, 0, (_top_k_share, _top_k_at)),
    Parameter("top_p", "top-p", "top-p", "p", "P", _TOP_P, None, (lambda v: v, lambda s: s)),
    Parameter("min_p", "min-p", "min-p", "m", "M", _MIN_P, None, (lambda v: v * 2, lambda s: s / 2)),
    Parameter(
        "repetition_penalty", "repetition", "rep", "r", "R", _REPETITION, None, (lambda v: v - 1, lambda s: 1 + s)
    ),
    Parameter("max_new_tokens", "new tokens", "new", "n", "N", _LENGTHS, ENDLESS),
    Parameter("seed", "seed", "seed", "s", "S"),
    Parameter("stop", "stop", "stop", "/"),
)
"""All of them, in the order of the panel."""

BY_FIELD = {parameter.field: parameter for parameter in PARAMETERS}


def changes(before: SamplingParams, after: SamplingParams) -> str:
    """What differs between two settings of a running text, such as `temperature 1.10 · top-k 20`; the seed does not
    count, because it cannot change while a text is written.
    """
    return " · ".join(
        f"{parameter.name} {parameter.shown(after)}"
        for parameter in PARAMETERS
        if parameter.field != "seed" and parameter.value(before) != parameter.value(after)
    )


_UNESCAPED = {"n": "\n", "t": "\t", "\\": "\\", "|": "|", "s": " "}
_ESCAPED = {"\\": "\\\\", "\n": "\\n", "\t": "\\t", "|": "\\|"}


def parse_stop(text: str) -> tuple[str, ...]:
    r"""Stop strings from a line: parted by `|`, with \n, \t, \\ and \| for these signs, \s for a space at an end."""
    strings = []
    for part in re.split(r"((?:[^\\|]|\\.|\\$)*)(?:\||$)", text)[1::2]:
        string = re.sub(r"\\(.)", lambda match: _UNESCAPED.get(match[1], match[0]), part.strip(" "))
        if string and string not in strings:
            strings.append(string)
    return tuple(strings)


def stop_text(stop: tuple[str, ...]) -> str:
    """Stop strings as `parse_stop` reads them."""
    return " | ".join(_stop_string_text(string) for string in stop)


def _stop_string_text(string: str) -> str:
    written = "".join(_ESCAPED.get(character, character) for character in string)
    inner = written.strip(" ")
    if not inner:
        return "\\s" * len(written)
    lead = len(written) - len(written.lstrip(" "))
    return "\\s" * lead + inner + "\\s" * (len(written) - lead - len(inner))
