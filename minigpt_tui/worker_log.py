"""The file that takes what the engine's process prints, private to the user and of bounded size, and the line of it
that says why the process died. Knows nothing of the process itself.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
import unicodedata
from pathlib import Path

from engine import folders
from engine.worker.connection import TooLong

MAX_BYTES = 1_000_000
"""A log that is longer is set aside at the next start, in place of the one before it."""

TAIL_BYTES = 64 * 1024
LINE_CHARACTERS = 300


class WorkerLog:
    """An open log. One that cannot be written takes nothing, and the engine runs without it.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: int | None = None
        self._start = 0
        with contextlib.suppress(OSError):
            folders.private(path.parent)
            if path.exists() and path.stat().st_size > MAX_BYTES:
                with contextlib.suppress(PermissionError):  # Windows renames no file that another app has open
                    path.replace(path.with_name(path.name + ".1"))
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
            self._file = os.open(path, flags, 0o600)
            if hasattr(os, "fchmod"):
                os.fchmod(self._file, 0o600)  # also where it was made by another hand
            self.write("a new engine starts")
            self._start = os.fstat(self._file).st_size

    @property
    def target(self) -> int:
        """What to give a process as its stderr."""
        return subprocess.DEVNULL if self._file is None else self._file

    def write(self, text: str) -> None:
        """Add a line of the client's own."""
        if self._file is None:
            return
        stamp = time.strftime("%Y-%m-%d %H:%M:%S")
        with contextlib.suppress(OSError):  # a full disk must not take the app down
            os.write(self._file, f"{stamp} {text}\n".encode(errors="replace"))

    def last_line(self) -> str:
        """The line that says most about an end: the fatal error if one was printed since the start, else the last."""
        if self._file is None:
            return ""
        try:
            size = os.fstat(self._file).st_size
            start = max(self._start, size - TAIL_BYTES)
            tail = self._read(start, TAIL_BYTES).decode(errors="replace")
        except OSError:
            return ""
        lines = [line for raw in tail.splitlines() if (line := _plain(raw))]
        fatal = [line for line in lines if line.startswith("Fatal Python error")]
        return (fatal or lines or [""])[-1]

    def _read(self, start: int, size: int) -> bytes:
        """Bytes of the file, without a move of the place where the process writes on: it shares that on Windows."""
        if self._file is not None and (pread := getattr(os, "pread", None)):
            return bytes(pread(self._file, size, start))
        with self.path.open("rb") as file:
            file.seek(start)
            return file.read(size)

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def excerpt(line: bytes | TooLong) -> str:
    """The beginning of what a process said, for the log."""
    return repr(line.head if isinstance(line, TooLong) else line[:256])


def _plain(line: str) -> str:
    """A line without control codes, short enough to be shown."""
    text = "".join(c if unicodedata.category(c) not in ("Cc", "Cf") else " " for c in line).strip()
    return text if len(text) <= LINE_CHARACTERS else text[: LINE_CHARACTERS - 1] + "…"
