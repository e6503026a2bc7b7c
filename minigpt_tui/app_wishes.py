"""The app as far as screens wish something of it: a text kept, a model used, another screen shown with something. No
screen knows another: they post messages, which end here.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, cast

from textual.screen import Screen

from minigpt_tui.actions import hints
from minigpt_tui.engine_care import EngineCare
from minigpt_tui.wishes import CompareModels, OpenEntry, UseModel, UsePrompt, Written

if TYPE_CHECKING:
    from minigpt_tui.history.recorder import Recorder
    from minigpt_tui.screens.compare import CompareScreen


class WishingScreens(EngineCare):
    """An app whose screens speak to each other through it."""

    _recorder: Recorder | None = None  # until there is something to keep

    async def action_show(self, screen: str) -> None:
        """Show a screen; what goes on in the others goes on.

        Args:
            screen: play, or one of the others.
        """
        await self.switch_mode(screen)

    def _other(self, name: str) -> Screen[Any]:
        """A screen other than the first, made when it is first asked for."""
        raise NotImplementedError

    async def action_play_model(self, name: str) -> None:
        """Go to the playground with another model."""
        await self.action_show("play")
        self._bring(name)

    def on_written(self, event: Written) -> None:
        """Keep a text in the history, unless it was decided not to."""
        if not self.config.history.record_app:
            return
        if self._recorder is None:
            from minigpt_tui.history.recorder import Recorder

            self._recorder = Recorder(on_problem=self._history_problem)
        self._recorder.record(event.entry)

    def _history_problem(self, problem: str) -> None:
        """From the thread that keeps texts: one was not kept."""
        with contextlib.suppress(RuntimeError):  # the app has ended
            self.call_from_thread(
                self.play.tell,
                "The history",
                f"{problem} All texts stay on the screen.",
                hints(["help"]),
                letters=False,
            )

    async def on_open_entry(self, event: OpenEntry) -> None:
        """Show a text of the history on the Play screen."""
        await self.action_show("play")
        self.play.open_entry(event.entry, replay=event.replay)

    async def on_use_model(self, event: UseModel) -> None:
        """Write with a model."""
        await self.action_play_model(event.name)

    async def on_use_prompt(self, event: UsePrompt) -> None:
        """Show a prompt where it can be sent."""
        await self.action_show("play")
        self.play.use_prompt(event.prompt)

    async def on_compare_models(self, event: CompareModels) -> None:
        """Show models beside each other."""
        await self.action_show("compare")
        cast("CompareScreen", self._other("compare")).compare_models(event.names)

    async def close_history(self) -> None:
        """Wait until what was written is in the history."""
        if self._recorder is not None:
            await asyncio.to_thread(self._recorder.close)
