"""The training screen: all runs, the chosen one's progress, curves, samples and log. It reads run directories in
threads; no run knows that it is watched.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import ClassVar

from textual.binding import BindingType
from textual.message import Message

from engine.device_use import DeviceMeter
from engine.errors import MiniGPTError
from minigpt_tui.actions import Where, bindings
from minigpt_tui.machine import Machine
from minigpt_tui.screens.train_actions import RunActions
from minigpt_tui.screens.train_view import LOWER, TAILS
from minigpt_tui.settings import Session
from minigpt_tui.training.run_feed import RunFeed, Wish
from minigpt_tui.widgets.run_list import RunList

LOOK_SECONDS = 0.1
"""Seconds between two looks at the runs that are shown."""

READING_SECONDS = 0.03
"""Seconds between two looks while the past is still being read."""

DEVICE_SECONDS = 2.0


class TrainScreen(RunActions):
    """Watch training runs, and start, steer and compare them."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings(Where.TRAIN)]

    class PlayRequested(Message):
        """The reader wants to choose a checkpoint to write with."""

    class SessionChanged(Message):
        """Something that outlives the app has changed."""

    def __init__(self, session: Session, machine: Machine | None = None) -> None:
        """Make the screen.

        Args:
            session: What the last session left; changed in place.
            machine: Whose runs they are; by default this one's.
        """
        super().__init__(session, machine)
        self._feed = RunFeed(self._machine.info_of)
        self._by_time = False

    def on_mount(self) -> None:
        """Begin to read."""
        self.run_worker(self.refresh_runs(), group="requests")
        self.run_worker(self._follow(), group="follow")
        self.run_worker(self._meter(), group="meter")

    # What is read.

    async def _follow(self) -> None:
        """Read the chosen run and those laid over it, as long as the screen is there."""
        while True:
            wish = self._wish()
            if self.is_current and wish.run is not None:
                with contextlib.suppress(MiniGPTError):  # a link that is lost; what is known of a run stays
                    await self._machine.fetch(path for path in (wish.run, *wish.marked) if path is not None)
                picture = await asyncio.to_thread(self._feed.look, wish)
                if picture is not None and picture.wish.run == self._wish().run:
                    self._show_picture(picture)
                    self._see_saved(picture.info.name, picture.checkpoints)
            await asyncio.sleep(LOOK_SECONDS if self._feed.is_whole else READING_SECONDS)

    def _wish(self) -> Wish:
        paths = {run.name: run.path for run in self._runs.runs}
        run = paths.get(self._runs.selected)
        marked = tuple(paths[name] for name in self._runs.marked if name in paths and paths[name] != run)
        return Wish(run=run, marked=marked, by_time=self._by_time, tail=self._tail, points=self._chart.points)

    async def _meter(self) -> None:
        """Look at the machine's use now and then; another one's is not known."""
        if self._machine.name:
            return
        meter = DeviceMeter()
        while True:
            if self.is_current:
                run = self.chosen
                here = run is not None and run.is_under_way and run.status.host == socket.gethostname()
                pid = run.status.pid if run is not None and here else 0
                self.show_device(await asyncio.to_thread(meter.read, pid))
            await asyncio.sleep(DEVICE_SECONDS)

    def _see_saved(self, name: str, checkpoints: tuple[int, ...]) -> None:
        """Say so when a checkpoint that was asked for is there."""
        if name in self._saves and checkpoints and checkpoints[-1] > self._saves[name]:
            del self._saves[name]
            self.say(f"{name} has saved step {checkpoints[-1]:,}")

    # What the widgets ask for.

    def on_run_list_selected(self, event: RunList.Selected) -> None:
        """Show another run, as far as it is known; the rest follows within a frame or two."""
        event.stop()
        self._sample = -1
        self._show_borders()

    def on_run_list_open_requested(self, event: RunList.OpenRequested) -> None:
        """Go to the run."""
        event.stop()
        if self.chosen is not None:
            if self._lower == "chart":
                self._show_lower("samples")
            self._reading.focus()

    # Looking.

    def action_play(self) -> None:
        """Let the app show the checkpoints."""
        if self.chosen is None:
            self.say("there is no run yet")
        else:
            self.post_message(self.PlayRequested())

    def action_mark(self) -> None:
        """Lay the chosen run's curve over those of others, or take it away."""
        name, marked = self._runs.selected, self._runs.marked
        if not name:
            return
        if name in marked:
            self._runs.marked = tuple(other for other in marked if other != name)
            self.say(f"{name} is no longer laid over others")
        else:
            self._runs.marked = (*marked, name)
            self.say(f"{name} stays on the chart beside the run that is chosen")

    def action_log_scale(self) -> None:
        """Change between a linear and a logarithmic scale."""
        self._chart.log_scale = not self._chart.log_scale
        self.fit()

    def action_zoom(self) -> None:
        """The next zoom."""
        tails = list(TAILS)
        self._tail = tails[(tails.index(self._tail) + 1) % len(tails)]
        self.say(f"the {TAILS[self._tail] or 'whole'} of the curves" if self._tail < 1 else "the whole curves")

    def action_axis(self) -> None:
        """Change between steps and time."""
        self._by_time = not self._by_time

    def action_sample(self, direction: int) -> None:
        """Show the sample before or after."""
        samples = self._picture.samples if self._picture else ()
        if self._lower != "samples":
            self._show_lower("samples")
        if samples:
            here = len(samples) - 1 if self._sample < 0 else self._sample
            there = max(0, min(len(samples) - 1, here + direction))
            self._sample = -1 if there == len(samples) - 1 else there
        self._show_reading()

    def action_lower(self) -> None:
        """What comes next in the lower pane."""
        low = self.has_class("-low")
        order = LOWER if low else LOWER[1:]
        here = self._lower if low or self._lower == "log" else "samples"
        self._show_lower(order[(order.index(here) + 1) % len(order)])

    def _show_lower(self, what: str) -> None:
        for name in LOWER:
            self.set_class(name == what, f"-{name}")
        self._lower = next(name for name in LOWER if name == what)
        if self._reading.has_focus and what == "chart":
            self._runs.focus()
        self._show_reading()
        self._show_borders()

    def action_bell(self) -> None:
        """Ring at the end of runs, or be quiet."""
        self._session.bell = not self._session.bell
        self.post_message(self.SessionChanged())
        self.say("a run's end will ring" if self._session.bell else "the bell is off")

    def action_back(self) -> None:
        """Close the question; else dismiss a notice; else go to the list."""
        if not self.close_open():
            self.clear_selection()
            self._runs.focus()
