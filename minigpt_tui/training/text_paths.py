"""What a text that is being typed could become, as a list of choices: texts that have a name, files and folders. Plain
functions: what is on a disk was looked for before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from engine.text.library import LibraryText
from engine.text.path_completion import Completions
from engine.training.estimate import size_text
from minigpt_tui.visible import visible_line
from minigpt_tui.widgets.choice_list import Choice

HERE = "here:"
"""Before the path of a file of this machine, where texts are another one's."""


def path_here(part: str) -> str | None:
    """The path of a file of this machine, which a text began to name; None where it is none."""
    return part.removeprefix(HERE) or "./" if part.startswith(HERE) else None


def not_sent(*lines: str) -> str:
    """The first file of this machine in lines of texts; empty for none."""
    parts = (part.strip() for line in lines for part in line.split(","))
    return next((part for part in parts if part.startswith(HERE)), "")


def last_part(text: str) -> str:
    """The text that is being typed: what follows the last comma."""
    return text.rpartition(",")[2].lstrip()


def put_in_place(text: str, value: str) -> str:
    """`text` with the last of its texts replaced."""
    before, comma, _ = text.rpartition(",")
    return f"{before}{comma} {value}" if comma else value


def text_choices(
    text: str, texts: Sequence[LibraryText], found: Completions, there: str = ""
) -> tuple[tuple[Choice, ...], bool]:
    """What the last of the typed texts could become, and whether one is to be marked: where a beginning was typed.

    Args:
        text: What stands in the field.
        texts: The texts that have a name.
        found: What the last one could become as a path.
        there: Such as ` on box`, where they are another machine's.
    """
    begun = last_part(text)
    if found.is_file or any(begun == each.name for each in texts):
        return (), False
    named = [
        Choice(each.name, visible_line(each.name), _about(each, there))
        for each in texts
        if each.name.startswith(begun) and "/" not in begun
    ]
    return (*named, *_paths(begun, found)), bool(begun) and not begun.endswith("/")


def choices_here(path: str, found: Completions, machine: str) -> tuple[tuple[Choice, ...], bool]:
    """What the path of a file of this machine could become; a whole one can be sent. See `text_choices`.

    Args:
        path: What stands behind `here:`.
        found: What it could become.
        machine: What the other machine is called.
    """
    if found.is_file:
        name = visible_line(path.rpartition("/")[2])
        return (Choice(HERE + path, f"send {name} to {machine}", size_text(found.size)),), True
    paths = tuple(Choice(HERE + each.value, each.title, each.about) for each in _paths(path, found))
    return paths, not path.endswith("/")


def _about(text: LibraryText, there: str) -> str:
    if text.state == "to download":
        how = f"not downloaded{there} yet" if there else f"get it: minigpt-tui data get {text.name}"
        return f"{size_text(text.bytes)} · {how}"
    return f"{size_text(text.bytes)} · {text.about}"


def _paths(begun: str, found: Completions) -> Iterator[Choice]:
    where = begun[: begun.rfind("/") + 1]
    for entry in found.entries:
        if entry.is_folder:
            yield Choice(f"{where}{entry.name}/", visible_line(entry.name) + "/", "folder")
        else:
            yield Choice(
                where + entry.name, visible_line(entry.name), "" if entry.size is None else size_text(entry.size)
            )
