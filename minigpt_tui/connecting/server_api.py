"""OpenAI's API as a client sees it: the models, and completions as they stream. Whatever goes wrong is one error in
words. The key goes into one header, and is never told.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx
import msgspec

from engine.errors import InvalidSettingError, MiniGPTError, ModelNotFoundError, WorkerError
from minigpt_tui.connecting.event_stream import EventStream, EventTooLongError

TIMEOUT = httpx.Timeout(connect=10.0, read=180.0, write=60.0, pool=10.0)
"""A server may load a model before its first word."""

MAX_BODY_BYTES = 32 * 1024 * 1024
MAX_WORDS = 400
MAX_TOKEN = 100
MAX_WAIT_DIGITS = 6
MAX_PARAMETERS, MAX_CONTEXT = 2**53, 2**31
PROPS_SECONDS = 5.0
LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Model(msgspec.Struct, frozen=True):
    """A model that a server has, as far as it tells.

    Attributes:
        context: Tokens that it sees at most; 0 where that is not told.
        llama_cpp: Whether llama.cpp's server has it.
    """

    id: str
    parameters: int = 0
    context: int = 0
    llama_cpp: bool = False


class TopToken(msgspec.Struct):
    """A token that could have come, as chat completions have it."""

    token: str
    logprob: float
    id: Any = None


class ToldToken(msgspec.Struct):
    """A token with its logprob, as chat completions have it.

    Attributes:
        id: Its number in the vocabulary, which llama.cpp's server tells.
    """

    token: str
    logprob: float | None = None
    top_logprobs: list[TopToken] | None = None
    id: Any = None


class Logprobs(msgspec.Struct):
    """What is told of the tokens of a piece of text: four lists, or one."""

    tokens: list[str] | None = None
    token_logprobs: list[float | None] | None = None
    top_logprobs: list[dict[str, float] | None] | None = None
    text_offset: list[int] | None = None
    content: list[ToldToken] | None = None


class Choice(msgspec.Struct):
    """A piece of text."""

    text: str | None = None
    finish_reason: str | None = None
    logprobs: Logprobs | None = None


class Usage(msgspec.Struct):
    """How many tokens a completion has, so far or in all."""

    completion_tokens: int | None = None


class Piece(msgspec.Struct):
    """What an event or an answer says."""

    choices: list[Choice] | None = None
    error: Any = None
    usage: Usage | None = None


class ServerApi:
    """One server.

    Args:
        url: Its address, ending in /v1.
        key: The API key; empty for none.
    """

    def __init__(self, url: str, key: str = "") -> None:
        self.url, self._key = url, key
        self._root = url.removesuffix("/v1")
        host = urlsplit(url).hostname or ""
        self.name = urlsplit(url).netloc
        headers = {"User-Agent": "minigpt-tui"} | ({"Authorization": f"Bearer {key}"} if key else {})
        # No proxy stands between a program and its own machine.
        self._client = httpx.AsyncClient(headers=headers, timeout=TIMEOUT, trust_env=host not in LOOPBACK)

    async def close(self) -> None:
        """Let go of the connections."""
        await self._client.aclose()

    async def models(self) -> list[Model]:
        """The models that there are.

        Raises:
            MiniGPTError: The server is not there, or does not tell.
        """
        async with self._answer("GET", "/v1/models") as response:
            body = _decode(await _read(response, self.name), dict[str, Any], self.name)
        entries = body.get("data")
        if not isinstance(entries, list):
            raise self._other_api("its list of models is none")
        return [_model(entry) for entry in entries if isinstance(entry, dict) and isinstance(entry.get("id"), str)]

    async def beginning(self) -> str | None:
        """What has to be sent to begin a text of nothing, empty for nothing; None where it was not told.

        llama.cpp's server writes nothing from an empty prompt, and tells the token that its model's texts begin with.
        No other is to be asked.
        """
        try:
            async with asyncio.timeout(PROPS_SECONDS), self._answer("GET", "/props") as response:
                props = _decode(await _read(response, self.name), dict[str, Any], self.name)
        except (MiniGPTError, TimeoutError):
            return None  # if it is gone, what is asked next will say so
        token = props.get("bos_token")
        return token if isinstance(token, str) and len(token) <= MAX_TOKEN else ""

    async def complete(self, body: dict[str, Any]) -> Piece:
        """A completion as a whole. Raises as `stream` does."""
        async with self._answer("POST", "/v1/completions", body) as response:
            piece: Piece = _decode(await _read(response, self.name), Piece, self.name)
        return self._sound(piece)

    async def stream(self, body: dict[str, Any]) -> AsyncGenerator[Piece, None]:
        """The pieces of a completion as they come; it ends when the server says that it is whole.

        Raises:
            MiniGPTError: The server refuses, fails, breaks off, or says what is no completion.
        """
        async with self._answer("POST", "/v1/completions", {**body, "stream": True}) as response:
            if "text/event-stream" not in response.headers.get("content-type", ""):
                yield self._sound(_decode(await _read(response, self.name), Piece, self.name))  # it does not stream
                return
            events, whole = EventStream(), False
            async for event in self._events(response, events):
                if event.strip() == b"[DONE]":
                    return
                piece = self._sound(_decode(event, Piece, self.name))
                whole |= any(choice.finish_reason is not None for choice in piece.choices or ())
                yield piece
        if not whole:
            raise WorkerError(f"{self.name} broke off in the middle of the text", "see what the server says")

    async def _events(self, response: httpx.Response, events: EventStream) -> AsyncIterator[bytes]:
        try:
            async for data in response.aiter_bytes():
                for event in events.push(data):
                    yield event
        except EventTooLongError:
            raise self._other_api("it sends an event without an end") from None
        for event in events.close():
            yield event

    @asynccontextmanager
    async def _answer(
        self, method: str, path: str, body: dict[str, Any] | None = None
    ) -> AsyncIterator[httpx.Response]:
        """The answer to a request, if it is none of an error; what goes wrong while it is read too."""
        try:
            content = None if body is None else msgspec.json.encode(body)
            headers = {} if body is None else {"Content-Type": "application/json"}
            async with self._client.stream(method, self._root + path, content=content, headers=headers) as response:
                if response.status_code >= 300:
                    raise await self._refusal(response, path)
                yield response
        except UnicodeEncodeError:
            raise InvalidSettingError("the text has half characters (lone surrogates)", "remove them") from None
        except httpx.HTTPError as error:
            raise self._failure(error) from None

    def _failure(self, error: httpx.HTTPError) -> MiniGPTError:
        """Why there is no answer, or no whole one."""
        said = self._plain(str(error)) or type(error).__name__
        if isinstance(error, httpx.ConnectTimeout):
            return WorkerError(f"{self.name} does not answer", "is the address right, and the machine up?")
        if isinstance(error, httpx.ConnectError):
            if "CERTIFICATE" in said or "SSL" in said:
                return WorkerError(f"{self.name} cannot be trusted ({said})", "see its certificate, or use http://")
            return WorkerError(f"nothing answers at {self.url} ({said})", "start the server, or see the address")
        if isinstance(error, httpx.TimeoutException):
            return WorkerError(f"{self.name} said nothing for {TIMEOUT.read:.0f} seconds", "try again")
        if isinstance(error, httpx.ReadError | httpx.RemoteProtocolError):
            return WorkerError(f"the link to {self.name} broke ({said})", "try again")
        return WorkerError(f"{self.name} cannot be asked ({said})", "see the address")

    async def _refusal(self, response: httpx.Response, path: str) -> MiniGPTError:
        """The error that a status stands for, with what the server says."""
        status, after = response.status_code, response.headers.get("retry-after", "")
        said = self._plain(_said(await _read(response, self.name)))
        words = f" ({said})" if said else ""
        again = f"try again in {after} s" if after.isdecimal() and len(after) <= MAX_WAIT_DIGITS else ""
        match status:
            case 401 | 403:
                hint = "give another key with MINIGPT_API_KEY" if self._key else "give its key with MINIGPT_API_KEY"
                return WorkerError(f"{self.name} wants {'another' if self._key else 'an'} API key{words}", hint)
            case 404 if "model" in said.lower():
                return ModelNotFoundError(f"{self.name} does not have that model{words}", "choose one of its models")
            case 404 | 405:
                return WorkerError(f"{self.name} has no {path[1:]}{words}", "see the address")
            case 429:
                return WorkerError(f"{self.name} has too much to do{words}", again or "try again later")
            case 503 if "loading" in said.lower():
                return WorkerError(f"{self.name} is not ready{words}", "try again in a moment")
            case _ if status >= 500:
                return WorkerError(
                    f"{self.name} failed with status {status}{words}", again or "see what the server says"
                )
            case _ if status >= 400:
                return InvalidSettingError(f"{self.name} refuses the request with status {status}{words}", "")
        to = self._plain(response.headers.get("location", ""))
        return WorkerError(f"{self.name} sends on to {to or 'elsewhere'}", "give that address")

    def _sound(self, piece: Piece) -> Piece:
        if piece.error is not None:
            said = self._plain(_said(msgspec.json.encode({"error": piece.error})))
            raise WorkerError(f"{self.name} failed in the middle ({said or 'it does not say why'})", "try again")
        return piece

    def _other_api(self, why: str) -> WorkerError:
        return WorkerError(f"{self.name} does not speak OpenAI's API ({why})", "see the address")

    def _plain(self, words: str) -> str:
        """Words of others on one line, without the key."""
        words = " ".join(words.split())
        words = words.replace(self._key, "…") if self._key else words
        return words if len(words) <= MAX_WORDS else words[: MAX_WORDS - 1] + "…"


async def _read(response: httpx.Response, name: str) -> bytes:
    body = bytearray()
    async for data in response.aiter_bytes():
        body += data
        if len(body) > MAX_BODY_BYTES:
            raise WorkerError(f"the answer of {name} has no end", "see the address")
    return bytes(body)


def _decode(data: bytes, kind: Any, name: str) -> Any:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        reason = "its answer is no JSON" if not isinstance(error, msgspec.ValidationError) else str(error)
        raise WorkerError(f"{name} does not speak OpenAI's API ({reason})", "see the address") from None


def _said(body: bytes) -> str:
    """The words in the body of an error, wherever they stand."""
    try:
        told = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        text = body.decode(errors="replace").strip()
        return "" if text.startswith("<") else text
    for name in ("error", "message", "detail"):
        if isinstance(told, dict) and name in told:
            told = told[name]
    return told if isinstance(told, str) else "" if told is None else msgspec.json.encode(told).decode()


def _model(entry: dict[str, Any]) -> Model:
    """A model, with what vLLM and llama.cpp's server tell of it."""
    meta = entry.get("meta")
    meta = meta if isinstance(meta, dict) else {}
    return Model(
        id=entry["id"],
        parameters=_count(MAX_PARAMETERS, entry.get("parameters"), meta.get("n_params")),
        context=_count(
            MAX_CONTEXT,
            entry.get("max_model_len"),
            entry.get("context_length"),
            meta.get("n_ctx"),
            meta.get("n_ctx_train"),
        ),
        llama_cpp=entry.get("owned_by") == "llamacpp",
    )


def _count(most: int, *values: object) -> int:
    """The first that is a number that can be."""
    return next((value for value in values if type(value) is int and 0 < value < most), 0)
