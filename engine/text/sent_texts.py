"""Texts that come from another machine, put among the user's own: whole or not at all, and never in place of another.
Knows nothing of how they come.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from engine import folders, safe_writing
from engine.errors import DataError
from engine.file_names import is_reserved
from engine.text.corpus import FOLDER_SUFFIXES
from engine.text.library import list_texts

MAX_TEXT_BYTES = 8 * 1024 * 1024
"""A longer one would keep what else is asked waiting for too long; programs that copy files do it better."""

NAME_CHARACTERS, NAME_BYTES = 80, 160

_UNFIT = re.compile(r"[^\w.+\- ]")
"""What could mean something else where texts are named: commas, quotes, separators, control characters."""


def read_to_send(path: Path) -> bytes:
    """A file that is to be sent.

    Raises:
        DataError: It cannot be read, or is too large.
    """
    path = folders.expanded(path)
    try:
        size = path.stat().st_size
        data = path.read_bytes() if path.is_file() and size <= MAX_TEXT_BYTES else b""
    except OSError as error:
        raise DataError(f"{path} cannot be read", error.strerror or str(error)) from None
    if not path.is_file():
        raise DataError(f"{path} is no file", "files are sent one by one; for a folder use scp or rsync")
    if size > MAX_TEXT_BYTES:
        raise DataError(
            f"{path.name} has {size:,} bytes, and at most {MAX_TEXT_BYTES:,} are sent from here",
            "copy it with scp, and give its path there",
        )
    return data


def keep_text(name: str, data: bytes) -> str:
    """Put a text into the user's folder of texts.

    Args:
        name: Its file's name where it comes from.
        data: What is in it.

    Returns:
        Its absolute path, which means this text wherever it is read; a name may be that of a folder there. A number
        stands in it behind a name that another text has.

    Raises:
        DataError: It is too large, or cannot be written; then nothing is left of it.
    """
    if len(data) > MAX_TEXT_BYTES:
        raise DataError(f"a text of {len(data):,} bytes was sent", f"at most {MAX_TEXT_BYTES:,} are taken")
    stem, suffix = _fitting(name)
    folder = folders.user_texts()
    try:
        folders.private(folder)
        with safe_writing.locked(folder):  # what is free now is free until it is written
            taken = {text.name for text in list_texts()}
            number, free = 1, stem
            while free in taken or os.path.lexists(folder / f"{free}{suffix}"):
                if _holds(folder / f"{free}{suffix}", data):
                    break  # it was sent before
                number += 1
                free = f"{stem}-{number}"
            else:
                safe_writing.write_file(folder / f"{free}{suffix}", data)
    except OSError as error:
        raise DataError(f"{name} cannot be kept in {folder}", error.strerror or str(error)) from None
    return str((folder / f"{free}{suffix}").absolute())


def _holds(path: Path, data: bytes) -> bool:
    return path.is_file() and path.stat().st_size == len(data) and path.read_bytes() == data


def _fitting(name: str) -> tuple[str, str]:
    """A file's name that fits everywhere: stem and suffix."""
    path = Path(name)
    suffix = path.suffix.lower()
    if suffix not in FOLDER_SUFFIXES:
        path, suffix = Path(path.name + ".txt"), ".txt"
    stem = _UNFIT.sub("-", path.stem).strip(" .-")
    stem = stem[:NAME_CHARACTERS].encode()[:NAME_BYTES].decode(errors="ignore").rstrip(" .")
    return (f"text-{stem}".rstrip("-") if not stem or is_reserved(stem) else stem), suffix
