"""One text as its events arrive: an async iterator that can change, end or leave the text. Knows nothing of how
requests reach the engine.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Protocol, cast

from engine.config import SamplingParams
from engine.errors import MiniGPTError
from engine.worker.protocol import Cancel, Done, ParamsChanged, Request, SetParams, Started, Tokens, Written

TextEvent = Started | Tokens | ParamsChanged | Done
AnyTextEvent = Written | TextEvent
"""`Written` comes to those alone who ask for a text to be told plainly."""

EventQueue = asyncio.Queue[AnyTextEvent | MiniGPTError | None]
"""A text's events as they come; an error is its last, and None wakes a reader whose stream was closed."""


class EventSink(Protocol):
    """Where a text's events go: such a queue, or what does something with each at once."""

    def put_nowait(self, event: AnyTextEvent | MiniGPTError, /) -> None:
        """Take the next one; an error is the last."""


class Client(Protocol):
    """What a stream needs of the engine's client."""

    def follows(self, id: int) -> bool:
        """Whether a text is being written and its events are delivered."""

    def send(self, request: Request) -> None:
        """Send a request about it."""

    def leave(self, id: int) -> None:
        """Deliver no more of its events, and end it."""


class GenerationStream:
    """The events of one text in order, as an async iterator: `Started`, `Tokens` and `ParamsChanged`, then `Done`.

    Iterating raises MiniGPTError when the engine refuses or fails, and WorkerError when its process dies; what came
    before stays valid. Leaving early ends the text in the engine: by `aclose`, by leaving its `async with`, by
    cancelling the task that waits for the next event, or by dropping the stream.
    """

    def __init__(self, client: Client, id: int, events: EventQueue) -> None:
        self.id = id
        self._client = client
        self._events = events
        self._ended = False
        self._loop = asyncio.get_running_loop()

    def set_params(self, params: SamplingParams | None = None, pace: float | None = None) -> None:
        """Go on with other settings from the next token on; nothing happens once the text has ended.

        Raises:
            InvalidSettingError: The pace is out of range; the text goes on as before.
        """
        if self._client.follows(self.id) and (params is not None or pace is not None):
            self._client.send(SetParams(id=self.id, params=params, pace=pace))

    def cancel(self) -> None:
        """End the text at its next token; its last events and `Done` still come."""
        if self._client.follows(self.id):
            self._client.send(Cancel(id=self.id))

    async def aclose(self) -> None:
        """Leave the text; iterating stops."""
        self._ended = True
        self._client.leave(self.id)
        self._events.put_nowait(None)  # for one who waits in another task

    async def __aenter__(self) -> GenerationStream:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __aiter__(self) -> AsyncIterator[TextEvent]:
        return self

    async def __anext__(self) -> TextEvent:
        if self._ended:
            raise StopAsyncIteration
        try:
            event = await self._events.get()
        except asyncio.CancelledError:
            await self.aclose()
            raise
        if event is None or isinstance(event, Done | MiniGPTError):
            self._ended = True
        if event is None:
            raise StopAsyncIteration
        if isinstance(event, MiniGPTError):
            raise event
        return cast(TextEvent, event)  # a stream asks for tokens

    def __del__(self) -> None:
        # The collector may run in any thread, and after the loop has closed.
        if self._client.follows(self.id):
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._client.leave, self.id)
