"""What can go wrong with the history, in words. Knows nothing of SQLite."""

from __future__ import annotations

from engine.errors import MiniGPTError


class HistoryError(MiniGPTError):
    """The history cannot be read or written; what was kept before is untouched."""


class DamagedHistoryError(HistoryError):
    """The history's file is no database, or a damaged one."""


class EntryNotFoundError(HistoryError):
    """No generation has that number."""


class SearchStoppedError(HistoryError):
    """Another search took the place of this one."""
