"""A training run as lines, for where there is no terminal: words on stderr for each evaluation, or JSON on stdout.
Each shows what was read of the run's directory, and knows nothing of who trains.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from typing import Any, Self

from engine.training.run_reader import Curves, RunReader
from minigpt_tui.cli.streams import say, write_json
from minigpt_tui.training.training_words import News, figures, introduction

SECONDS_BETWEEN = 1.0
"""JSON lines come at most so often, beside those of evaluations."""


class LineView:
    """Plain lines on stderr.

    Args:
        name: The run's name.
        is_new: Whether it has just been started: then all evaluations are told, and not the latest one first.
    """

    def __init__(self, name: str, *, is_new: bool) -> None:
        self._name = name
        self._news = News(is_new)
        self._evaluations = _Untold(is_new)
        self._state = "starting"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def show(self, reader: RunReader) -> None:
        """Say how the run begins, what it has to say, each evaluation, and that it waits or goes on."""
        reader.read_all()
        info, curves = reader.info, reader.curves
        for line in self._news.take(reader.log):
            say(f"{self._name}: {line}")
        if self._state == "starting" and info.state != "starting" and info.status.parameters:
            for line in introduction(info.status):
                say(f"{self._name}: {line}")
        for step in self._evaluations.take(curves):
            is_last = not info.is_under_way and step == curves.steps[-1]
            now = figures(reader, None if is_last else step)
            say(f"step {now.step} of {now.steps}   {now.losses()}   {now.times()}")
        if self._state != info.state and "paused" in (self._state, info.state) and info.is_under_way:
            say(f"{self._name} is {info.state} at step {info.status.step}")
        self._state = info.state

    def remark(self, message: str) -> None:
        """Say something in between."""
        say(message)


class JsonView:
    """A JSON line of metrics on stdout for each evaluation, at most one a second in between, and one at the end."""

    def __init__(self) -> None:
        self._evaluations = _Untold(is_new=False)
        self._told: tuple[int, str] = (-1, "")
        self._told_at = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def show(self, reader: RunReader) -> None:
        """Write what has come."""
        reader.read_all()
        curves, info = reader.curves, reader.info
        for step in self._evaluations.take(curves):
            self._write(reader, bisect_left(curves.steps, step))
        now = (curves.steps[-1] if len(curves) else 0, info.state)
        if now == self._told or (info.is_under_way and time.monotonic() - self._told_at < SECONDS_BETWEEN):
            return
        self._write(reader, len(curves) - 1)

    def _write(self, reader: RunReader, place: int) -> None:
        """The line of one place in the curves; -1 before the first step."""
        state = reader.info.state
        step = reader.curves.steps[place] if place >= 0 else 0
        line = {"state": state, "step": step, "steps": reader.info.status.steps}
        write_json(line | (_metrics(reader.curves, place) if place >= 0 else {}))
        self._told, self._told_at = (step, state), time.monotonic()

    def remark(self, message: str) -> None:
        """Say something in between, on stderr."""
        say(message)


def _metrics(curves: Curves, place: int) -> dict[str, Any]:
    """What was measured at one place of the curves, as a line of `metrics.jsonl` has it."""
    found: dict[str, Any] = {name: curves[name][place] for name in Curves.COLUMNS}
    found["tokens"] = int(found["tokens"])
    step = curves.steps[place]
    at = bisect_left(curves.evaluations, step, key=lambda evaluation: evaluation[0])
    if at < len(curves.evaluations) and curves.evaluations[at][0] == step:
        _, found["val_loss"], train_split_loss = curves.evaluations[at]
        if train_split_loss is not None:
            found["train_split_loss"] = train_split_loss
    return found


class _Untold:
    """Which evaluations of a run have not been told yet.

    Args:
        is_new: Whether all are told; else, of those that were there before, the latest alone.
    """

    def __init__(self, is_new: bool) -> None:
        self._told: int | None = 0 if is_new else None

    def take(self, curves: Curves) -> list[int]:
        """The steps of those that have come; they are told from now on."""
        steps = [step for step, _, _ in curves.evaluations]
        if self._told is None:
            self._told = steps[-2] if len(steps) > 1 else 0
        if len(curves):  # a run that was killed and resumed comes by the same steps again
            self._told = min(self._told, curves.steps[-1])
        untold = [step for step in steps if step > self._told]
        self._told = max([self._told, *untold])
        return untold
