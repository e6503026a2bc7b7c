"""Sampler settings that have names: those that ship, and the user's own in `presets.toml`, which may take the name of a
shipped one. Knows nothing of any screen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine import folders
from engine.config import SamplingParams
from engine.errors import InvalidSettingError
from engine.validation import fields, make, nearest_hint
from minigpt_tui.library.named_tables import LibraryError, check_name, put_table, read_tables, remove_table
from minigpt_tui.parameters import BY_FIELD, PARAMETERS

ABOUT = "about"
ABOUT_CHARACTERS = 200

OF_THE_TEXT = ("seed", "max_new_tokens")
"""Belong to a text rather than to its style: a preset leaves them alone unless it names them."""


@dataclass(frozen=True)
class Preset:
    """Settings with a name.

    Attributes:
        about: What they are for, as a sentence; may be empty.
        values: The settings that it names; the others of `SamplingParams` are as they are without anybody's doing.
        is_own: Whether it is the user's.
        is_shipped: Whether one of that name ships.
        problem: What is wrong with it in the user's file; then it cannot be used.
    """

    name: str
    about: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    is_own: bool = False
    is_shipped: bool = False
    problem: str = ""

    def applied(self, params: SamplingParams) -> SamplingParams:
        """`params` with this in force.

        Raises:
            LibraryError: There is something wrong with it.
        """
        if self.problem:
            raise LibraryError(f"the preset {self.name} cannot be used: {self.problem}", f"mend it in {presets_file()}")
        kept = {name: getattr(params, name) for name in OF_THE_TEXT}
        return make(SamplingParams, {**kept, **self.values})

    @property
    def words(self) -> str:
        """Its settings as a reader sees them, such as `temperature 1.20 · min-p 0.05`."""
        if self.problem:
            return self.problem
        params = make(SamplingParams, dict(self.values))
        told = [
            f"{parameter.name} {parameter.shown(params)}"
            for parameter in PARAMETERS
            if parameter.field in self.values and (parameter.field in OF_THE_TEXT or not parameter.is_default(params))
        ]
        return " · ".join(told) or "the usual settings"

    @property
    def line(self) -> str:
        """Its settings on a line that `parse_line` reads."""
        params = make(SamplingParams, dict(self.values)) if not self.problem else SamplingParams()
        return "  ".join(f"{name}={BY_FIELD[name].shown(params).replace(',', '')}" for name in self.values)


SHIPPED = tuple(
    Preset(name, about, values, is_shipped=True)
    for name, about, values in (
        (
            "creative",
            "Bold words that still hang together: unlikely ones are let in, hopeless ones are not.",
            {"temperature": 1.2, "min_p": 0.05},
        ),
        ("balanced", "A little surer than the model itself; what everything begins with.", {"temperature": 0.8}),
        (
            "conservative",
            "Keeps to what the model is fairly sure of: tidy, plain, sooner in a loop.",
            {"temperature": 0.5, "top_p": 0.9},
        ),
        (
            "greedy",
            "Always the likeliest token: the same text whatever the seed, to see what the model holds for true.",
            {"temperature": 0.0},
        ),
    )
)
"""In the order of the list, the boldest first."""


def presets_file() -> Path:
    """Where the user's own are kept."""
    return folders.config_home() / "presets.toml"


def read_presets() -> tuple[Preset, ...]:
    """All presets: the shipped ones, each with the user's in its place where there is one, then the user's others.

    Raises:
        LibraryError: The user's file is damaged; `SHIPPED` can be used all the same.
    """
    own = {name: _preset(name, table) for name, table in read_tables(presets_file()).items()}
    return (
        *(own.pop(shipped.name, shipped) for shipped in SHIPPED),
        *own.values(),
    )


