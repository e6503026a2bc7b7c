"""A TOML file of named tables that its owner may edit by hand: comments and order outlive every change made here, and a
damaged file is named with its line and left as it is. Knows nothing of what the tables hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine import folders
from engine.errors import MiniGPTError

MOST_BYTES = 4_000_000
"""A file of names is not larger; what is, is something else."""

NAME_CHARACTERS = 60


class LibraryError(MiniGPTError):
    """A file of names cannot be read or written, or has no such name; what was there before is untouched."""


def check_name(name: str) -> None:
    """Raise LibraryError unless something can go by this name."""
    if not name.strip():
        raise LibraryError("no name was given", "type one")
    if not name.isprintable() or name != name.strip() or len(name) > NAME_CHARACTERS:
        raise LibraryError(f"{name!r} is no name", f"use up to {NAME_CHARACTERS} characters on one line")


def read_tables(path: Path) -> dict[str, Any]:
    """What stands in a file by name, in its order; nothing where there is no file.

    Raises:
        LibraryError: It cannot be read, or is no TOML; its line is named.
    """
    return _parsed(path, _text_of(path))


def _parsed(path: Path, text: str) -> dict[str, Any]:
    if not text:
        return {}
    import tomllib  # only where there is a file: the first screen does not wait for it

    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise LibraryError(f"{path} cannot be read: {error}", "mend it, or move it away; it is left as it is") from None


def _text_of(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise LibraryError(f"{path} is larger than {MOST_BYTES / 1e6:.0f} MB", "move it away; it is left as it is")
        return data.decode()
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise LibraryError(f"{path} is no UTF-8 in line {line}", "mend it, or move it away") from None
    except OSError as error:
        raise LibraryError(f"{path} cannot be read ({error.strerror})", "see whose it is, with ls -l") from None


def put_table(path: Path, name: str, values: Mapping[str, Any]) -> None:
    """Write a table in place of the one of that name, or behind the others; the rest of the file stays as it is.

    Args:
        path: The file; made where there is none.
        name: The table's.
        values: All that it shall hold; a comment stays beside a key that stays.

    Raises:
        LibraryError: The file is damaged, or cannot be written.
    """
    import tomlkit  # for writing alone
    from tomlkit.items import Table

    before = read_tables(path)
    document, standing = _document(path), before.get(name)
    if not isinstance(document.get(name), Table) or not isinstance(standing, dict):
        document.pop(name, None)
        document[name], standing = tomlkit.table(), {}
    table = document[name]
    tail = _tail(table)
    for key in [key for key in standing if key not in values]:
        del table[key]
    for key, value in values.items():
        if key not in standing or standing[key] != value or type(standing[key]) is not type(value):
            table[key] = _item(value)
    table.value.body.extend(tail)
    _write(path, tomlkit.dumps(document), {**before, name: dict(values)})


def remove_table(path: Path, name: str) -> None:
    """Take a table out of a file; the rest stays as it is.

    Raises:
        LibraryError: There is none of that name, or the file is damaged or cannot be written.
    """
    import tomlkit  # for writing alone
    from tomlkit.items import Table

    before = read_tables(path)
    if name not in before:
        raise LibraryError(f"there is no {name} in {path}", "it may be gone already")
    document = _document(path)
    names = list(document)
    tail = _tail(document[name]) if isinstance(document[name], Table) else []
    following = next((each for each in names[names.index(name) + 1 :] if isinstance(document[each], Table)), None)
    del document[name]
    if following is None:
        document.body.extend(tail)
    else:
        above = document[following].trivia
        above.indent = "".join(item.as_string() for _, item in tail) + above.indent
    _write(path, tomlkit.dumps(document), {key: value for key, value in before.items() if key != name})


def _tail(table: Any) -> list[Any]:
    """Take out what stands below a table's last key: comments there are as a rule about what follows."""
    body, tail = table.value.body, []
    while body and body[-1][0] is None:
        tail.append(body.pop())
    return tail[::-1]


def _item(value: Any) -> Any:
    """A value as it is written: a text of several lines as such, where it can be read so."""
    import tomlkit

    has_lines = isinstance(value, str) and "\n" in value and not value.startswith("\n")
    if has_lines and all(line.isprintable() for line in value.split("\n")):
        return tomlkit.string(value, multiline=True)
    return value


def _document(path: Path) -> Any:
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    text = _text_of(path)
    _parsed(path, text)
    try:
        return tomlkit.parse(text)
    except TOMLKitError as error:
        raise LibraryError(f"{path} cannot be read: {error}", "mend it, or move it away; it is left as it is") from None


def _write(path: Path, text: str, meant: dict[str, Any]) -> None:
    """Write a file that reads back as it is meant; else it is left as it was."""
    import tomllib

    from engine.safe_writing import write_file

    if tomllib.loads(text) != meant:
        raise LibraryError(f"{path} cannot be changed without touching more of it", "edit it by hand")
    try:
        folders.private(path.parent)
        write_file(path.resolve(), text.encode())  # a link stays a link: what it points to is written
    except OSError as error:
        raise LibraryError(
            f"{path} cannot be written ({error.strerror})", "free some space, or see whose it is"
        ) from None
