"""A tracker that costs the trainer next to nothing and cannot end its run: lines are collected, a thread of its own
passes them on a few seconds later, and a tracker that fails is named once in the run's log and left out.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from engine.training.run import Metrics, RunConfig, RunDirectory, Sample, Status

Line = Metrics | Sample

END_SECONDS = 60.0
"""How long the end of a run waits for a tracker, such as one whose server does not answer."""


class Tracker(Protocol):
    """What the trainer drives: `begin` once, `metrics` and `sample` for what it appends to the run, `end` once."""

    def begin(self, config: RunConfig, status: Status) -> None:
        """The run is about to take the step after `status.step`; 0 for a fresh one, else it is resumed from there."""

    def metrics(self, metrics: Metrics) -> None:
        """A step was taken."""

    def sample(self, sample: Sample) -> None:
        """The model wrote a sample."""

    def end(self, run: RunDirectory, status: Status) -> None:
        """The run ended or was stopped, and its files are complete; returns when all is passed on."""


class Recorder(Protocol):
    """What a tracker is inside its thread: the same, with lines by the batch. It may raise whatever goes wrong."""

    seconds: float
    """Between two batches."""

    def begin(self, config: RunConfig, status: Status) -> None:
        """As above; what was missed before a kill is filled in."""

    def write(self, lines: Sequence[Line]) -> None:
        """Pass lines on, in their order."""

    def end(self, run: RunDirectory, status: Status) -> None:
        """As above, after the last lines."""


class Background:
    """A `Tracker` that drives a `Recorder` in a thread of its own."""

    def __init__(self, name: str, recorder: Recorder, run: RunDirectory) -> None:
        """Nothing happens before `begin`.

        Args:
            name: What the log calls it.
            recorder: What the thread drives.
            run: Whose log is told of a failure.
        """
        self._name = name
        self._recorder = recorder
        self._run = run
        self._waiting: deque[Line] = deque()
        self._end: tuple[RunDirectory, Status] | None = None
        self._ending = threading.Event()
        self._failed = False
        self._thread: threading.Thread | None = None

    def begin(self, config: RunConfig, status: Status) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self._work, args=(config, status), name=self._name, daemon=True)
        self._thread.start()

    def metrics(self, metrics: Metrics) -> None:
        """Keep a line for the thread."""
        if not self._failed:
            self._waiting.append(metrics)

    def sample(self, sample: Sample) -> None:
        """Keep a sample for the thread."""
        if not self._failed:
            self._waiting.append(sample)

    def end(self, run: RunDirectory, status: Status) -> None:
        """Wait until all is passed on, END_SECONDS at most."""
        if self._thread is None:
            return
        self._end = run, status
        self._ending.set()
        self._thread.join(END_SECONDS)
        if self._thread.is_alive():
            self._say(f"{self._name} did not take the end of the run within {END_SECONDS:.0f} seconds")

    def _work(self, config: RunConfig, status: Status) -> None:
        """All that the thread does."""
        try:
            self._recorder.begin(config, status)
            while not self._ending.wait(self._recorder.seconds):
                self._pass_on()
            self._pass_on()
            if self._end is not None:
                self._recorder.end(*self._end)
        except Exception as error:  # whatever a tracker's package may raise: the run goes on, and its log says it
            self._failed = True
            self._waiting.clear()
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            self._say(f"{self._name} failed and is left out: {reason}; resuming the run fills in what it missed")

    def _pass_on(self) -> None:
        if lines := [self._waiting.popleft() for _ in range(len(self._waiting))]:
            self._recorder.write(lines)

    def _say(self, line: str) -> None:
        with contextlib.suppress(OSError):  # a full disk has no room for this line either
            self._run.log(line)
