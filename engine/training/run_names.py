"""How a training run may be called. Knows nothing of what is in its directory."""

from __future__ import annotations

import re
import unicodedata

from engine import folders
from engine.errors import RunError
from engine.file_names import RESERVED_HINT, is_reserved

NAME_CHARACTERS, NAME_BYTES = 100, 200
"""The longest name of a run; file systems count bytes, and take 255 of them."""


def check_run_name(name: str) -> None:
    """Raise RunError unless a run can go by this name; whether it is taken is not asked."""
    if not re.match(r"\w", name) or not all(map(_fits, name)):
        raise RunError(f"{name!r} cannot name a run", "use letters, digits, '-', '_' and '.'")
    if is_reserved(name):
        raise RunError(f"{name!r} cannot name a run", RESERVED_HINT)
    if _cut(name, NAME_CHARACTERS, NAME_BYTES) != name:
        raise RunError(f"the name {name} is too long for a run", f"use at most {NAME_BYTES} bytes of UTF-8")


def free_run_name(stem: str) -> str:
    """`stem` made fit to name a run, with a number behind it where the name is taken."""
    fitting = "".join(character if _fits(character) else " " for character in stem)
    stem = re.sub(r"^\W+", "", "-".join(fitting.split()))
    stem = _cut(stem, NAME_CHARACTERS - 20, NAME_BYTES - 20).rstrip("-.+") or "run"
    if is_reserved(stem):
        stem = f"run-{stem}"
    taken, name, number = folders.runs_folder(), stem, 1
    while (taken / name).exists():
        number += 1
        name = f"{stem}-{number}"
    return name


def _fits(character: str) -> bool:
    """Letters, digits, the marks that many scripts write their vowels with, and a few signs."""
    return bool(re.match(r"[\w.+-]", character)) or unicodedata.category(character).startswith("M")


def _cut(name: str, characters: int, size: int) -> str:
    """The beginning of a name, at most so many characters and bytes of it."""
    return name[:characters].encode()[:size].decode(errors="ignore")
