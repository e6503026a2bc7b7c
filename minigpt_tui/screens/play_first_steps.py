"""The first steps on the Play screen: shown at a first start, one after the other, and never again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.config import SamplingParams
from minigpt_tui.screens.play_library import PlayLibrary

if TYPE_CHECKING:
    from minigpt_tui.widgets.first_steps import FirstSteps

WRITE, TURN, LOOK, DONE = range(4)
"""The steps, by how many were taken before."""


class PlayFirstSteps(PlayLibrary):
    """Shows what can be done to whoever has not done it yet."""

    _steps: FirstSteps | None = None
    _step = DONE

    def on_mount(self) -> None:
        """Show the step that comes next, once the first picture is there."""
        if not self._session.welcomed:
            self._session.welcomed, self._step = True, WRITE
            self.call_after_refresh(self._show_step)

    def _show_step(self) -> None:
        if self._step >= DONE:
            if self._steps is not None:
                self._steps.remove()
                self._steps = None
            return
        if self._steps is None:
            from minigpt_tui.widgets.first_steps import FirstSteps

            self._steps = FirstSteps(id="first-steps")
            self.mount(self._steps, after=self._notice)
        self._steps.step = self._step

    def _taken(self, step: int) -> None:
        """A step was taken, perhaps before it was told of."""
        if self._step == step < DONE:
            self._step = step + 1
            self._show_step()

    def _text_begins(self, left_out: str) -> None:
        super()._text_begins(left_out)
        self._taken(WRITE)

    def _change_params(self, params: SamplingParams) -> None:
        super()._change_params(params)
        if self._live.running:
            self._taken(TURN)

    def action_inspect(self) -> None:
        """Look inside the text, or no longer."""
        super().action_inspect()
        self._taken(LOOK)

    def action_next_step(self) -> None:
        """Show the step after this one; after the last, none, and never again."""
        self._taken(self._step)
