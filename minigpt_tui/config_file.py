"""What the user has decided: `config.toml`, read at the start, each key checked by itself. What is wrong in it is told
with its line, the rest counts, and the file is left as it is. Knows nothing of screens, nor of how the file is written.

What it says is how each start begins; what was given on the command line comes before it, and what it leaves out is
as the last session left it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from engine import folders
from engine.config import ENDLESS, Device, Precision
from engine.errors import InvalidSettingError
from engine.validation import Field, Setting, Settings, check_value, fields, nearest_hint, to_dict

MAX_SIZE = 1024 * 1024
"""A longer file is none that a user wrote, bytes."""

Clipboard = Literal["auto", "osc52", "file"]


class Recording(Settings, frozen=True, kw_only=True):
    """Which texts the history keeps."""

    record_app: Annotated[bool, Setting("whether what is written in the app is kept in the history")] = True
    record_shell: Annotated[bool, Setting("whether what `generate` writes is kept in the history too")] = False


class Config(Settings, frozen=True, kw_only=True):
    """All that can be decided, with what holds where nothing is."""

    model: Annotated[
        str, Setting("the model that writes first: a name, a folder, RUN or RUN:best; empty for the default")
    ] = ""
    device: Annotated[Device, Setting("where to compute; auto takes a GPU when there is one")] = "auto"
    precision: Annotated[Precision, Setting("arithmetic; auto takes what the device is best at")] = "auto"
    model_folders: Annotated[tuple[str, ...], Setting("further folders in which models are found by name")] = ()
    pace: Annotated[
        float | None,
        Setting("tokens per second at the start, 0 for full speed; none for the last session's", 0.0, 1e6),
    ] = None
    new_tokens: Annotated[
        int | None,
        Setting(
            "length of a text at the start, -1 for endless; none for the last session's", 1, 2**31, also=(ENDLESS,)
        ),
    ] = None
    theme: Annotated[str, Setting("the colours; the page of themes shows all")] = "minigpt-dark"
    color: Annotated[Literal["auto", "none"], Setting("none for shades of grey alone, as NO_COLOR does")] = "auto"
    animation: Annotated[Literal["full", "none"], Setting("none for no movement but the text's own")] = "full"
    mouse: Annotated[bool, Setting("whether the app takes the mouse; without, the terminal selects")] = True
    bell: Annotated[bool | None, Setting("whether the end of a training run rings; none for the last session's")] = None
    clipboard: Annotated[
        Clipboard, Setting("how a text is copied: through the terminal, into a file, or as the terminal can")
    ] = "auto"
    copy_limit: Annotated[
        int, Setting("bytes that the terminal takes in one copy, as base64; a longer text goes into a file", 0, 2**31)
    ] = 74_994
    history: Recording = Recording()
    keys: Annotated[tuple[tuple[str, str], ...], Setting("actions by their ids, and the keys given to each")] = ()

    @property
    def keymap(self) -> dict[str, str]:
        """The keys that were given to actions, by the actions' ids."""
        return dict(self.keys)


class Option(NamedTuple):
    """One setting as a user names it.

    Attributes:
        key: Its name, with its table before a dot: `history.record_app`.
        group: Under which heading it is shown.
        title: What a reader calls it.
        field: Its kind, range and meaning.
    """

    key: str
    group: str
    title: str
    field: Field

    @property
    def help(self) -> str:
        """What it does."""
        return self.field.setting.help if self.field.setting else ""

    @property
    def range_text(self) -> str:
        """Its range in words, or its choices."""
        if self.field.choices:
            return ", ".join(self.field.choices)
        return self.field.setting.range_text if self.field.setting else ""


_GROUPS = {
    "Model": ("model", "device", "precision", "model_folders"),
    "Writing": ("pace", "new_tokens"),
    "Looks": ("theme", "color", "animation"),
    "Terminal": ("mouse", "bell", "clipboard", "copy_limit"),
    "History": ("history.record_app", "history.record_shell"),
}
_TITLES = {"history.record_app": "record the app", "history.record_shell": "record the shell"}


def options() -> dict[str, Option]:
    """Every setting but the keys, in the order in which they are shown."""
    return {
        key: Option(key, group, _TITLES.get(key, key.replace("_", " ")), _field(key))
        for group, keys in _GROUPS.items()
        for key in keys
    }


def _field(key: str) -> Field:
    table, _, name = key.rpartition(".")
    return fields(Recording if table == "history" else Config)[name]


def value_of(config: Config, key: str) -> Any:
    """The value of a setting by its key."""
    table, _, name = key.rpartition(".")
    return getattr(getattr(config, table) if table else config, name)


