"""What the training screen shows of runs, read from their directories a little at a time in a thread of its own and
handed over as a whole that no longer changes. Nothing here waits for the screen, and the screen waits for nothing here.
"""

from __future__ import annotations

import itertools
import time
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from engine.training.curves import thin
from engine.training.run import Sample
from engine.training.run_reader import Curves, RunReader
from engine.training.runs import RunInfo, checkpoint_steps, read_run
from minigpt_tui.training.training_words import RECENT_STEPS, Figures, figures

BUDGET = 0.02
"""Seconds that one look takes, about, shared by the runs that are not whole yet."""

PICTURE_SECONDS = 0.25
"""Seconds between two pictures of the same wish: figures that change more often cannot be read."""

TRENDS = ("train_loss", "val_loss", "lr", "grad_norm", "tokens_per_second")
"""What is shown as a row of blocks."""

TREND_POINTS = 120

SMOOTHNESS = 80
"""The training loss is drawn as means over this share of the axis to each side."""


@dataclass(frozen=True)
class Wish:
    """What shall be shown.

    Attributes:
        run: The run that was chosen; None for none.
        marked: Those whose curves are laid over its own.
        by_time: Whether the axis is seconds of training instead of steps.
        tail: Which share of the axis is shown, from its end; 1 for all of it.
        points: Into how many the axis is cut.
    """

    run: Path | None = None
    marked: tuple[Path, ...] = ()
    by_time: bool = False
    tail: float = 1.0
    points: int = 200


@dataclass(frozen=True)
class RunCurves:
    """The curves of one run on the axis that is shown, as (place, loss).

    Attributes:
        train: The batch losses, thinned out and smoothed.
        spread: The least and the most loss at each of these points.
        val: The validation losses.
        best: The lowest of all its validation losses, where it is on the axis.
    """

    name: str
    train: tuple[tuple[float, float], ...] = ()
    spread: tuple[tuple[float, float], ...] = ()
    val: tuple[tuple[float, float], ...] = ()
    best: tuple[float, float] | None = None


@dataclass(frozen=True)
class Picture:
    """The chosen run at one moment.

    Attributes:
        wish: What was asked for.
        info: Its state.
        figures: Its numbers.
        lr: The latest learning rate; None before the first step, as the others.
        grad_norm: The latest gradient norm.
        tokens: Training tokens seen so far.
        trends: Each of `TRENDS` in few points.
        curves: Its curves first, then those of the marked runs.
        axis: Where the axis begins and ends.
        samples: What it wrote, by step.
        log: The end of its log, as lines.
        checkpoints: The steps of its checkpoints, first to last.
        is_whole: Whether all that is shown has been read to its beginning.
        damaged: How many lines of its files made no sense.
    """

    wish: Wish
    info: RunInfo
    figures: Figures
    lr: float | None
    grad_norm: float | None
    tokens: int
    trends: dict[str, list[float]]
    curves: tuple[RunCurves, ...]
    axis: tuple[float, float]
    samples: tuple[Sample, ...]
    log: tuple[str, ...]
    checkpoints: tuple[int, ...]
    is_whole: bool
    damaged: int = 0


