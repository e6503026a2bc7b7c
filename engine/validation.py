"""Settings that say their own range and meaning: a field is `Annotated[float, Setting(...)]`, and one check
reads that for the constructor, for JSON, for TOML, for `--set` and for a form. Knows nothing of torch.
"""

from __future__ import annotations

import difflib
import functools
import math
import types
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

from engine.errors import InvalidSettingError


class Setting(msgspec.Struct, frozen=True):
    """What one setting means and which values it takes.

    Attributes:
        help: What it does, as one sentence for a user.
        low: The smallest value, or None for no limit.
        high: The largest value, or None for no limit.
        above: A bound that the value must exceed (an open lower end), or None.
        also: Further single values that are allowed, such as -1 for endless.
    """

    help: str
    low: float | None = None
    high: float | None = None
    above: float | None = None
    also: tuple[float, ...] = ()

    def allows(self, value: float) -> bool:
        """Whether `value` lies in the range."""
        if value in self.also:
            return True
        if isinstance(value, float) and not math.isfinite(value):  # a whole number may be too long for a float
            return False
        return (
            (self.low is None or value >= self.low)
            and (self.high is None or value <= self.high)
            and (self.above is None or value > self.above)
        )

    @property
    def range_text(self) -> str:
        """The range in words, such as `from 0 to 2`; empty when there is none."""
        parts = []
        if self.low is not None and self.high is not None:
            parts.append(f"from {number_text(self.low)} to {number_text(self.high)}")
        elif self.above is not None:
            most = "" if self.high is None else f", at most {number_text(self.high)}"
            parts.append(f"more than {number_text(self.above)}{most}")
        elif self.low is not None:
            parts.append(f"at least {number_text(self.low)}")
        elif self.high is not None:
            parts.append(f"at most {number_text(self.high)}")
        parts += [number_text(value) for value in self.also]
        return " or ".join(parts)


def number_text(value: float) -> str:
    """A number for a reader: whole ones in full, such as `100,000,000`, unless they are absurdly long."""
    if isinstance(value, float):
        return f"{value:g}"
    return f"{value:,}" if value.bit_length() < 128 else f"a number of {value.bit_length():,} bits"


class Field(msgspec.Struct, frozen=True):
    """One field of a settings struct as its annotation declares it."""

    name: str
    type: Any
    setting: Setting | None
    choices: tuple[str, ...]
    default: Any


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The base of all settings: frozen, and checked against its annotations when it is made."""

    def __post_init__(self) -> None:
        for field in fields(type(self)).values():
            check_value(field, getattr(self, field.name))

    def replace(self, **changes: Any) -> Any:
        """A copy with some fields changed, checked like a new one.

        Raises:
            InvalidSettingError: A field is unknown or a value is out of range.
        """
        return make(type(self), {**to_dict(self), **changes})


S = TypeVar("S", bound=Settings)


@functools.cache
def fields(cls: type[Settings]) -> dict[str, Field]:
    """The fields of a settings class by name, in the order of their declaration."""
    hints = get_type_hints(cls, include_extras=True)
    found = {}
    for info in msgspec.structs.fields(cls):
        hint, setting = hints[info.name], None
        if get_origin(hint) is Annotated:
            hint, *extras = get_args(hint)
            setting = next((extra for extra in extras if isinstance(extra, Setting)), None)
        choices = tuple(str(c) for c in get_args(hint)) if get_origin(hint) is Literal else ()
        found[info.name] = Field(info.name, hint, setting, choices, info.default)
    return found


def check_value(field: Field, value: Any) -> None:
    """Raise InvalidSettingError unless `value` is of the field's kind and in its range."""
    if not _is_of_kind(value, field.type):
        raise InvalidSettingError(f"{field.name} is {value!r}", _kind_hint(field.type))
    if field.setting is None or isinstance(value, bool) or not isinstance(value, (int, float)):
        return
    if not field.setting.allows(value):
        raise InvalidSettingError(f"{field.name} is {number_text(value)}", f"it must be {field.setting.range_text}")


_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text", type(None): "none"}


