"""Attends a training run from the shell until it ends or its viewer leaves; ctrl+c means what the caller makes of it.
The run itself is a process of its own, which none of this can hold up.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Self

from engine.catalog import run_checkpoint
from engine.errors import RunError, named
from engine.training.run_reader import RunReader
from engine.training.runs import RunInfo
from minigpt_tui.cli.streams import say, write_line
from minigpt_tui.cli.training_view import TrainingView
from minigpt_tui.training.training_words import ending

SECONDS_BETWEEN_LOOKS = 0.25
READING_SECONDS = 0.1
"""So long may one look take; what is left of a long past is read by the next ones."""

NAP_SECONDS = 0.05


class Interrupts:
    """While it is entered, ctrl+c and SIGTERM are counted instead of ending the program.

    Attributes:
        count: How many there were.
    """

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._take) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def wait(self, seconds: float) -> None:
        """Sleep, at most until a moment after the next one."""
        count, until = self.count, time.monotonic() + seconds
        while self.count == count and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, NAP_SECONDS))

    def _take(self, _signal: int, _frame: FrameType | None) -> None:
        self.count += 1


def follow(path: Path, view: TrainingView, interrupts: Interrupts, on_interrupt: Callable[[], bool]) -> RunInfo | None:
    """Show a run until it has ended.

    Args:
        path: Its directory.
        view: What shows it.
        interrupts: Those since it was entered count, too.
        on_interrupt: Called for each of them; whether it shall be shown on.

    Returns:
        How it ended, or None when `on_interrupt` ended the show before.
    """
    heard = 0
    with view:
        reader = RunReader(path)
        while True:
            reader.poll(READING_SECONDS)
            if not reader.info.is_under_way:
                reader.read_all()
                view.show(reader)
                return reader.info
            view.show(reader)
            while heard < interrupts.count:
                heard += 1
                if not on_interrupt():
                    return None
            interrupts.wait(SECONDS_BETWEEN_LOOKS)


def tell_end(info: RunInfo, *, with_checkpoint: bool = True) -> bool:
    """Say how a run has ended, and print the path of its best checkpoint on stdout.

    Args:
        info: The run.
        with_checkpoint: Whether stdout is for that.

    Returns:
        Whether there is a checkpoint.

    Raises:
        MiniGPTError: It crashed; the error is the one that its process met.
    """
    if info.state == "crashed":
        raise named(info.status.kind or RunError.__name__, info.reason, info.hint)
    checkpoint = run_checkpoint(info.path, info.status.best or "best")
    if not checkpoint or not with_checkpoint:
        say(ending(info) + ("" if checkpoint else ", before there was a checkpoint"))
    else:
        say(f"{ending(info)}; the best checkpoint is in")
        write_line(str(checkpoint))
    return bool(checkpoint)
