"""Holding a model's files against the hashes that were written with them: it takes seconds for a large one, so it tells
how far it is, and can be stopped.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from engine import catalog
from engine.errors import CheckpointError


class CheckStopped(Exception):  # noqa: N818
    """The reader no longer wants to know."""


class Checking:
    """One look at all files of a model.

    Attributes:
        name: What the model is called.
    """

    def __init__(self, name: str, path: Path) -> None:
        self.name = name
        self._path = path
        self._total = self._done = 0
        self._is_stopped = False

    @property
    def share(self) -> float:
        """How much of it has been looked at, from 0 to 1."""
        return min(1.0, self._done / self._total) if self._total else 0.0

    def stop(self) -> None:
        """Have it end at the next megabyte."""
        self._is_stopped = True

    def run(self) -> tuple[list[str], str]:
        """Look at every file.

        Returns:
            What is wrong, and what came of it in words.

        Raises:
            CheckStopped: It was stopped.
        """
        files: dict[str, str] = {}
        with contextlib.suppress(CheckpointError):  # which is one of the problems that are found
            files = catalog.read_record(self._path).files
        self._total = sum(_size(self._path / name) for name in files)
        problems = catalog.verify_checkpoint(self._path, self._hashed)
        if problems:
            return problems, f"damaged: {'; '.join(problems)}"
        if not files:
            return [], "readable; it comes without hashes, so nothing more can be told"
        return [], f"ok, all {len(files)} files are as they were written"

    def _hashed(self, size: int) -> None:
        self._done += size
        if self._is_stopped:
            raise CheckStopped


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except (OSError, ValueError):  # a name that no file can have
        return 0