def with_value(config: Config, key: str, value: Any) -> Config:
    """A copy with one setting changed.

    Raises:
        InvalidSettingError: The value is of the wrong kind or out of its range.
    """
    table, _, name = key.rpartition(".")
    values = {field: getattr(config, field) for field in Config.__struct_fields__}
    if table:
        values[table] = type(values[table])(**{**to_dict(values[table]), name: value})
    else:
        values[name] = value
    return Config(**values)


def config_path() -> Path:
    """Where the file is, or would be."""
    return folders.config_home() / "config.toml"


class Loaded(NamedTuple):
    """What was read.

    Attributes:
        config: What holds.
        problems: What is wrong with the file, one sentence each, with the line.
        said: The keys that the file says something valid of.
        damaged: Whether the file cannot be read at all: then nothing may be written to it.
    """

    config: Config
    problems: tuple[str, ...] = ()
    said: frozenset[str] = frozenset()
    damaged: bool = False


def load_config(path: Path | None = None) -> Loaded:
    """Read the file. Whatever is in it, there is a configuration, and the file is left as it is.

    Args:
        path: Another file than the user's.
    """
    path = path or config_path()
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_SIZE + 1)
    except FileNotFoundError:
        return Loaded(Config())
    except OSError as error:
        return _damaged(path, None, error.strerror or str(error))
    if len(raw) > MAX_SIZE:
        return _damaged(path, None, "it is longer than 1 MiB")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        return _damaged(path, raw.count(b"\n", 0, error.start) + 1, "it is not UTF-8")
    import tomllib  # only where there is a file: the first screen does not wait for it

    try:
        data = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        line, why = error_place(str(error), text)
        return _damaged(path, line, why)
    return _checked(path, text, data)


def error_place(message: str, text: str) -> tuple[int | None, str]:
    """The line of a TOML error, and what is wrong there, from its message."""
    match = re.search(r" \(at (?:line (\d+), column \d+|end of document)\)$", message)
    if match is None:
        return None, message[:1].lower() + message[1:]
    why = message[: match.start()]
    return int(match[1]) if match[1] else text.count("\n") + 1, why[:1].lower() + why[1:]


def _damaged(path: Path, line: int | None, why: str) -> Loaded:
    place = f"{path}, line {line}" if line else str(path)
    return Loaded(Config(), (f"{place}: {why}; nothing of it counts until it is mended",), damaged=True)


def _checked(path: Path, text: str, data: dict[str, Any]) -> Loaded:
    """What holds of a file that could be read: every key that is right."""
    config, problems, said = Config(), [], set()
    known = [key for keys in _GROUPS.values() for key in keys]

    def wrong(key: str, error: InvalidSettingError) -> None:
        line = _line_of(text, key)
        problems.append(f"{path}{f', line {line}' if line else ''}: {error}")

    for key, value in _flat(data):
        try:
            if key.startswith("keys."):
                if not isinstance(value, str):
                    raise InvalidSettingError(f"{key} is {value!r}", 'write keys in quotes, such as "f2,1"')
                keymap = {**config.keymap, key.removeprefix("keys."): value}
                config = with_value(config, "keys", tuple(keymap.items()))
            elif key in known:
                config = with_value(config, key, plain(_field(key), value))
            else:
                raise InvalidSettingError(f"there is no setting {key!r}", nearest_hint(key, dict.fromkeys(known)))
        except InvalidSettingError as error:
            wrong(key, error)
        else:
            said.add(key)
    return Loaded(config, tuple(problems), frozenset(said))


def _flat(data: dict[str, Any]) -> list[tuple[str, Any]]:
    """The values of a file with the table before a dot."""
    found: list[tuple[str, Any]] = []
    for key, value in data.items():
        if isinstance(value, dict) and (value or key in ("history", "keys")):
            found += [(f"{key}.{name}", below) for name, below in value.items()]
        else:
            found.append((key, value))
    return found


def plain(field: Field, value: Any) -> Any:
    """A value of the file as the setting takes it.

    Raises:
        InvalidSettingError: It is of the wrong kind or out of its range.
    """
    value = tuple(value) if isinstance(value, list) else value
    check_value(field, value)
    if isinstance(value, int) and not isinstance(value, bool) and field.type in (float, float | None):
        return float(value)
    return value


def _line_of(text: str, key: str) -> int | None:
    """The line on which a key stands; None where it is written in another way than usual."""
    table, _, name = key.rpartition(".")
    here = ""
    for number, line in enumerate(text.split("\n"), 1):
        if header := re.match(r"\s*\[\s*([^\[\]]+?)\s*\]", line):
            here = header[1].strip("\"'")
            if here == key:
                return number
        if match := re.match(r"\s*([\w.-]+|\"[^\"]*\"|'[^']*')(\s*\.\s*[\w-]+)*\s*=", line):
            written = line[: match.end() - 1].replace(" ", "").replace('"', "").replace("'", "").strip()
            if (f"{here}.{written}" if here else written) == key or (here == table and written == name):
                return number
    return None
