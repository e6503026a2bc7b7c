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
        """End it, and with it what is made from it."""


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
    gone = asyncio.create_task(_gone(request))
    gone.add_done_callback(lambda _: source.close())
    try:
        first = await anext(chunks)
    except StopAsyncIteration:
        raise Fault(CLIENT_GONE, "the client has gone") from None
    except BaseException:
        gone.cancel()
        raise
    return _EventStream(gone, first, chunks, fault)


class _EventStream(StreamingResponse):
    """Ends with what it streams, which is closed where the client leaves in the middle. Starlette's own would watch for
    that anew, with a group of tasks for each request.

    Args:
        gone: Waits for the client to leave; what is streamed ends with it.
    """

    def __init__(
        self,
        gone: asyncio.Task[None],
        first: bytes,
        chunks: AsyncGenerator[bytes, None],
        fault: Callable[[MiniGPTError], Fault],
    ) -> None:
        super().__init__(chunks, media_type="text/event-stream", headers=HEADERS)
        self._gone = gone
        self._first = first
        self._chunks = chunks
        self._fault = fault

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        try:
            await self.stream_response(send)
        finally:
            self._gone.cancel()

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


class EventAround:
    """Events that differ in one text alone, made of one whose text is empty: what stands around it is written once.

    Args:
        event: That one.
        field: The name of the text.
    """

    def __init__(self, event: bytes, field: str) -> None:
        # Within a string a quote has a backslash before it, so what is found is the field.
        self._before, quotes, self._after = event.partition(f'"{field}":""'.encode())
        self._before += quotes.removesuffix(b'""')

    def event(self, text: str) -> bytes:
        """The one with this text."""
        return self._before + _encode(text) + self._after


def event(data: object) -> bytes:
    """One event."""
    return b"data: " + _encode(data) + b"\n\n"


_encode = msgspec.json.Encoder().encode
