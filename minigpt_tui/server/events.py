"""Answers that come while they are being made: a work that ends when nobody waits for it any more, and a stream of
server-sent events. Knows nothing of what they say.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any, Protocol, TypeVar

import msgspec
from fastapi import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from engine.errors import MiniGPTError
from minigpt_tui.server.faults import Fault

T = TypeVar("T")

CLIENT_GONE = 499
"""The status that nginx has for it; nobody reads it but the log."""

HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
"""What stands between server and client must not hold a stream back."""


DONE = b"data: [DONE]\n\n"
"""What a whole stream ends with."""


class Closing(Protocol):
    """What a stream is made from."""

    def close(self) -> None:
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
    request: Request, source: Closing, chunks: AsyncGenerator[bytes, None], fault: Callable[[MiniGPTError], Fault]
) -> StreamingResponse:
    """Answer with events, and end with `[DONE]`.

    The first ones are waited for: what goes wrong before them has a status of its own. What goes wrong later is an
    event with the error, and the last one.

    Args:
        request: What is answered.
        source: Closed when the stream ends, however it does.
        chunks: The events, one or several at a time.
        fault: Tells what a client is told of an error of the engine's.
    """
    try:
        first = await while_wanted(request, anext(chunks))
    except BaseException:
        source.close()
        raise
    return _EventStream(source, first, chunks, fault)


class _EventStream(StreamingResponse):
    """Closes what it streams from, also where the client leaves in the middle."""

    def __init__(
        self,
        source: Closing,
        first: bytes,
        chunks: AsyncGenerator[bytes, None],
        fault: Callable[[MiniGPTError], Fault],
    ) -> None:
        super().__init__(chunks, media_type="text/event-stream", headers=HEADERS)
        self._source = source
        self._first = first
        self._chunks = chunks
        self._fault = fault

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._source.close()

    async def stream_response(self, send: Send) -> None:
        """Send all events, and the last one."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        last = DONE
        try:
            await send({"type": "http.response.body", "body": self._first, "more_body": True})
            async for chunk in self._chunks:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        except Fault as refused:
            last = event(refused.body.model_dump())
        except MiniGPTError as error:
            last = event(self._fault(error).body.model_dump())
        finally:
            await self._chunks.aclose()
        await send({"type": "http.response.body", "body": last, "more_body": False})


def event(data: object) -> bytes:
    """One event."""
    return b"data: " + _encode(data) + b"\n\n"


_encode = msgspec.json.Encoder().encode
