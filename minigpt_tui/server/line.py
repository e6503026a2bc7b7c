"""Who may write now and who waits: places that are given away in the order in which they were asked for, and a line of
bounded length before them. Belongs to one event loop; knows nothing of texts, nor of HTTP.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Sequence

LONGEST_WAIT = 60
"""Seconds after which whoever was turned away is asked to come again, at most."""

WEIGHT = 0.1
"""Of the last stay in the average of how long one takes."""


class LineFull(Exception):  # noqa: N818 (it is an answer)
    """The line is as long as it may be.

    Attributes:
        seconds: When it is worth another try.
    """

    def __init__(self, seconds: int) -> None:
        super().__init__(f"try again in {seconds} s")
        self.seconds = seconds


class Ticket:
    """A place, or the claim to one."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self.turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.since = 0.0

    async def wait(self) -> None:
        """Wait for the place."""
        await self.turn

    def leave(self) -> None:
        """Give up the place, or the claim to it; may be called again."""
        self._line.take_back(self)


class Line:
    """Some places and a line before them.

    Args:
        places: How many may be held.
        waiting: How many may wait.
    """

    def __init__(self, places: int, waiting: int) -> None:
        self._places = places
        self._most_waiting = waiting
        self._running: set[Ticket] = set()
        self._waiting: deque[Ticket] = deque()
        self._stay = 0.0  # seconds that a place is held, on average

    @property
    def running(self) -> int:
        """Places that are held."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """Claims that wait."""
        return len(self._waiting)

    def admit(self, count: int) -> Sequence[Ticket]:
        """Line up for so many places; each has to be left in the end.

        Raises:
            LineFull: They do not all fit.
        """
        free = self._places - self.running if not self._waiting else 0
        if self.waiting + max(0, count - free) > self._most_waiting:
            raise LineFull(self._retry_seconds(count))
        tickets = [Ticket(self) for _ in range(count)]
        self._waiting.extend(tickets)
        self._advance()
        return tickets

    def take_back(self, ticket: Ticket) -> None:
        """What `Ticket.leave` does."""
        if ticket in self._running:
            self._running.remove(ticket)
            stay = time.monotonic() - ticket.since
            self._stay += WEIGHT * (stay - self._stay) if self._stay else stay
            self._advance()
        elif ticket in self._waiting:
            self._waiting.remove(ticket)
        ticket.turn.cancel()

    def _advance(self) -> None:
        while self._waiting and self.running < self._places:
            ticket = self._waiting.popleft()
            self._running.add(ticket)
            ticket.since = time.monotonic()
            ticket.turn.set_result(None)

    def _retry_seconds(self, count: int) -> int:
        """How long it takes, about, until so many more fit in the line."""
        seconds = self._stay * (self.waiting + count) / self._places
        return min(LONGEST_WAIT, max(1, math.ceil(seconds)))
