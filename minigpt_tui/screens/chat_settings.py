"""Sampling settings and pace on the Chat screen: they are the session's, and act on the answer that is written."""

from __future__ import annotations

from engine.config import SamplingParams
from minigpt_tui.screens.chat_answering import ChatAnswering
from minigpt_tui.screens.paced import Paced
from minigpt_tui.screens.turned_settings import TurnedSettings


class ChatSettings(Paced, TurnedSettings, ChatAnswering):
    """Answers whose settings are turned."""

    @property
    def turned_params(self) -> SamplingParams:
        """The session's settings, with the seed of the next answers."""
        return self._session.params

    def turn(self, params: SamplingParams) -> None:
        """Draw otherwise from now on."""
        self.turn_settings(params)

    def action_reset_sampling(self) -> None:
        """Set all of sampling back, as on Play."""
        self.turn_settings(SamplingParams())

    def take_pace(self) -> None:
        """Answer at it from the next token on."""
        self.set_pace()
        self.say(self._session.pace_words)
