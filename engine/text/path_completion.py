"""What the beginning of a path could become on this machine. Knows nothing of who types it."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

MOST_ENTRIES = 5000
"""Entries of a folder that are looked at."""

MOST_FOUND = 100

SEPARATORS = os.sep + (os.altsep or "")
"""What parts the names in a path here; `/` does everywhere."""


class PathEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A file or a folder.

    Attributes:
        name: Its own, without what leads to it.
        is_folder: Whether it is a folder.
        size: Of a file, in bytes; None where that cannot be told.
    """

    name: str
    is_folder: bool = False
    size: int | None = None


class Completions(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was found.

    Attributes:
        is_file: Whether what was begun is the path of a file already.
        size: Of that file, in bytes.
        folder: What of it leads to the entries, as it was typed, with the separator at its end.
        entries: What it could become, folders first.
    """

    is_file: bool = False
    size: int = 0
    folder: str = ""
    entries: tuple[PathEntry, ...] = ()


def complete(begun: str) -> Completions:
    """Folders and files that a path can be completed to; hidden ones where a dot was typed."""
    if not begun:
        return Completions()
    folder = folder_of(begun)
    if begun != folder and (size := _file_size(begun)) is not None:
        return Completions(is_file=True, size=size)
    entries = itertools.islice(_entries(folder, begun.removeprefix(folder)), MOST_FOUND)
    return Completions(folder=folder, entries=tuple(entries))


def folder_of(begun: str) -> str:
    """A path up to its last separator and with it; empty where there is none."""
    return begun[: max(map(begun.rfind, SEPARATORS)) + 1]


def is_there(name: str) -> bool:
    """Whether there is something at a path."""
    try:
        return Path(name).expanduser().exists()
    except (OSError, RuntimeError, ValueError):
        return False


def _file_size(name: str) -> int | None:
    """The size of the file at a path; None where there is none."""
    try:
        path = Path(name).expanduser()
        return path.stat().st_size if path.is_file() else None
    except (OSError, RuntimeError, ValueError):
        return None


def _entries(folder: str, stem: str) -> Iterator[PathEntry]:
    try:
        with os.scandir(Path(folder or ".").expanduser()) as entries:
            found = [entry for entry in itertools.islice(entries, MOST_ENTRIES) if _fits(entry.name, stem)]
    except (OSError, RuntimeError, ValueError):  # not there, not allowed, ~somebody
        return
    told = [(_is_folder(entry), entry) for entry in found]
    for is_folder, entry in sorted(told, key=lambda each: (not each[0], each[1].name)):
        yield PathEntry(name=entry.name, is_folder=is_folder, size=None if is_folder else _size(entry))


def _fits(name: str, stem: str) -> bool:
    """Whether a name begins so, and can be written down: bytes that are no UTF-8 fit in no message and no record."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return name.startswith(stem) and (not name.startswith(".") or stem.startswith("."))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder, as far as that can be told: a link may go in a circle, or where nobody may look."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _size(entry: os.DirEntry[str]) -> int | None:
    try:
        return entry.stat().st_size
    except OSError:
        return None
