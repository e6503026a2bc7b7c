"""Keeping texts as they are written: a thread with a connection of its own, so that nobody waits for the disk. A text
that cannot be kept is told once, and all else goes on; the next one is tried again. Imports SQLite with the first text.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from minigpt_tui.history.entry import Entry
from minigpt_tui.history.errors import DamagedHistoryError, HistoryError

if TYPE_CHECKING:
    from minigpt_tui.history.store import Store

CLOSE_SECONDS = 40.0
"""How long an end waits for what is queued: somewhat longer than for another program that holds the file."""


class Recorder:
    """Keeps entries in the order in which they come.

    Args:
        path: The history's file; by default the user's own.
        on_problem: Called, from the recorder's thread, with what happened and what is safe; once until a text was kept
            again.
        on_kept: Called, from the recorder's thread, with the number of each text that is on the disk.
    """

    def __init__(
        self,
        path: Path | None = None,
        *,
        on_problem: Callable[[str], None] = lambda _: None,
        on_kept: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._path, self._on_problem, self._on_kept = path, on_problem, on_kept
        self._waiting: queue.SimpleQueue[Entry | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._store: Store | None = None
        self._is_told = False

    def record(self, entry: Entry) -> None:
        """Have an entry kept; returns at once."""
        if self._thread is None:
            # It dies with the app when that does not close it; `close` is what waits.
            self._thread = threading.Thread(target=self._work, daemon=True, name="history")
            self._thread.start()
        self._waiting.put(entry)

    def close(self, seconds: float = CLOSE_SECONDS) -> bool:
        """Wait until all that was recorded is on the disk; whether it is. Another `record` begins anew."""
        thread, self._thread = self._thread, None
        if thread is None:
            return True
        self._waiting.put(None)
        thread.join(seconds)
        return not thread.is_alive()

    def _work(self) -> None:
        while (entry := self._waiting.get()) is not None:
            try:
                number = self._keep(entry)
            except HistoryError as error:
                self._forget_store()
                self._tell(f"This text could not be kept in the history: {error.message}. {_sentence(error.hint)}")
            else:
                self._is_told = False
                self._on_kept(number)
        self._forget_store()

    def _keep(self, entry: Entry) -> int:
        try:
            return self._open().add(entry)
        except DamagedHistoryError:
            if self._store is None:  # it could not even be opened
                raise
            self._store.set_aside()
            self._store = None
            number = self._open().add(entry)
            self._on_problem("The history was damaged. Its file is kept under another name, and a fresh one is begun.")
            return number

    def _open(self) -> Store:
        if self._store is not None and not self._store.is_in_place:
            self._forget_store()
        if self._store is None:
            from minigpt_tui.history.store import Store  # not at the app's start

            self._store = Store(self._path)
            if self._store.problem and not self._store.read_only:
                self._on_problem(self._store.problem)
            if not self._store.read_only:
                self._store.purge()
        return self._store

    def _forget_store(self) -> None:
        if self._store is not None:
            self._store.close()
            self._store = None

    def _tell(self, problem: str) -> None:
        if not self._is_told:
            self._is_told = True
            self._on_problem(problem.rstrip())


def _sentence(hint: str) -> str:
    return f"{hint[0].upper()}{hint[1:]}." if hint else ""