class RunFeed:
    """Keeps a reader for each run that is shown. Only one thread at a time may call it.

    Args:
        info_of: Tells a run's state from its directory.
    """

    def __init__(self, info_of: Callable[[Path], RunInfo] = read_run) -> None:
        self._info_of = info_of
        self._readers: dict[Path, RunReader] = {}
        self._wish = Wish()
        self._drawn_at = 0.0
        self._stale = False

    @property
    def is_whole(self) -> bool:
        """Whether all that is shown has been read to its beginning."""
        return all(reader.is_whole for reader in self._readers.values())

    def look(self, wish: Wish) -> Picture | None:
        """Read for a while.

        Returns:
            The chosen run, when something has changed; None otherwise.
        """
        wanted = dict.fromkeys(path for path in (wish.run, *wish.marked) if path is not None)
        self._readers = {path: self._readers.get(path) or RunReader(path, self._info_of) for path in wanted}
        if wish != self._wish:
            self._wish, self._stale, self._drawn_at = wish, True, 0.0
        budget = BUDGET / max(1, sum(not reader.is_whole for reader in self._readers.values()))
        for reader in self._readers.values():
            self._stale |= reader.poll(budget)
        if wish.run is None or not self._stale or time.monotonic() - self._drawn_at < PICTURE_SECONDS:
            return None
        self._stale, self._drawn_at = False, time.monotonic()
        return self._draw(wish, self._readers[wish.run])

    def _draw(self, wish: Wish, reader: RunReader) -> Picture:
        last = max(_end(each, wish.by_time) for each in self._readers.values())
        first = last * (1 - wish.tail)
        curves, end = reader.curves, len(reader.curves)
        return Picture(
            wish=wish,
            info=reader.info,
            figures=figures(reader),
            lr=curves["lr"][end - 1] if end else None,
            grad_norm=_recent(curves, "grad_norm"),
            tokens=int(curves["tokens"][end - 1]) if end else reader.info.status.tokens,
            trends={name: _trend(reader, name) for name in TRENDS},
            curves=tuple(_thinned(each, wish, first, last) for each in self._readers.values()),
            axis=(first, last),
            samples=tuple(reader.samples),
            log=tuple(reader.log),
            checkpoints=checkpoint_steps(reader.path),
            is_whole=self.is_whole,
            damaged=reader.damaged,
        )


def _end(reader: RunReader, by_time: bool) -> float:
    """Where a run's axis ends."""
    curves = reader.curves
    if not len(curves):
        return 1.0
    return curves["time"][len(curves) - 1] if by_time else float(curves.steps[len(curves) - 1])


def _recent(curves: Curves, name: str) -> float | None:
    """The mean of the latest values of a column."""
    values = curves[name][max(0, len(curves) - RECENT_STEPS) :]
    return sum(values) / len(values) if len(values) else None


def _trend(reader: RunReader, name: str) -> list[float]:
    curves = reader.curves
    if name == "val_loss":
        return [loss for _, loss, _ in curves.evaluations[-TREND_POINTS:]]
    if not len(curves):
        return []
    return thin(curves.steps, curves[name], curves.steps[0], curves.steps[len(curves) - 1], TREND_POINTS).mean


def _thinned(reader: RunReader, wish: Wish, first: float, last: float) -> RunCurves:
    curves = reader.curves
    places = curves["time"] if wish.by_time else curves.steps
    train = thin(places, curves["train_loss"], first, last, wish.points)
    evaluations = [(_place(curves, step, wish.by_time), loss) for step, loss, _ in curves.evaluations]
    best = min(evaluations, key=lambda point: point[1], default=None)
    return RunCurves(
        name=reader.path.name,
        train=tuple(zip(train.x, _smooth(train.mean), strict=True)),
        spread=tuple(zip(train.low, train.high, strict=True)),
        val=tuple(point for point in evaluations if first <= point[0] <= last),
        best=best if best is not None and first <= best[0] <= last else None,
    )


def _smooth(values: list[float]) -> list[float]:
    """Each value as the mean of those around it: a trend that can be told from the noise."""
    reach = len(values) // SMOOTHNESS
    if not reach:
        return values
    sums = [0.0, *itertools.accumulate(values)]
    spans = ((max(0, place - reach), min(len(values), place + reach + 1)) for place in range(len(values)))
    return [(sums[end] - sums[begin]) / (end - begin) for begin, end in spans]


def _place(curves: Curves, step: int, by_time: bool) -> float:
    """Where a step is on the axis."""
    if not by_time:
        return float(step)
    return curves["time"][max(0, bisect_right(curves.steps, step) - 1)] if len(curves) else 0.0
