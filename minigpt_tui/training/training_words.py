"""What there is to say of a training run while it goes on, in words and figures, from what was read of its directory.
Knows nothing of how they are shown.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_right
from dataclasses import dataclass

from engine.training.run import Status
from engine.training.run_reader import RunReader
from engine.training.runs import RunInfo
from engine.training.stopwatch import clock
from minigpt_tui.columns import count

_SAID = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d (.*)")
"""A line of the log that the trainer wrote itself, and not a library of its."""

_TIME_LENGTH = len("2026-01-31 23:59:59 ")

_SHOWN_OTHERWISE = ("saved step", "goes on from", "paused at", "stopped at", "finished at", "crashed at")

RECENT_STEPS = 20
"""Losses and speeds are shown as means over this many steps, so that they can be read."""

PACE_STEPS = 1000
"""The time that is left is judged by this many steps, with the evaluations among them."""


@dataclass(frozen=True)
class Figures:
    """A run at one moment; losses in nats per token, times in seconds.

    Attributes:
        steps: In all; 0 before that is known.
        seconds: Of training so far.
        left: Seconds that it will go on; None while there is nothing to judge by.
        train_loss: Mean of the latest batches; None before the first step.
        val_loss: Of the latest evaluation.
        best: The lowest validation loss and its step.
        speed: Tokens per second.
    """

    step: int
    steps: int
    seconds: float
    left: float | None
    train_loss: float | None
    val_loss: float | None
    best: tuple[float, int] | None
    speed: float

    def times(self) -> str:
        """Time gone and, once there is something to judge by, time left."""
        gone = f"{clock(self.seconds)} gone"
        return gone if self.left is None else f"{gone} · {clock(self.left)} left"

    def losses(self) -> str:
        """Training loss, validation loss with the best one marked, and speed."""
        if self.train_loss is None:
            return "the first step is under way"
        words = [f"loss {self.train_loss:.4f}"]
        if self.val_loss is not None:
            words.append(f"val {self.val_loss:.4f}" + self._best())
        words.append(f"{self.speed:,.0f} tok/s")
        return "   ".join(words)

    def _best(self) -> str:
        if self.best is None:
            return ""
        loss, step = self.best
        return f" (best, step {step})" if loss == self.val_loss else f" (best {loss:.4f}, step {step})"


def figures(reader: RunReader, at: int | None = None) -> Figures:
    """The figures of a run as they are, or as they were after the step `at`."""
    curves, info = reader.curves, reader.info
    status, has_ended = info.status, not info.is_under_way
    end = len(curves) if at is None else bisect_right(curves.steps, at)
    recent = slice(max(0, end - RECENT_STEPS), end)
    evaluations = [evaluation for evaluation in curves.evaluations if at is None or evaluation[0] <= at]
    step = curves.steps[end - 1] if end else status.step
    seconds = curves["time"][end - 1] if end else status.seconds
    if at is None:
        seconds = max(seconds, status.seconds)
    left = None
    first = max(0, end - PACE_STEPS)
    if (
        not has_ended and end - first > 1 and step < status.steps
    ):  # a run's first step warms the machine up and does not count
        each = (curves["time"][end - 1] - curves["time"][first]) / (step - curves.steps[first])
        left = each * (status.steps - step)
    return Figures(
        step=step,
        steps=status.steps,
        seconds=seconds,
        left=left,
        train_loss=_mean(curves["train_loss"][recent]) if end else status.train_loss,
        val_loss=evaluations[-1][1] if evaluations else (status.val_loss if at is None else None),
        best=_best(status, [(loss, step) for step, loss, _ in evaluations], at, settled=has_ended),
        speed=_mean(curves["tokens_per_second"][recent]) if end else status.tokens_per_second,
    )


def _mean(values: array[float]) -> float:
    return sum(values) / len(values)


def _best(
    status: Status, evaluations: list[tuple[float, int]], at: int | None, *, settled: bool
) -> tuple[float, int] | None:
    """The lowest validation loss: of the evaluations that were read, and of those before them by the status.

    Args:
        status: What the trainer wrote last.
        evaluations: (loss, step) of those that were read.
        at: After which step; None for now.
        settled: Whether the run has ended, when all losses were measured anew over the whole split.
    """
    told = None
    if status.best_val_loss is not None and status.best_step is not None:
        told = status.best_val_loss, status.best_step
    if told is not None and settled and at is None:
        return told
    if told is not None and (at is None or told[1] <= at):
        evaluations = [*evaluations, told]
    return min(evaluations, default=None)


def age(seconds: float) -> str:
    """How long ago something was, such as 40s, 5m, 3h or 2d."""
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f}{unit}"
    return f"{max(0.0, seconds):.0f}s"


def introduction(status: Status) -> list[str]:
    """What is being trained on what, in two lines."""
    model = f"{count(status.parameters)} parameters, {status.vocab_size:,} token ids"
    return [
        f"{model}, {status.device} {status.precision}, {status.tokens_per_step:,} tokens a step",
        f"{status.train_tokens:,} tokens to learn from, {status.val_tokens:,} to validate with",
    ]


class News:
    """What a trainer says in its log that is not shown otherwise: settings that are the model's own, a batch that was
    halved for want of memory, the end of an epoch.

    Args:
        is_new: Whether the run has just been started; else what was said before is no news.
    """

    def __init__(self, is_new: bool) -> None:
        self._last: str | None = "" if is_new else None

    def take(self, log: list[str]) -> list[str]:
        """The lines that have come since the last call."""
        lines = [line for line in log if (said := _SAID.match(line)) and not said[1].startswith(_SHOWN_OTHERWISE)]
        if self._last is None:
            first = len(lines)
        else:
            first = next((place for place in range(len(lines), 0, -1) if lines[place - 1] == self._last), 0)
        self._last = lines[-1] if lines else self._last or ""
        return [line[_TIME_LENGTH:] for line in lines[first:]]


def ending(info: RunInfo) -> str:
    """How a run has ended, in one line."""
    status = info.status
    losses = (("validation", status.best_val_loss), ("test", status.test_loss))
    said = "".join(f", {split} loss {loss:.4f}" for split, loss in losses if loss is not None)
    return f"{info.state} at step {status.step:,} after {clock(status.seconds)}{said}"
