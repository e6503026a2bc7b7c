"""The time that a run has trained: on through all its processes, still while it waits. Knows nothing of the run."""

from __future__ import annotations

import time


class Stopwatch:
    """Seconds of training so far.

    Args:
        seconds: From which it goes on, once it is started.
    """

    def __init__(self, seconds: float) -> None:
        self._before = seconds
        self._started: float | None = None

    @property
    def seconds(self) -> float:
        """What it shows."""
        return self._before + (time.perf_counter() - self._started if self._started is not None else 0.0)

    def start(self) -> None:
        """Let it go on."""
        self._started = time.perf_counter()

    def stop(self) -> None:
        """Hold it."""
        self._before, self._started = self.seconds, None


def clock(seconds: float) -> str:
    """A time as 1:05 or 2:03:07."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
