"""Where an engine is that is not on this machine: what to start here to reach it, and what an end of that means. Plain
data and plain functions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from engine.errors import WorkerError


class Place(Protocol):
    """An engine elsewhere, and the process on this machine that is the link to it."""

    @property
    def name(self) -> str:
        """What it is called on the screen."""

    @property
    def is_server(self) -> bool:
        """Whether it is a server that knows of texts and models alone: no runs, no look inside."""

    @property
    def command(self) -> tuple[str, ...]:
        """The process to start."""

    def environment(self) -> Mapping[str, str] | None:
        """Its environment; None for this process's own."""

    def explain(self, status: int | None, last: str, *, was_up: bool) -> tuple[WorkerError, bool]:
        """Why the link ended.

        Args:
            status: The exit status of its process.
            last: The last line that it printed to stderr.
            was_up: Whether the engine was ready before.

        Returns:
            What happened and what to do, and whether it may pass by itself.
        """
