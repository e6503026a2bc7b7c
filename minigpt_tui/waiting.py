"""Who waits for which answer of the engine: each event goes to whoever asked under its id. Knows nothing of processes,
nor of how a request is sent.
"""

from __future__ import annotations

import asyncio

from engine.errors import MiniGPTError
from engine.worker.protocol import Done, Event, Inspected, Loaded, Scored, Told
from minigpt_tui.generation_stream import AnyTextEvent, EventSink

Answer = Loaded | Scored | Inspected | Told


class Waiting:
    """Questions that wait for their one answer, and texts that are followed. Belongs to one event loop."""

    def __init__(self) -> None:
        self._answers: dict[int, asyncio.Future[Event]] = {}
        self._streams: dict[int, EventSink] = {}

    async def answer(self, id: int) -> Event:
        """Wait for the answer to question `id`.

        Raises:
            MiniGPTError: What it failed with.
        """
        answer: asyncio.Future[Event] = asyncio.get_running_loop().create_future()
        self._answers[id] = answer
        try:
            return await answer
        finally:
            self._answers.pop(id, None)

    def follow(self, id: int, events: EventSink) -> None:
        """Bring a text's events there from now on."""
        self._streams[id] = events

    def follows(self, id: int) -> bool:
        """Whether a text is being written and somebody follows it."""
        return id in self._streams

    def leave(self, id: int) -> bool:
        """Bring no more events of a text; returns whether it was followed."""
        return self._streams.pop(id, None) is not None

    def deliver(self, event: Event) -> None:
        """Bring an event to whoever waits for it, if anybody does."""
        if isinstance(event, AnyTextEvent):
            # A text that nobody follows any more is told nothing: it was cancelled, and ends.
            if events := self._streams.get(event.id):
                events.put_nowait(event)
            if isinstance(event, Done):
                self._streams.pop(event.id, None)
        elif isinstance(event, Answer) and (answer := self._answers.get(event.id)) and not answer.done():
            answer.set_result(event)

    def fail(self, id: int, error: MiniGPTError) -> None:
        """Let a question or a text end with an error."""
        if (answer := self._answers.get(id)) and not answer.done():
            answer.set_exception(error)
        if events := self._streams.pop(id, None):
            events.put_nowait(error)

    def fail_all(self, cause: MiniGPTError) -> None:
        """Let everyone's end with an error of their own."""
        for id in [*self._answers, *self._streams]:
            self.fail(id, type(cause)(cause.message, cause.hint))
