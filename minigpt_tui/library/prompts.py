"""Prompts that have names: a few that ship for the bundled model, and the user's own in `prompts.toml`, which may take
the name of a shipped one. Knows nothing of any screen.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine import folders
from engine.validation import nearest_hint
from minigpt_tui.library.named_tables import LibraryError, check_name, put_table, read_tables, remove_table

TEXT, ABOUT = "text", "about"


@dataclass(frozen=True)
class NamedPrompt:
    """A prompt with a name.

    Attributes:
        about: What it is for, as a sentence; may be empty.
        is_own: Whether it is the user's.
        is_shipped: Whether one of that name ships.
        problem: What is wrong with it in the user's file; then it cannot be used.
    """

    name: str
    text: str = ""
    about: str = ""
    is_own: bool = False
    is_shipped: bool = False
    problem: str = ""

    @property
    def words(self) -> str:
        """How it begins, on one line."""
        return self.problem or " ".join(self.text.split())


SHIPPED = (
    NamedPrompt("romeo", "ROMEO:\n", "A name in capitals has the bundled model write what he says.", is_shipped=True),
    NamedPrompt("scene", "First Citizen:\nBefore we proceed any further, hear me speak.\n\nAll:\n",
                "A scene with more than one voice, for the bundled model.", is_shipped=True),
    NamedPrompt("to be", "To be, or not to be", "A line that everybody knows: does the model go on with it?",
                is_shipped=True),
)  # fmt: skip


def prompts_file() -> Path:
    """Where the user's own are kept."""
    return folders.config_home() / "prompts.toml"


def read_prompts() -> tuple[NamedPrompt, ...]:
    """All prompts: the user's own first, then the shipped ones whose names are free.

    Raises:
        LibraryError: The user's file is damaged; `SHIPPED` can be used all the same.
    """
    own = {name: _prompt(name, table) for name, table in read_tables(prompts_file()).items()}
    return (*own.values(), *(shipped for shipped in SHIPPED if shipped.name not in own))


def _prompt(name: str, table: Any) -> NamedPrompt:
    """A prompt from its table; what is wrong with it is part of it, so that the others can be used."""
    is_shipped = any(shipped.name == name for shipped in SHIPPED)

    def wrong(problem: str) -> NamedPrompt:
        return NamedPrompt(name, is_own=True, is_shipped=is_shipped, problem=problem)

    if not isinstance(table, dict):
        return wrong(f"it is no table; write [{name}] above it, and text = before the prompt")
    known = {TEXT: None, ABOUT: None}
    if unknown := [key for key in table if key not in known]:
        return wrong(f"there is no {unknown[0]!r} in a prompt: {nearest_hint(unknown[0], known)}")
    text, about = table.get(TEXT, ""), table.get(ABOUT, "")
    if not isinstance(text, str) or not isinstance(about, str):
        return wrong("its text and what it is about must be texts, in quotes")
    if not text:
        return wrong("it has no text")
    return NamedPrompt(name, text, about, is_own=True, is_shipped=is_shipped)


def save_prompt(name: str, text: str, about: str = "") -> None:
    """Keep a prompt under a name, in place of the user's of that name.

    Raises:
        LibraryError: The name is none, there is no text, or the file is damaged or cannot be written.
    """
    check_name(name)
    if not text:
        raise LibraryError("there is no prompt to save", "type one first")
    text = text.encode(errors="replace").decode()
    put_table(prompts_file(), name, ({ABOUT: about} if about else {}) | {TEXT: text})


def remove_prompt(name: str) -> None:
    """Take one of the user's own away.

    Raises:
        LibraryError: It ships, there is none, or the file is damaged or cannot be written.
    """
    known = {prompt.name: prompt for prompt in read_prompts()}
    if name in known and not known[name].is_own:
        raise LibraryError(f"{name} ships with minigpt-tui and stays", "one of your own with its name takes its place")
    remove_table(prompts_file(), name)
