"""What a run that is under way has to obey: the wishes in its `control.json`, and the signals that its process was
sent. Knows nothing of torch.
"""

from __future__ import annotations

from pathlib import Path

from engine.training.control import ControlReader, Wanted


class Stopped(Exception):  # noqa: N818 (nothing went wrong)
    """A stop was asked for, and what was under way was given up for it."""


class Orders:
    """The orders of one run."""

    def __init__(self, run: Path) -> None:
        self._control = ControlReader(run)
        self._was_stopped = False
        self._saves = 0

    def stop(self) -> None:
        """Stop, whatever else is asked: a signal has come. Safe to call from its handler."""
        self._was_stopped = True

    @property
    def wanted(self) -> Wanted:
        """Whether to run, to wait or to end."""
        return "stop" if self._was_stopped else self._control.read().wanted

    def take_save(self) -> bool:
        """Whether a checkpoint was asked for since the last time that this was asked."""
        before, self._saves = self._saves, self._control.read().saves
        return self._saves > before
