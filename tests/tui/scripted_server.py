"""A little HTTP server for tests: it answers as a test scripts it, byte by byte where that matters."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable

WORDS = ("The", " fox", " said", ":", " who", " goes", " there", "?")


def event(value: object) -> bytes:
    data = value if isinstance(value, str) else json.dumps(value)
    return f"data: {data}\n\n".encode()


def piece(text: str, finish_reason: str | None = None, **more: object) -> bytes:
    choice = {"index": 0, "text": text, "finish_reason": finish_reason, "logprobs": None} | more
    return event({"id": "cmpl-1", "object": "text_completion", "surprise": {"new": [1]}, "choices": [choice]})


def told(text: str, logprob: float = -0.5, other: str = " cat") -> dict[str, object]:
    """The logprobs of one token, as OpenAI's completions have them."""
    return {
        "tokens": [text], "token_logprobs": [logprob], "top_logprobs": [{text: logprob, other: -2.0}],
        "text_offset": [0],
    }  # fmt: skip


DONE = event("[DONE]")


class Reply:
    """An answer.

    Args:
        body: Its bytes, or parts of them that are sent one after another.
    """

    def __init__(self, body=b"", status: int = 200, kind: str = "application/json", whole: bool = True, **headers: str):
        self.parts = [body] if isinstance(body, bytes) else body
        self.status, self.kind, self.whole = status, kind, whole
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


def streamed(*parts: bytes, whole: bool = True) -> Reply:
    return Reply(list(parts), kind="text/event-stream; charset=utf-8", whole=whole)


class ScriptedServer:
    """Serves two models, and endless words unless `complete` is scripted.

    Attributes:
        requests: Each request's path, headers and JSON.
        complete: Makes the answer to a completion from its JSON.
        models: Makes the answer to a list of models.
        props: Makes the answer to what llama.cpp's server tells of itself.
        pause: Seconds between two words of the endless text.
        left: How many streams their client has left.
    """

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], dict]] = []
        self.complete: Callable[[dict], Reply] | None = None
        self.props: Callable[[], Reply] | None = None
        self.models: Callable[[], Reply] = lambda: Reply(
            json.dumps({"data": [{"id": "small"}, {"id": "big/one", "max_model_len": 4096}]}).encode()
        )
        self.pause, self.left = 0.005, 0
        self._tasks: set[asyncio.Task] = set()

    @property
    def bodies(self) -> list[dict]:
        """What completions were asked for."""
        return [body for path, _, body in self.requests if path == "/v1/completions"]

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        """Serve on a free port; gives the address."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.add(asyncio.current_task())
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            _, path, _ = head[0].split()
            headers = {name.lower(): value for line in head[1:] if line for name, value in [line.split(": ", 1)]}
            data = await reader.readexactly(int(headers.get("content-length", 0)))
            body = json.loads(data) if data else {}
            self.requests.append((path, headers, body))
            if path == "/v1/models":
                await self._answer(writer, self.models())
            elif path == "/props" and self.props is not None:
                await self._answer(writer, self.props())
            elif path == "/v1/completions" and self.complete is None:
                await self._write_on(writer, body)
            elif path == "/v1/completions":
                await self._answer(writer, self.complete(body))
            else:
                await self._answer(writer, Reply(b'{"detail": "Not Found"}', 404))
        except (ConnectionError, asyncio.IncompleteReadError):
            self.left += 1
        finally:
            writer.close()

    async def _answer(self, writer: asyncio.StreamWriter, reply: Reply) -> None:
        headers = {"Content-Type": reply.kind, "Connection": "close"} | reply.headers
        if not reply.whole:
            headers["Content-Length"] = "1000000"  # and the link breaks before that
        lines = [f"HTTP/1.1 {reply.status} Said", *(f"{name}: {value}" for name, value in headers.items())]
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        for part in reply.parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0)

    async def _write_on(self, writer: asyncio.StreamWriter, body: dict) -> None:
        await self._answer(writer, streamed())
        for place in range(body["max_tokens"]):
            word = WORDS[place % len(WORDS)]
            logprobs = {"logprobs": told(word)} if "logprobs" in body else {}
            last = place == body["max_tokens"] - 1
            writer.write(piece(word, "length" if last else None, **logprobs))
            await writer.drain()
            await asyncio.sleep(self.pause)
        writer.write(DONE)
        await writer.drain()
