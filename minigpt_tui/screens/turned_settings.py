"""Sampling settings on a screen without a panel of them: their keys turn what the screen says, one line of chips shows
it. It knows nothing of what the settings are for.
"""

from __future__ import annotations

from engine.config import SamplingParams
from engine.errors import InvalidSettingError
from minigpt_tui.parameters import BY_FIELD
from minigpt_tui.screens.frame import FramedScreen
from minigpt_tui.settings import drawn_seed
from minigpt_tui.visible import visible_line


class TurnedSettings(FramedScreen):
    """A screen whose heir has `turned_params`, and takes others with `turn`."""

    SEED_REMARK = "empty for a new one each time"

    @property
    def turned_params(self) -> SamplingParams:
        """The settings that the keys turn."""
        raise NotImplementedError

    def turn(self, params: SamplingParams) -> None:
        """Go on with other settings."""
        raise NotImplementedError

    def on_sampling_chips_open_requested(self) -> None:
        """The chips say their keys; there is no panel behind them here."""
        self.say("a letter that is underlined lowers its setting, with shift it raises it")

    def action_step(self, field: str, direction: int) -> None:
        """Turn one setting a step."""
        self.turn(BY_FIELD[field].stepped(self.turned_params, direction))

    def action_new_seed(self) -> None:
        """Draw a seed."""
        self.turn(self.turned_params.replace(seed=drawn_seed()))

    def action_reset_sampling(self) -> None:
        """Set all but the seed back."""
        self.turn(SamplingParams(seed=self.turned_params.seed))

    def action_ask(self, field: str) -> None:
        """Type a setting's value; what is out of range is refused in words."""
        parameter = BY_FIELD[field]

        def take(text: str) -> str:
            try:
                self.turn(parameter.typed(self.turned_params, text))
            except InvalidSettingError as error:
                return visible_line(error.hint or error.message)
            return ""

        shown = parameter.shown(self.turned_params)
        value = "" if shown in ("none", "random") else shown
        remark = {"stop": r"several: a | b   newline: \n", "seed": self.SEED_REMARK}
        self._open(parameter.name, remark.get(field, parameter.range_text), take, value)
