"""The app: its screens, the help, the palette, the session, and how it ends. It imports no torch: text comes from the
engine's process.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, cast

from textual.binding import BindingType
from textual.command import CommandPalette, Provider
from textual.screen import Screen
from textual.theme import Theme
from textual.worker import Worker

from engine.config import Device, Precision
from minigpt_tui.actions import Where, bindings, by_id, hints, places
from minigpt_tui.app_wishes import WishingScreens
from minigpt_tui.config_file import Loaded
from minigpt_tui.ending_signals import heed
from minigpt_tui.engine_client import EngineClient
from minigpt_tui.model_choice import ModelChoice
from minigpt_tui.screens.others import NAMES, make_screen
from minigpt_tui.screens.play import PlayScreen
from minigpt_tui.settings import Session, load_session, save_session
from minigpt_tui.terminal_watch import watch_terminal
from minigpt_tui.themes import DARK, LIGHT
from minigpt_tui.wishes import Written

if TYPE_CHECKING:
    from engine.training.runs import RunInfo
    from minigpt_tui.machine import Machine
    from minigpt_tui.screens.train import TrainScreen

QUIT_SECONDS = 2.0
"""Within this time a second ctrl+c quits."""

PROBLEMS_TOLD = 3
"""So many lines on what is wrong with `config.toml` stand in the notice."""

WATCH_AFTER_SECONDS = 2.0
"""With the bell on, runs are watched from so long after the start; else from when their screen is first wanted."""


def _actions() -> type[Provider]:
    from minigpt_tui.palette import ActionProvider  # when the palette opens: the first screen does not wait for it

    return ActionProvider


class MiniGPTApp(WishingScreens):
    """The screens in the terminal; each has a stack of its own, so that a form stays open while another is shown.

    Args:
        model: The model to write with; empty for the one that was decided on, or the default.
        device: Where to compute; None as it was decided.
        precision: How to compute; None as it was decided.
        client: The engine to talk to, here or elsewhere; by default one of its own on this machine.
        loaded: What `config.toml` says; by default it is read now.
    """

    TITLE = "minigpt"
    CSS_PATH = "screens/play.tcss"  # with the app's, so that the first screen is styled once
    DEFAULT_MODE = "play"
    COMMANDS = {_actions}  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = [*bindings(Where.EVERYWHERE)]

    def __init__(
        self,
        model: str = "",
        device: Device | None = None,
        precision: Precision | None = None,
        client: EngineClient | None = None,
        loaded: Loaded | None = None,
    ) -> None:
        super().__init__(loaded)
        self.engine = client or EngineClient()
        self.session, self._session_problem = load_session()
        self._heed_config(self.session)
        self._asked_to_quit = 0.0
        self._give_back_signals: Callable[[], None] = lambda: None
        self.play = PlayScreen(
            self.engine,
            self.session,
            # What was decided is of this machine.
            wanted_model=model or ("" if self.engine.place else self.config.model),
            device=device or ("auto" if self.engine.place else self.config.device),
            precision=precision or ("auto" if self.engine.place else self.config.precision),
        )
        self._others: dict[str, Screen[Any]] = {}  # those that were wanted so far
        self._watching = False
        for name in NAMES:
            self.add_mode(name, partial(self._other, name))

    def get_default_screen(self) -> PlayScreen:
        """The playground. Its mode is added later than the others: Textual would read its styles twice."""
        return self.play

    def _other(self, name: str) -> Screen[Any]:
        """A screen other than the first, made when it is first asked for."""
        if name not in self._others:
            self._others[name] = make_screen(name, self.engine, self.machine, self.session, self._choice)
        return self._others[name]

    def _choice(self) -> ModelChoice:
        play = self.play
        return ModelChoice(play.wanted_model, play.device, play.precision, play.model)

    @functools.cached_property
    def machine(self) -> Machine:
        """The machine that the engine runs on."""
        from minigpt_tui.machine import machine_of

        return machine_of(self.engine)

    @property
    def train(self) -> TrainScreen | None:
        """The screen of the runs, once it was wanted."""
        return cast("TrainScreen | None", self._others.get("train"))

    def _heed_config(self, session: Session) -> None:
        """Begin with what was decided in place of what the last session left."""
        config = self.config
        if config.pace is not None:
            session.full_speed = config.pace == 0
            session.pace = config.pace or session.pace
        if config.new_tokens is not None:
            session.params = session.params.replace(max_new_tokens=config.new_tokens)
        if config.bell is not None:
            session.bell = config.bell

    # From the start to the end.

    def on_mount(self) -> None:
        """Start the engine as soon as the first screen is painted."""
        self.engine.on_state = self._engine_moved
        self.theme_changed_signal.subscribe(self, self._theme_changed)
        # Its process would compete with the first paint.
        self.call_after_refresh(self._bring, self.play.wanted_model)
        self.call_after_refresh(self._tell_problems)
        self._give_back_signals = heed(lambda: self.call_later(self.action_quit))
        if not self.is_headless and not self.is_web:
            loop = asyncio.get_running_loop()
            watch_terminal(
                lambda: loop.call_soon_threadsafe(self.call_later, self.action_quit),
                lambda: save_session(self.session),
            )
        if self.session.bell:
            self.set_timer(WATCH_AFTER_SECONDS, self._watch_runs)

    def _tell_problems(self) -> None:
        """Say what was wrong with what was read at the start."""
        title, problems = "A fresh start", [f"{self._session_problem} Nothing else is lost."]
        if not self._session_problem:
            title, problems = "Not all of config.toml counts", [f"{problem}." for problem in self.config_problems]
        elif self.config_problems:
            problems += [f"{problem}." for problem in self.config_problems]
        if self._session_problem or self.config_problems:
            more = len(problems) - PROBLEMS_TOLD
            said = [*problems[:PROBLEMS_TOLD], *([f"And {more} more: `minigpt-tui config show`."] if more > 0 else [])]
            self.play.tell(title, "\n".join(said), hints(["show_settings", "help"]), letters=False)

    def on_ready(self) -> None:
        """Do what the first picture need not wait for, and spare the collector what lives as long as the app."""
        self.add_mode("play", lambda: self.play)
        # Looking through all that is there would hold the loop for 60 ms, time and again. Not once before either: the
        # engine starts after this, and the garbage of the start, that is now kept, is less than a megabyte.
        gc.freeze()
        gc.enable()  # the command line has it wait for the first picture
        sys.setswitchinterval(0.001)  # seconds that the threads which read keys and write the screen wait for the loop

    def on_play_screen_models_requested(self) -> None:
        """Show the models to choose from."""
        from minigpt_tui.palette import ModelProvider

        if self.screen is self.play:
            self.push_screen(CommandPalette(providers=[ModelProvider], placeholder="Choose a model"))

    # Screens.

    async def action_show(self, screen: str) -> None:
        """Show a screen; what goes on in the others goes on.

        Args:
            screen: play, or one of the others.
        """
        if screen == "train":
            self._watch_runs()
        await super().action_show(screen)

    def _watch_runs(self) -> None:
        """Follow all runs from now on, for their screen and for the bell."""
        if not self._watching:
            from minigpt_tui.training.run_watch import watch_runs

            self._watching = True
            self.run_worker(watch_runs(self.machine, self._runs_seen, self._run_ended), group="runs")

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

    # What outlives the app.

    def on_session_changed(self) -> None:
        """Keep the session."""
        self.on_play_screen_session_changed()

    def on_play_screen_session_changed(self) -> None:
        """Keep the session, beside the loop: a disk may be slow."""
        if self.config.bell is not None and self.config.bell != self.session.bell:
            self.change_setting("bell", self.session.bell)  # else the next start would begin with the other
        # Not a coroutine yet: none is left waiting where the app ends.
        _: Worker[None] = self.run_worker(self._keep_session, group="session", exclusive=True)

    async def _keep_session(self) -> None:
        await asyncio.to_thread(save_session, self.session)

    def on_train_screen_session_changed(self) -> None:
        """The same."""
        self.on_play_screen_session_changed()

    def _theme_changed(self, theme: Theme) -> None:
        self.theme_chosen(theme)

    async def action_quit(self) -> None:
        """Leave: keep the session, end the engine."""
        self._leaving = True
        self.workers.cancel_group(self, "session")
        for screen in [self.play, *self._others.values()]:  # what is being written is kept as far as it has come
            for entry in getattr(screen, "close_texts", list)():
                self.on_written(Written(entry))
        save_session(self.session)
        await self.written()
        self.exit()

    async def on_unmount(self) -> None:
        """End the engine, however the app ends."""
        self._leaving = True
        self._give_back_signals()
        await self.engine.close()
        await self.close_history()

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
            return
        now = time.monotonic()
        if now - self._asked_to_quit < QUIT_SECONDS:
            self.run_worker(self.action_quit())
            return
        self._asked_to_quit = now
        self.remark(f"{by_id('copy_or_quit').shown} again quits")

    def remark(self, words: str) -> None:
        """Say something on the screen that is shown."""
        say = getattr(self.screen, "say", None) or self.play.say  # a question over a screen has no place for it
        say(words)
