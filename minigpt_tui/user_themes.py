"""Themes of one's own: `themes/NAME.toml` in the config folder, with the fields of a Textual theme. What is wrong in
one is told with its file; the others are there all the same.
"""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine import folders
from engine.errors import MiniGPTError
from engine.validation import nearest_hint

if TYPE_CHECKING:
    from textual.theme import Theme

MAX_SIZE = 64 * 1024
"""Bytes; a theme has some dozen lines."""

_COLOURS = (
    "primary", "secondary", "warning", "error", "success", "accent", "foreground", "background", "surface", "panel",
    "boost",
)  # fmt: skip
_STYLES = frozenset({"bold", "dim", "italic", "underline", "strike", "reverse", "blink", "none"})
_SHARES = ("luminosity_spread", "text_alpha")
_SWITCHES = ("dark", "ansi")
_KNOWN = ("name", *_COLOURS, *_SHARES, *_SWITCHES, "variables")


class ThemeError(MiniGPTError):
    """A theme's file is wrong; the theme is not there."""


def themes_folder() -> Path:
    """Where they are."""
    return folders.config_home() / "themes"


def theme_files() -> list[Path]:
    """The files of one's own themes by name."""
    folder = themes_folder()
    try:
        return sorted(path for path in folder.iterdir() if path.suffix == ".toml" and not path.name.startswith("."))
    except OSError:
        return []


def known_themes() -> list[str]:
    """The names of all themes: ours, Textual's, and one's own that are right."""
    from textual.theme import BUILTIN_THEMES

    from minigpt_tui.themes import OWN

    names = [*(theme.name for theme in OWN), *BUILTIN_THEMES]
    for path in theme_files():
        with contextlib.suppress(ThemeError):
            names.append(read_theme(path).name)
    return names


def read_theme(path: Path) -> Theme:
    """A theme; its name is its file's, unless it says another.

    Raises:
        ThemeError: The file is no theme.
    """
    import tomllib

    from textual.theme import BUILTIN_THEMES, Theme

    from minigpt_tui.config_file import error_place
    from minigpt_tui.themes import OWN

    try:
        with path.open("rb") as file:
            raw = file.read(MAX_SIZE + 1)
        if len(raw) > MAX_SIZE:
            raise ThemeError(f"{path}: it is longer than a theme", "a theme has some dozen lines")
        text = raw.decode("utf-8")
        data = tomllib.loads(text)
    except OSError as error:
        raise ThemeError(f"{path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise ThemeError(f"{path}: it is not UTF-8") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        line, why = error_place(str(error), text)
        raise ThemeError(f"{path}, line {line}: {why}") from None
    values = _checked(path, data)
    name = values.pop("name", path.stem)
    if name in BUILTIN_THEMES or any(name == theme.name for theme in OWN):
        raise ThemeError(f"{path}: there is a theme {name!r} already", "give it another name")
    return Theme(name=name, **values)


def _checked(path: Path, data: dict[str, Any]) -> dict[str, Any]:
    values = dict(data)
    for key, value in data.items():
        if key not in _KNOWN:
            raise ThemeError(f"{path}: a theme has no {key!r}", nearest_hint(key, dict.fromkeys(_KNOWN)))
        if key in _COLOURS:
            _colour(path, key, value)
        elif key in _SHARES:
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
                raise ThemeError(f"{path}: {key} is {value!r}", "it must be from 0 to 1")
        elif key in _SWITCHES and not isinstance(value, bool):
            raise ThemeError(f"{path}: {key} is {value!r}", "it must be true or false")
        elif key == "name" and (not isinstance(value, str) or not value.strip() or not value.isprintable()):
            raise ThemeError(f"{path}: name is {value!r}", "it must be a name in quotes")
        elif key == "variables":
            if not isinstance(value, dict):
                raise ThemeError(f"{path}: variables is {value!r}", "write them below a line [variables]")
            for name, variable in value.items():
                _variable(path, name, variable)
    if "primary" not in data:
        raise ThemeError(f"{path}: primary is missing", 'a theme needs at least primary = "#e6b45e"')
    return values


def _colour(path: Path, key: str, value: Any) -> None:
    from textual.color import Color, ColorParseError

    try:
        if not isinstance(value, str) or value == "auto":
            raise ThemeError(f"{path}: {key} is {value!r}", 'it must be a colour in quotes, such as "#e6b45e"')
        Color.parse(value)
    except ColorParseError:
        raise ThemeError(f"{path}: {key} is {value!r}", 'it must be a colour, such as "#e6b45e" or "red"') from None


def _variable(path: Path, name: str, value: object) -> None:
    """Textual's variables are colours, some with a share, and styles; whatever else would break the app's styles."""
    from textual.color import Color, ColorParseError

    wrong = ThemeError(f"{path}: variables.{name} is {value!r}", 'it must be a colour, such as "#e6b45e" or "red 30%"')
    if not isinstance(value, str) or not name.replace("-", "").isalnum():
        raise wrong
    words = value.split()
    if name.endswith("-style"):
        if not words or not _STYLES.issuperset(words):
            raise ThemeError(f"{path}: variables.{name} is {value!r}", "it must be a style, such as bold or reverse")
        return
    colour, share = words[:1], words[1:]
    if not colour or len(share) > 1 or not all(re.fullmatch(r"\d{1,3}(\.\d+)?%", word) for word in share):
        raise wrong
    try:
        Color.parse(colour[0])
    except ColorParseError:
        raise wrong from None
