"""What a text that is being typed could become, as a list of choices: texts that have a name, files and folders. What
is on a disk was looked for before, but for commas in the path of a file of this machine.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from engine.text.library import LibraryText
from engine.text.path_completion import SEPARATORS, Completions, folder_of, is_there
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
    parts = (part.strip() for line in lines for part in _parts(line))
    return next((part for part in parts if part.startswith(HERE)), "")


def last_part(text: str) -> str:
    """The text that is being typed: what follows the last comma that parts two."""
    return _parts(text)[-1].lstrip()


def put_in_place(text: str, value: str) -> str:
    """`text` with the last of its texts replaced."""
    *before, _ = _parts(text)
    return ",".join([*before, f" {value}"]) if before else value


def put_for(text: str, part: str, value: str) -> str:
    """`text` with one of its texts replaced, whole; as it is, where that is none of them any more."""
    parts = _parts(text)
    for place, each in enumerate(parts):
        if each.strip() == part.strip():
            parts[place] = each.replace(each.strip(), value)
            break
    return ",".join(parts)


def _parts(text: str) -> list[str]:
    """The texts of a line, parted by commas, with the spaces around them. A file of this machine reaches over commas as
    far as they belong to its name, or to a folder's that leads to it.
    """
    pieces, parts = text.split(","), []
    while pieces:
        ends = range(len(pieces), 1, -1) if pieces[0].lstrip().startswith(HERE) else ()
        end = next((end for end in ends if _is_one_path(pieces[:end])), 1)
        parts.append(",".join(pieces[:end]))
        del pieces[:end]
    return parts


def _is_one_path(pieces: Sequence[str]) -> bool:
    path = ",".join(pieces).strip().removeprefix(HERE)
    is_in_folder = any(separator in pieces[-1] for separator in SEPARATORS)
    return is_there(path) or (is_in_folder and is_there(folder_of(path)))


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
        if each.name.startswith(begun) and not found.folder
    ]
    return (*named, *_paths(found)), begun != found.folder


def choices_here(path: str, found: Completions, machine: str) -> tuple[tuple[Choice, ...], bool]:
    """What the path of a file of this machine could become; a whole one can be sent. See `text_choices`.

    Args:
        path: What stands behind `here:`.
        found: What it could become.
        machine: What the other machine is called.
    """
    if found.is_file:
        name = visible_line(path.removeprefix(folder_of(path)))
        return (Choice(HERE + path, f"send {name} to {machine}", size_text(found.size)),), True
    paths = tuple(Choice(HERE + each.value, each.title, each.about) for each in _paths(found))
    return paths, path != found.folder


def _about(text: LibraryText, there: str) -> str:
    if text.state == "to download":
        how = f"not downloaded{there} yet" if there else f"get it: minigpt-tui data get {text.name}"
        return f"{size_text(text.bytes)} · {how}"
    return f"{size_text(text.bytes)} · {text.about}"


def _paths(found: Completions) -> Iterator[Choice]:
    for entry in found.entries:
        path, name = found.folder + entry.name, visible_line(entry.name)
        if entry.is_folder:
            yield Choice(f"{path}/", f"{name}/", "folder")
        else:
            yield Choice(path, name, "" if entry.size is None else size_text(entry.size))
