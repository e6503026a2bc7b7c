"""The keys that turn the pace, on the screens that write at one. Knows nothing of what is written."""

from __future__ import annotations

from minigpt_tui.settings import Session


class Paced:
    """A screen with a session, whose heir lets what it writes take its pace."""

    _session: Session

    def take_pace(self) -> None:
        """The session's pace is another one."""
        raise NotImplementedError

    def action_full_speed(self) -> None:
        """Set the pace aside, or take it up again."""
        self._session.full_speed = not self._session.full_speed
        self.take_pace()

    def action_pace(self, direction: int) -> None:
        """The next pace up or down."""
        self._session.turn_pace(direction)
        self.take_pace()
