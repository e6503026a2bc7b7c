"""Answers that come while they are being made: a work that ends when nobody waits for it any more, and a stream of
server-sent events. Knows nothing of what they say.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from typing import Any, Protocol, TypeVar

from fastapi import Request
from pydantic import BaseModel
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from engine.errors import MiniGPTError
from minigpt_tui.server.faults import Fault

T = TypeVar("T")

CLIENT_GONE = 499
"""The status that nginx has for it; nobody reads it but the log."""

HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
"""What stands between server and client must not hold a stream back."""


class Closing(Protocol):
    """What a stream is made from."""

    async def aclose(self) -> None:
        """End it."""


async def while_wanted(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Do `work` as long as the client is there.

    Raises:
        Fault: The client has gone; the work was cancelled.
    """
    tasks = asyncio.create_task(work), asyncio.create_task(_gone(request))
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if tasks[0].done():
            return tasks[0].result()
        raise Fault(CLIENT_GONE, "the client has gone")
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def stream(
    request: Request, source: Closing, chunks: AsyncGenerator[str, None], fault: Callable[[MiniGPTError], Fault]
) -> StreamingResponse:
    """Answer with chunks as events, and end with `[DONE]`.

    The first one is waited for: what goes wrong before it has a status of its own. What goes wrong later is an event
    with the error, and the last one.

    Args:
        request: What is answered.
        source: Closed when the stream ends, however it does.
        chunks: What each event holds.
        fault: Tells what a client is told of an error of the engine's.
    """
    try:
        first = await while_wanted(request, anext(chunks))
    except BaseException:
        await source.aclose()
        raise
    return _EventStream(source, _events(first, chunks, fault))


class _EventStream(StreamingResponse):
    """Closes what it streams from, also where the client leaves in the middle."""

    def __init__(self, source: Closing, events: AsyncIterator[str]) -> None:
        super().__init__(events, media_type="text/event-stream", headers=HEADERS)
        self._source = source

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._source.aclose()


async def _events(
    first: str, chunks: AsyncGenerator[str, None], fault: Callable[[MiniGPTError], Fault]
) -> AsyncGenerator[str, None]:
    try:
        yield event(first)
        async for chunk in chunks:
            yield event(chunk)
    except Fault as refused:
        yield event(refused.body)
        return
    except MiniGPTError as error:
        yield event(fault(error).body)
        return
    finally:
        await chunks.aclose()
    yield event("[DONE]")


def event(data: BaseModel | str) -> str:
    """One event."""
    return f"data: {data if isinstance(data, str) else data.model_dump_json()}\n\n"
