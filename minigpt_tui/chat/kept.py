"""Conversations on disk, a file each, and which one was open: written whole or not at all, one after the other. A file
that is damaged or of a newer version is set aside. Knows nothing of screens.
"""

from __future__ import annotations

import contextlib
import re
import threading
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec

from engine import folders
from minigpt_tui.chat.script import Script
from minigpt_tui.chat.turns import Chat

VERSION = 1

MOST_BYTES = 64 * 1024 * 1024
"""A longer file is not read."""

MOST_LISTED = 500
"""So many conversations are listed, the newest first; older ones stay on the disk."""

_NAME = re.compile(r"\d{8}-\d{6}-[0-9a-f]{6}")


class Desk(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What the next session begins with.

    Attributes:
        version: Of this struct.
        open: The id of the conversation that was open.
        draft: What stood in the editor.
        scripts: How turns are written down, by the names of models.
    """

    version: int = VERSION
    open: str = ""
    draft: str = ""
    scripts: dict[str, Script] = {}


K = TypeVar("K", Chat, Desk)


class Found(NamedTuple):
    """What was read.

    Attributes:
        desk: What the session begins with.
        chat: The conversation that was open; None where there is none.
        problem: What was set aside, as sentences; empty where nothing was.
    """

    desk: Desk
    chat: Chat | None
    problem: str


class Listed(NamedTuple):
    """A conversation in the list.

    Attributes:
        key: Its id.
        title: Its first words.
        turns: How many there are.
        changed: When something was last said, in seconds since 1970.
    """

    key: str
    title: str
    turns: int
    changed: float


class _Head(msgspec.Struct):
    version: int = VERSION


class _AsideError(Exception):
    """A file was set aside; says so in a sentence."""


def chats_folder() -> Path:
    """Where they are kept."""
    return folders.state_home() / "chats"


def desk_file() -> Path:
    """Where it stands which one was open."""
    return folders.state_home() / "chat.json"


class ChatFiles:
    """Writes what was said; threads may do so at the same time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._number = 0
        self._written: dict[Path, int] = {}

    def snapshot(self, what: Chat | Desk) -> tuple[Path, bytes, int]:
        """A conversation, or the desk, as it is now: for `write`."""
        self._number += 1
        path = chats_folder() / f"{what.id}.json" if isinstance(what, Chat) else desk_file()
        return path, msgspec.json.format(msgspec.json.encode(what)), self._number

    def write(self, path: Path, data: bytes, number: int) -> bool:
        """Put a snapshot on the disk, unless something newer is there; False where the disk does not let it."""
        from engine.safe_writing import write_file

        with self._lock:
            if number <= self._written.get(path, 0):
                return True
            try:
                folders.private(path.parent)
                write_file(path, data)
            except OSError:
                return False
            self._written[path] = number
            return True

    def remove(self, id: str) -> None:
        """Delete a conversation; what is still to be written of it is not.

        Raises:
            OSError: It cannot be deleted.
        """
        path = chats_folder() / f"{id}.json"
        with self._lock:
            self._number += 1
            self._written[path] = self._number
            path.unlink(missing_ok=True)


def load_desk() -> Found:
    """What the last session left."""
    problems = []
    try:
        desk = _read(desk_file(), Desk) or Desk()
    except _AsideError as aside:
        desk = Desk()
        problems.append(str(aside))
    chat = None
    name = desk.open or next((listed.key for listed in list_chats()), "")
    if _NAME.fullmatch(name):
        try:
            chat = load_chat(name)
        except _AsideError as aside:
            problems.append(str(aside))
    return Found(desk, chat, " ".join(problems))


def open_chat(id: str) -> tuple[Chat | None, str]:
    """One of the kept conversations and, where there is none of that name any more, why not."""
    try:
        chat = load_chat(id)
    except _AsideError as aside:
        return None, str(aside)
    return chat, "" if chat is not None else "That chat is not there any more."


def load_chat(id: str) -> Chat | None:
    """A conversation; None where there is none of that name.

    Raises:
        _AsideError: Its file was set aside.
    """
    chat = _read(chats_folder() / f"{id}.json", Chat)
    if chat is None:
        return None
    chat.id = id
    for turn in chat.turns:
        if not turn.is_own and not turn.finish_reason:  # the program ended before the answer did
            turn.finish_reason = "lost"
    return chat


def list_chats() -> list[Listed]:
    """The kept conversations, the newest first; damaged ones are left out until they are opened."""
    folder = chats_folder()
    with contextlib.suppress(OSError):
        names = sorted((path for path in folder.iterdir() if _NAME.fullmatch(path.stem)), reverse=True)
        found = [listed for path in names[:MOST_LISTED] if path.suffix == ".json" and (listed := _listed(path))]
        return sorted(found, key=lambda listed: listed.changed, reverse=True)
    return []


def _listed(path: Path) -> Listed | None:
    try:
        if path.stat().st_size > MOST_BYTES:
            return None
        chat = msgspec.json.decode(path.read_bytes(), type=Chat)
    except (OSError, ValueError, RecursionError):
        return Listed(path.stem, "damaged", 0, 0.0)
    return Listed(path.stem, chat.title, len(chat.turns), chat.changed)


def _read(path: Path, kind: type[K]) -> K | None:
    """A file's contents; None where there is none.

    Raises:
        _AsideError: It was set aside.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError("it is too long")
        data = path.read_bytes()
        if msgspec.json.decode(data, type=_Head).version > VERSION:
            aside = _set_aside(path, "newer")
            raise _AsideError(f"{path.name} is of a newer version; it is kept as {aside}.")
        found = msgspec.json.decode(data, type=kind)
        if isinstance(found, Chat):
            found.check()
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        aside = _set_aside(path, "damaged")
        raise _AsideError(f"{path.name} could not be read ({error}); it is kept as {aside}.") from None
    return found


def _set_aside(path: Path, why: str) -> Path:
    aside = path.with_suffix(f".{why}")
    with contextlib.suppress(OSError):
        path.replace(aside)
    return aside