def _is_of_kind(value: Any, kind: Any) -> bool:
    """Whether a value is of an annotated kind; a whole number is a number too, and true is neither."""
    parts = get_args(kind)
    if get_origin(kind) is Literal:
        return value in parts
    if get_origin(kind) in (Union, types.UnionType):
        return any(_is_of_kind(value, part) for part in parts)
    if get_origin(kind) is tuple:  # of any length: tuple[kind, ...]
        return isinstance(value, tuple) and all(_is_of_kind(item, parts[0]) for item in value)
    if kind in (int, float) and isinstance(value, bool):
        return False
    return isinstance(value, (int, float) if kind is float else kind)


def _kind_hint(kind: Any) -> str:
    """What a value of a kind looks like, in words."""
    parts = get_args(kind)
    if get_origin(kind) is Literal:
        return f"choose one of {', '.join(map(str, parts))}"
    if get_origin(kind) in (Union, types.UnionType):
        return f"it must be {' or '.join(_KINDS[part] for part in parts)}"
    if get_origin(kind) is tuple:
        each = f", each one of {', '.join(map(str, get_args(parts[0])))}" if get_args(parts[0]) else " of texts"
        return f"it must be a list{each}"
    return f"it must be {_KINDS[kind]}"


def make(cls: type[S], values: Mapping[str, Any]) -> S:
    """Build settings from plain values, such as those of a JSON or TOML file.

    Raises:
        InvalidSettingError: A key is unknown (the nearest known one is named), or a value is of the wrong kind
            or out of its range.
    """
    known = fields(cls)
    for key in values:
        if key not in known:
            raise InvalidSettingError(f"there is no setting {key!r}", nearest_hint(key, known))
    try:
        return msgspec.convert(dict(values), cls)
    except msgspec.ValidationError as error:
        if isinstance(error.__cause__, InvalidSettingError):
            raise error.__cause__ from None
        text = str(error).replace(" - at `$.", " in ").rstrip("`")
        raise InvalidSettingError("a setting is of the wrong kind", text) from None


def nearest_hint(key: str, known: Mapping[str, Any]) -> str:
    """A hint for an unknown key: the nearest known one, or the list of all."""
    near = difflib.get_close_matches(key, known, n=1)
    return f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"


def parse_assignments(cls: type[Settings], assignments: tuple[str, ...] | list[str]) -> dict[str, Any]:
    """Turn `KEY=VALUE` words, as `--set` takes them, into values of the fields' kinds.

    Raises:
        InvalidSettingError: A word has no `=`, the key is unknown, or the value cannot be read as its kind.
    """
    known = fields(cls)
    values: dict[str, Any] = {}
    for word in assignments:
        key, equals, text = word.partition("=")
        key = key.strip()
        if not equals:
            raise InvalidSettingError(f"{word!r} is not KEY=VALUE", "write for example --set steps=500")
        if key not in known:
            raise InvalidSettingError(f"there is no setting {key!r}", nearest_hint(key, known))
        values[key] = parse_text(known[key], text.strip())
    return values


def parse_text(field: Field, text: str) -> Any:
    """Read one value from text by the kind of its field; its range is checked too."""
    kind = field.type
    if get_origin(kind) in (Union, types.UnionType):
        if text.lower() in ("none", "off", ""):
            return None
        kind = next(part for part in get_args(kind) if part is not type(None))
    value: Any
    try:
        if kind is bool:
            value = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False,
                     "0": False}[text.lower()]  # fmt: skip
        elif kind is int:
            value = int(text.replace("_", ""))
        elif kind is float:
            value = float(text)
        elif get_origin(kind) is tuple:
            value = tuple(part.strip() for part in text.split(",") if part.strip())
        else:
            value = text
    except (ValueError, KeyError):
        raise InvalidSettingError(f"{field.name} is {text!r}", f"it must be {_KINDS[kind]}") from None
    check_value(field, value)
    return value


def to_dict(settings: msgspec.Struct) -> dict[str, Any]:
    """The fields and values of a struct, one level deep."""
    return {name: getattr(settings, name) for name in settings.__struct_fields__}
