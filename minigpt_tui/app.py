"""The app: starts the engine beside the first screen, mends it when it dies, and keeps screens, theme, help, palette
and session. It imports no torch: text comes from the engine's process.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from textual.app import App
from textual.binding import BindingType
from textual.command import CommandPalette, Provider
from textual.theme import Theme
from textual.worker import Worker

from engine.config import Device, Precision
from engine.errors import MiniGPTError, WorkerError
from engine.worker.protocol import Loaded
from minigpt_tui.actions import Where, bindings, hints, places
from minigpt_tui.engine_client import EngineClient
from minigpt_tui.screens.play import PlayScreen
from minigpt_tui.settings import load_session, save_session
from minigpt_tui.themes import DARK, LIGHT, variable_defaults

if TYPE_CHECKING:
    from engine.training.runs import RunInfo
    from minigpt_tui.screens.train import TrainScreen

RESTARTS = 3
"""So many engines may die within `RESTART_SECONDS` before no more are started unasked."""

RESTART_SECONDS = 60.0
QUIT_SECONDS = 2.0
"""Within this time a second ctrl+c quits."""

WATCH_AFTER_SECONDS = 2.0
"""With the bell on, runs are watched from so long after the start; else from when their screen is first wanted."""


def _actions() -> type[Provider]:
    from minigpt_tui.palette import ActionProvider  # when the palette opens: the first screen does not wait for it

    return ActionProvider


class MiniGPTApp(App[None]):
    """The screens in the terminal; each has a stack of its own, so that a form stays open while another is shown.

    Args:
        model: The model to write with; empty for the default.
        device: Where to compute.
        precision: How to compute.
        client: The engine to talk to; by default one of its own on this machine.
    """

    TITLE = "minigpt"
    CSS_PATH = "screens/play.tcss"  # with the app's, so that the first screen is styled once
    DEFAULT_MODE = "play"
    COMMANDS = {_actions}  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = [*bindings(Where.EVERYWHERE)]

    def __init__(
        self,
        model: str = "",
        device: Device = "auto",
        precision: Precision = "auto",
        client: EngineClient | None = None,
    ) -> None:
        super().__init__()
        self.engine = client or EngineClient()
        self.session, self._session_problem = load_session()
        self._asked_to_quit = 0.0
        self._deaths: list[float] = []
        self._leaving = False
        self._signals: list[int] = []  # those that end the app in good order
        self.register_theme(DARK)
        self.register_theme(LIGHT)
        known = self.session.theme in self.available_themes
        self.theme = self.session.theme if known else DARK.name
        self.play = PlayScreen(self.engine, self.session, wanted_model=model, device=device, precision=precision)
        self.train: TrainScreen | None = None  # until it is first wanted
        self._watching = False
        self.add_mode("train", self._make_train)

    def get_default_screen(self) -> PlayScreen:
        """The playground. Its mode is added later than the others: Textual would read its styles twice."""
        return self.play

    def _make_train(self) -> TrainScreen:
        from minigpt_tui.screens.train import TrainScreen

        self.train = TrainScreen(self.session)
        return self.train

    def get_theme_variable_defaults(self) -> dict[str, str]:
        """Our own names for colours, in themes that do not have them."""
        return variable_defaults(self.current_theme)

    # The engine.

    def on_mount(self) -> None:
        """Start the engine as soon as the first screen is painted."""
        self.engine.on_state = self._engine_moved
        self.theme_changed_signal.subscribe(self, self._theme_changed)
        # Its process would compete with the first paint.
        self.call_after_refresh(self._bring, self.play.wanted_model)
        if self._session_problem:
            self.call_after_refresh(
                partial(self.play.tell, letters=False),
                "A fresh start",
                f"{self._session_problem} Nothing else is lost.",
                hints(["help"]),
            )
        self._heed_signals()
        if self.session.bell:
            self.set_timer(WATCH_AFTER_SECONDS, self._watch_runs)

    def _heed_signals(self) -> None:
        """Leave in good order when the terminal closes or the system asks: the session kept, the terminal as it was."""
        loop = asyncio.get_running_loop()
        for name in ("SIGTERM", "SIGHUP"):
            if number := getattr(signal, name, None):
                # Neither every system nor every thread has them.
                with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
                    loop.add_signal_handler(number, self.call_later, self.action_quit)
                    self._signals.append(number)

    def on_ready(self) -> None:
        """Do what the first picture need not wait for, and spare the collector what lives as long as the app."""
        self.add_mode("play", lambda: self.play)
        gc.collect()  # looking through all that is there would hold the loop for 50 ms, time and again
        gc.freeze()
        sys.setswitchinterval(0.001)  # seconds that the threads which read keys and write the screen wait for the loop

    def _bring(self, model: str) -> None:
        """Have a model loaded, by an engine that is started where none runs, in place of what was to be loaded."""
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
        play.engine_came_back()

    def _engine_moved(self, state: str, detail: str) -> None:
        if self._leaving or not self.play.is_running:
            return
        self.play.engine_state = state
        if state == "ready" and self.play.loading_model is None:  # a text that was asked for has started it
            self._bring(self.play.wanted_model)
        if state != "dead":
            return
        now = time.monotonic()
        self._deaths = [*(death for death in self._deaths if now - death < RESTART_SECONDS), now]
        again = len(self._deaths) < RESTARTS
        self.play.engine_died(detail, again)
        if again:
            self._bring(self.play.wanted_model)

    async def action_use_model(self, name: str) -> None:
        """Load another model; the one before writes on until it is there."""
        self._bring(name)

    def on_play_screen_models_requested(self) -> None:
        """Show the models to choose from."""
        from minigpt_tui.palette import ModelProvider

        if self.screen is self.play:
            self.push_screen(CommandPalette(providers=[ModelProvider], placeholder="Choose a model"))

    # Screens.

    async def action_show(self, screen: str) -> None:
        """Show a screen; what goes on in the others goes on.

        Args:
            screen: play or train.
        """
        if screen == "train":
            self._watch_runs()
        await self.switch_mode(screen)

    def _watch_runs(self) -> None:
        """Follow all runs from now on, for their screen and for the bell."""
        if not self._watching:
            from minigpt_tui.training.run_watch import watch_runs

            self._watching = True
            self.run_worker(watch_runs(self._runs_seen, self._run_ended), group="runs")

    def _runs_seen(self, runs: tuple[RunInfo, ...]) -> None:
        if self.train is not None and self.train.is_mounted:
            self.train.show_runs(runs)

    def _run_ended(self, run: RunInfo) -> None:
        """Ring, if that is wanted, and let the terminal say which run it was."""
        if self.session.bell and self._driver is not None:
            from minigpt_tui.training.run_watch import notification

            self.bell()
            self._driver.write(notification(run))

    def on_train_screen_play_requested(self) -> None:
        """Show the checkpoints to choose from."""
        from minigpt_tui.palette import CheckpointProvider

        if self.screen is self.train:
            self.push_screen(CommandPalette(providers=[CheckpointProvider], placeholder="Choose a checkpoint"))

    async def action_play_model(self, name: str) -> None:
        """Go to the playground with another model."""
        await self.action_show("play")
        self._bring(name)

    # What outlives the app.

    def on_play_screen_session_changed(self) -> None:
        """Keep the session, beside the loop: a disk may be slow."""
        self.run_worker(asyncio.to_thread(save_session, self.session), group="session", exclusive=True)

    def on_train_screen_session_changed(self) -> None:
        """The same."""
        self.on_play_screen_session_changed()

    def on_play_screen_engine_wanted(self) -> None:
        """Try the engine and the model again."""
        self._bring(self.play.wanted_model)

    def _theme_changed(self, theme: Theme) -> None:
        self.session.theme = theme.name
        self.on_play_screen_session_changed()

    async def action_quit(self) -> None:
        """Leave: keep the session, end the engine."""
        self._leaving = True
        self.workers.cancel_group(self, "session")
        save_session(self.session)
        self.exit()

    async def on_unmount(self) -> None:
        """End the engine, however the app ends."""
        self._leaving = True
        for number in self._signals:
            asyncio.get_running_loop().remove_signal_handler(number)
        await self.engine.close()

    # Actions.

    def action_keys_help(self) -> None:
        """Show the keys, those of what has the focus first."""
        from minigpt_tui.screens.keys_help import KeysHelp

        if not isinstance(self.screen, KeysHelp):
            self.push_screen(KeysHelp(places(self.screen)))

    def action_dark_light(self) -> None:
        """Change between the dark and the light colours."""
        self.theme = LIGHT.name if self.current_theme.dark else DARK.name

    def action_copy_or_quit(self) -> None:
        """Copy what is selected; with nothing selected, quit at the second time."""
        from textual.widgets import Input, TextArea

        focused = self.focused
        selected = focused.selected_text if isinstance(focused, Input | TextArea) else ""
        if text := selected or self.screen.get_selected_text():
            self.copy_to_clipboard(text)
            self._say(f"copied {len(text):,} characters")
            return
        now = time.monotonic()
        if now - self._asked_to_quit < QUIT_SECONDS:
            self.run_worker(self.action_quit())
            return
        self._asked_to_quit = now
        self._say("ctrl+c again quits")

    def _say(self, remark: str) -> None:
        """A remark on the screen that is shown."""
        shown = self.train if self.train is not None and self.current_mode == "train" else self.play
        shown.say(remark)
