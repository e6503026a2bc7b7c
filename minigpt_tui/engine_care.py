"""The app as far as it cares for the engine: starts it beside the first screen, has models loaded, and starts another
where one dies. It imports no torch: text comes from the engine's process.
"""

from __future__ import annotations

import time
from functools import partial

from textual.timer import Timer
from textual.worker import Worker

from engine import __version__
from engine.errors import MiniGPTError, WorkerError
from engine.worker.protocol import Loaded
from minigpt_tui.actions import hints
from minigpt_tui.engine_client import EngineClient
from minigpt_tui.preferences import Preferences
from minigpt_tui.screens.play import PlayScreen

RESTARTS = 3
"""So many engines may die within `RESTART_SECONDS` before no more are started unasked."""

RESTART_SECONDS = 60.0

FIRST_WAIT, LONGEST_WAIT = 1.0, 30.0
"""A lost link is tried again after so many seconds, each time after twice as many, at most after the longest."""


class EngineCare(Preferences):
    """An app with an engine."""

    engine: EngineClient
    play: PlayScreen
    _leaving = False
    _deaths: tuple[float, ...] = ()
    _wait = FIRST_WAIT
    _trying: Timer | None = None

    def _bring(self, model: str) -> None:
        """Have a model loaded, by an engine that is started where none runs, in place of what was to be loaded."""
        if self._leaving:
            return  # what was started now would outlive the app
        self.play.loading_model, self.play.load_failed = model, False
        # Not a coroutine yet: the next one may take its place before it has begun.
        _: Worker[None] = self.run_worker(partial(self._load, model), group="engine", exclusive=True)

    async def _load(self, model: str) -> None:
        """Start the engine where it does not run, and load a model; what goes wrong is said on the screen."""
        play = self.play
        try:
            await self.engine.start()
        except WorkerError as error:
            play.loading_model = None
            play.tell("The engine does not start", str(error), hints(["again"]))
            return
        try:
            loaded: Loaded = await self.engine.load(model, play.device, play.precision)
        except MiniGPTError as error:
            play.loading_model = None
            if self.engine.state != "dead":  # else `_engine_moved` has said why it died
                play.load_failed = True
                play.cannot_load(model, error)
            return
        play.wanted_model, play.model, play.loading_model = model, loaded.model, None
        self._wait = FIRST_WAIT
        play.engine_came_back()
        self._say_versions()
        if self.engine.place is not None and self.engine.place.is_server:
            self.play.say("a server: no look inside; what is turned is asked anew")

    def _say_versions(self) -> None:
        """Say so where the engine is of another version than the app: what they say to each other is the same."""
        hello = self.engine.hello if self.engine.place is not None else None
        if hello is not None and hello.version != __version__:
            self.play.say(f"the minigpt-tui there is {hello.version}, this one {__version__}; they get along")

    def _engine_moved(self, state: str, detail: str) -> None:
        if self._leaving or not self.play.is_running:
            return
        self.play.engine_state = state
        if state == "starting":
            self._stop_trying()
        if state == "ready" and self.play.loading_model is None:  # a text that was asked for has started it
            self._bring(self.play.wanted_model)
        if state != "dead":
            return
        if self.engine.place is not None:
            self._link_ended(detail)
            return
        now = time.monotonic()
        self._deaths = (*(death for death in self._deaths if now - death < RESTART_SECONDS), now)
        again = len(self._deaths) < RESTARTS
        self.play.engine_died(detail, again)
        if again:
            self._bring(self.play.wanted_model)

    def _link_ended(self, why: str) -> None:
        """Try again after a while, where that may help; whoever writes on tries at once."""
        again = self._wait if self.engine.may_pass else None
        self.play.link_ended(why, again)
        if again is not None:
            self._wait = min(LONGEST_WAIT, 2 * self._wait)
            self._stop_trying()
            self._trying = self.set_timer(again, lambda: self._bring(self.play.wanted_model))

    def _stop_trying(self) -> None:
        if self._trying is not None:
            self._trying.stop()
            self._trying = None

    async def action_use_model(self, name: str) -> None:
        """Load another model; the one before writes on until it is there."""
        self._bring(name)

    def on_play_screen_engine_wanted(self) -> None:
        """Try the engine and the model again."""
        self._bring(self.play.wanted_model)
