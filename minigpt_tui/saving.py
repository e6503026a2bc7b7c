"""Saving a text to a file that the reader named: whole or not at all, and never over another file unasked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.errors import MiniGPTError
from minigpt_tui.visible import visible_line


class SaveError(MiniGPTError):
    """The text could not be saved; what was there before is untouched."""


class FileThereError(SaveError):
    """There is a file of that name already."""


def save_text(typed: str, text: str, *, overwrite: bool = False) -> Path:
    """Write a text as UTF-8.

    Args:
        typed: The path as it was typed; `~` is the home folder.
        text: What to write.
        overwrite: Whether a file that is there may be replaced.

    Returns:
        The file.

    Raises:
        FileThereError: The file exists and `overwrite` is False.
        SaveError: The path is no place for a file.
    """
    if not typed.strip():
        raise SaveError("no name was given", "type the file's name")
    with place_to_save(Path(typed.strip()), overwrite=overwrite) as path:
        from engine.safe_writing import write_file  # not at the start: the first screen does not wait for it

        write_file(path, text.encode("utf-8", "replace"))
    return path


def save_as_typed(text_of: Callable[[str], str], saved: Callable[[str, Path], None]) -> Callable[[str], str]:
    """An answer to the question for a file's name; a file that is there is overwritten by a second enter alone.

    Args:
        text_of: The text for a file of that name.
        saved: Called with what was typed, and the path, once it is saved.
    """
    asked_about = ""

    def take(typed: str) -> str:
        nonlocal asked_about
        try:
            path = save_text(typed, text_of(typed.strip().lower()), overwrite=typed == asked_about)
        except SaveError as error:
            if isinstance(error, FileThereError):
                asked_about = typed
                return "enter overwrites the file that is there already"  # what decides is never cut off
            asked_about = ""
            return visible_line(f"{error.message}; {error.hint}")
        saved(typed, path)
        return ""

    return take


@contextmanager
def place_to_save(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """A file to write, as an absolute path; what goes wrong on the way there or in writing it is told.

    Args:
        path: As it was typed.
        overwrite: Whether a file that is there may be replaced.

    Raises:
        FileThereError: The file exists and `overwrite` is False.
        SaveError: The path is no place for a file, or cannot be written.
    """
    try:
        path = path.expanduser().resolve()  # a link stays a link: what it points to is written
        if path.is_dir():
            raise SaveError(f"{path.name or path} is a folder", "add a file name")
        if not path.parent.is_dir():
            raise SaveError(f"there is no folder {path.parent}", "make it first, or choose another")
        if path.exists() and not overwrite:
            raise FileThereError(f"{path.name} is there already", "enter again overwrites it")
        yield path
    except (OSError, RuntimeError, ValueError) as error:
        if isinstance(error, MiniGPTError):
            raise
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise SaveError(f"it cannot be saved there ({reason})", "choose another place") from None
