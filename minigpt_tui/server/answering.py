"""One answer to a client of OpenAI's, whole or as a stream of events: what completions and chats have in common. Knows
nothing of how either looks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Sequence
from typing import Generic, TypeVar

from fastapi import Request, Response
from msgspec import UNSET, Struct, UnsetType
from pydantic import BaseModel

from engine.config import SamplingParams
from engine.worker.protocol import Done, Started, Tokens, Written
from minigpt_tui.server.backend import Backend
from minigpt_tui.server.engine_keeper import Served
from minigpt_tui.server.events import EventAround, event, stream, while_wanted
from minigpt_tui.server.openai_answers import Usage, new_id, now
from minigpt_tui.server.openai_requests import OpenAIRequest
from minigpt_tui.server.texts import Job, Texts

DEFAULTS = SamplingParams(temperature=1.0)
"""OpenAI's own."""

Asks = TypeVar("Asks", bound=OpenAIRequest)
Piece = TypeVar("Piece")


class Answering(ABC, Generic[Asks, Piece]):
    """One answer as it grows.

    Args:
        prefix: What its id begins with.
    """

    def __init__(self, prefix: str, backend: Backend, model: Served, asked: Asks) -> None:
        self._backend = backend
        self._model = model
        self._asked = asked
        self._id, self._created = new_id(prefix), now()
        self._usage = Usage()
        self._around: dict[int, EventAround] = {}  # what each piece of a text is sent in

    async def answer(self, request: Request, jobs: Sequence[Job]) -> Response:
        """Have texts written, and answer with them.

        Raises:
            Fault: As `Texts` and `while_wanted` raise.
        """
        texts = self._backend.write(self._model, jobs)
        if self._asked.stream:
            return await stream(request, texts, self._stream(texts), self._backend.keeper.fault)
        try:
            whole = await while_wanted(request, self.whole(texts))
        finally:
            texts.close()
        return Response(whole.model_dump_json(), media_type="application/json")

    async def _stream(self, texts: Texts) -> AsyncGenerator[bytes, None]:
        """Its pieces as events, all at once that came at once."""
        usage = None if self._asked.tells_usage else UNSET
        async for events in texts:
            told: list[bytes] = []
            for index, what in events:
                if isinstance(what, Written):
                    told.append(self._written(index, what.text, usage))
                else:
                    told += [event(self.chunk([piece], usage)) for piece in await self.pieces(index, what)]
            if told:
                yield b"".join(told)
        if self._asked.tells_usage:
            yield event(self.chunk([], self._usage))

    def _written(self, index: int, text: str, usage: UnsetType | None) -> bytes:
        if index not in self._around:
            self._around[index] = EventAround(event(self.chunk([self.piece(index, "")], usage)), self.FIELD)
        return self._around[index].event(text)

    # What each kind says.

    FIELD: str
    """Where the text stands in a piece."""

    @abstractmethod
    async def whole(self, texts: Texts) -> BaseModel:
        """All of it at once."""

    @abstractmethod
    def piece(self, index: int, text: str) -> Piece:
        """What is told of more of a text, where nothing is told of its tokens."""

    @abstractmethod
    async def pieces(self, index: int, what: Started | Tokens | Written | Done) -> Sequence[Piece]:
        """What is told of something that happened to a text."""

    @abstractmethod
    def chunk(self, choices: list[Piece], usage: Usage | UnsetType | None) -> Struct:
        """What an event of its stream carries."""