def _preset(name: str, table: Any) -> Preset:
    """A preset from its table; what is wrong with it is part of it, so that the others can be used."""
    is_shipped = any(shipped.name == name for shipped in SHIPPED)
    known = fields(SamplingParams)
    if not isinstance(table, dict):
        return Preset(name, is_own=True, is_shipped=is_shipped, problem=f"it is no table; write [{name}] above it")
    about = table.get(ABOUT, "")
    values = {key: value for key, value in table.items() if key != ABOUT}
    try:
        if not isinstance(about, str):
            raise InvalidSettingError(f"about is {about!r}", "it must be text")
        if unknown := [key for key in values if key not in known]:
            raise InvalidSettingError(
                f"there is no setting {unknown[0]!r}", nearest_hint(unknown[0], {**known, ABOUT: None})
            )
        params = make(SamplingParams, values)
    except InvalidSettingError as error:
        return Preset(name, is_own=True, is_shipped=is_shipped, problem=str(error))
    return Preset(name, about, {key: getattr(params, key) for key in values}, is_own=True, is_shipped=is_shipped)


def find_preset(name: str) -> Preset:
    """The preset of that name.

    Raises:
        LibraryError: There is none, all are named then; or the user's file is damaged.
    """
    known = {preset.name: preset for preset in read_presets()}
    if name not in known:
        raise LibraryError(f"there is no preset {name!r}", f"there are: {', '.join(known)}")
    return known[name]


def preset_in_force(presets: Sequence[Preset], params: SamplingParams) -> str:
    """The name of the preset that settings are equal to, the user's own before the shipped ones; empty for none."""
    for preset in sorted(presets, key=lambda preset: not preset.is_own):
        if not preset.problem and preset.applied(params) == params:
            return preset.name
    return ""


def values_to_keep(params: SamplingParams) -> dict[str, Any]:
    """What of some settings makes a preset: the temperature, and all that somebody has turned, but the text's own."""
    return {
        parameter.field: parameter.value(params)
        for parameter in PARAMETERS
        if parameter.field not in OF_THE_TEXT and (parameter.field == "temperature" or not parameter.is_default(params))
    }


def parse_line(line: str) -> dict[str, Any]:
    r"""Settings from a line such as `temperature=1.2 min_p=0.05 stop=THE END | \n\n`.

    Raises:
        InvalidSettingError: A word has no `=`, a setting is unknown, or its value is out of range.
    """
    values: dict[str, Any] = {}
    for word in _words(line):
        key, equals, text = word.partition("=")
        key = key.strip().replace("-", "_")
        if not equals:
            raise InvalidSettingError(f"{word.strip()!r} is not KEY=VALUE", "write for example temperature=1.2")
        if key not in BY_FIELD:
            raise InvalidSettingError(f"there is no setting {key!r}", nearest_hint(key, BY_FIELD))
        values[key] = BY_FIELD[key].value(BY_FIELD[key].typed(SamplingParams(), text))
    return values


def _words(line: str) -> list[str]:
    """The assignments of a line; a value goes as far as the next `KEY=`."""
    words: list[str] = []
    for word in line.split(" "):
        if "=" in word or not words:
            words.append(word)
        else:
            words[-1] += f" {word}"
    return [word for word in words if word.strip()]


def save_preset(name: str, values: Mapping[str, Any], about: str = "") -> None:
    """Keep settings under a name, in place of the user's of that name; a shipped one comes back when it is removed.

    Raises:
        LibraryError: The name is none, or the file is damaged or cannot be written.
        InvalidSettingError: A setting is unknown or out of its range.
    """
    check_name(name)
    make(SamplingParams, dict(values))
    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}
    plain = {key: value for key, value in plain.items() if value is not None}  # TOML has no word for none
    sentence = " ".join(about.split())[:ABOUT_CHARACTERS]
    put_table(presets_file(), name, ({ABOUT: sentence} if sentence else {}) | plain)


def remove_preset(name: str) -> None:
    """Take one of the user's own away.

    Raises:
        LibraryError: It ships, there is none, or the file is damaged or cannot be written.
    """
    preset = find_preset(name)
    if not preset.is_own:
        raise LibraryError(f"{name} ships with minigpt-tui and stays", "one of your own with its name takes its place")
    remove_table(presets_file(), name)
