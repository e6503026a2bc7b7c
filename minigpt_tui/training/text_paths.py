"""What a text that is being typed could become: texts that have a name, files and folders. Reads the disk; knows
nothing of a screen.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from engine.text.library import LibraryText
from engine.training.estimate import size_text
from minigpt_tui.visible import visible_line
from minigpt_tui.widgets.choice_list import Choice

MOST_ENTRIES = 5000
"""Entries of a folder that are looked at."""

MOST_CHOICES = 100


def last_part(text: str) -> str:
    """The text that is being typed: what follows the last comma."""
    return text.rpartition(",")[2].lstrip()


def put_in_place(text: str, value: str) -> str:
    """`text` with the last of its texts replaced."""
    before, comma, _ = text.rpartition(",")
    return f"{before}{comma} {value}" if comma else value


def text_choices(text: str, texts: Sequence[LibraryText]) -> tuple[tuple[Choice, ...], bool]:
    """What the last of the typed texts could become, and whether one is to be marked: where a beginning was typed.

    Args:
        text: What stands in the field.
        texts: The texts that have a name.
    """
    begun = last_part(text)
    if any(begun == each.name for each in texts) or (begun and not begun.endswith("/") and _is_file(begun)):
        return (), False
    named = [
        Choice(each.name, visible_line(each.name), _about(each))
        for each in texts
        if each.name.startswith(begun) and "/" not in begun
    ]
    files = list(itertools.islice(_completions(begun), MOST_CHOICES)) if begun else []
    return (*named, *files), bool(begun) and not begun.endswith("/")


def _about(text: LibraryText) -> str:
    if text.state == "to download":
        return f"{size_text(text.bytes)} · get it: minigpt-tui data get {text.name}"
    return f"{size_text(text.bytes)} · {text.about}"


def _is_file(name: str) -> bool:
    try:
        return Path(name).expanduser().is_file()
    except (OSError, RuntimeError, ValueError):
        return False


def _completions(begun: str) -> Iterator[Choice]:
    """Folders and files that a path can be completed to, folders first; hidden ones where a dot was typed."""
    folder, _, stem = begun.rpartition("/")
    where = folder + "/" if "/" in begun else ""
    try:
        with os.scandir(Path(where or ".").expanduser()) as entries:
            found = [entry for entry in itertools.islice(entries, MOST_ENTRIES) if _fits(entry.name, stem)]
    except (OSError, RuntimeError, ValueError):  # not there, not allowed, ~somebody
        return
    for entry in sorted(found, key=lambda entry: (not entry.is_dir(), entry.name)):
        if entry.is_dir():
            yield Choice(f"{where}{entry.name}/", visible_line(entry.name) + "/", "folder")
        else:
            yield Choice(where + entry.name, visible_line(entry.name), _size(entry))


def _fits(name: str, stem: str) -> bool:
    return name.startswith(stem) and (not name.startswith(".") or stem.startswith("."))


def _size(entry: os.DirEntry[str]) -> str:
    try:
        return size_text(entry.stat().st_size)
    except OSError:
        return ""
