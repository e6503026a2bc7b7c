"""What can be asked of an engine, and how its answers reach those who wait: the half of the engine's client that knows
nothing of processes, nor of how a request is sent.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from typing import Literal, TypeVar

import msgspec

from engine.config import Device, Precision, SamplingParams
from engine.errors import MiniGPTError, WorkerError
from engine.worker.protocol import (
    Ask,
    Cancel,
    Generate,
    Inspect,
    Inspected,
    Load,
    Loaded,
    ParamsAt,
    Request,
    Score,
    Scored,
    Told,
)
from engine.worker.questions import AnyQuestion
from minigpt_tui.generation_stream import EventQueue, EventSink, GenerationStream
from minigpt_tui.waiting import Waiting

State = Literal["stopped", "starting", "importing", "ready", "dead"]

DIFFERENT_VERSIONS = "install the same version of minigpt-tui on both sides"

E = TypeVar("E", Loaded, Scored, Inspected, Told)
A = TypeVar("A")


class EngineRequests:
    """Questions and texts that were asked for, and who waits for them. Belongs to one event loop.

    Attributes:
        state: stopped, starting (the process), importing (torch), ready, or dead (it ended by itself; `start` starts
            another). From starting on, requests can be made; they wait until it is ready.
    """

    state: State

    def __init__(self) -> None:
        self.state = "stopped"
        self._ids = itertools.count(1)
        self._waiting = Waiting()

    def send(self, request: Request) -> None:
        """Send a request as it is; its answer goes to whoever waits under its id.

        Raises:
            InvalidSettingError: A number is out of range, or it is longer than a message may be.
            WorkerError: The engine is not running.
        """
        raise NotImplementedError

    async def load(self, model: str = "", device: Device = "auto", precision: Precision = "auto") -> Loaded:
        """Make a model ready.

        Raises:
            MiniGPTError: What the engine says is wrong; WorkerError when the process dies or does not run.
        """
        request = Load(id=next(self._ids), model=model, device=device, precision=precision)
        return await self._ask(request, Loaded)

    async def score(
        self,
        text: str,
        *,
        model: str = "",
        device: Device = "auto",
        precision: Precision = "auto",
        tokens: Sequence[int] | None = None,
        alternatives: int = 0,
    ) -> Scored:
        """How surprising a text is to a model; the arguments are those of `protocol.Score`. Raises as `load` does."""
        ids = None if tokens is None else tuple(tokens)
        request = Score(
            id=next(self._ids),
            text=text,
            model=model,
            device=device,
            precision=precision,
            tokens=ids,
            alternatives=alternatives,
        )
        return await self._ask(request, Scored)

    async def inspect(
        self,
        tokens: Sequence[int],
        position: int,
        *,
        model: str = "",
        device: Device = "auto",
        precision: Precision = "auto",
        params: SamplingParams | None = None,
        top: int = 0,
        attention: bool = False,
        lens: bool = False,
    ) -> Inspected:
        """Look inside a model at one place of a text; the arguments are those of `protocol.Inspect`.

        Raises:
            MiniGPTError: As `load` raises; InvalidSettingError and DataError where the place or the ids are wrong.
        """
        request = Inspect(
            id=next(self._ids),
            tokens=tuple(tokens),
            position=position,
            model=model,
            device=device,
            precision=precision,
            params=params or SamplingParams(),
            top=top,
            attention=attention,
            lens=lens,
        )
        return await self._ask(request, Inspected)

    async def ask(self, question: AnyQuestion, kind: type[A]) -> A:
        """Ask about the machine that the engine runs on; it is answered as soon as the engine has said hello.

        Args:
            question: What is asked.
            kind: The answer's kind, of `engine.worker.answers`.

        Raises:
            MiniGPTError: What the engine says is wrong; WorkerError when its process dies or does not run.
        """
        from engine.worker.answers import decode_answer  # the first screen asks nothing

        told = await self._ask(Ask(id=next(self._ids), question=question), Told)
        try:
            return decode_answer(told.answer, kind)
        except msgspec.DecodeError as error:
            raise WorkerError(f"an answer of the engine cannot be read ({error})", DIFFERENT_VERSIONS) from None

    def generate(
        self,
        prompt: str = "",
        *,
        prompt_tokens: Sequence[int] | None = None,
        model: str = "",
        device: Device = "auto",
        precision: Precision = "auto",
        params: SamplingParams | None = None,
        pace: float = 0.0,
        alternatives: int = 0,
        changes: Sequence[ParamsAt] = (),
        template: bool = False,
    ) -> GenerationStream:
        """Write on from a prompt; the arguments are those of `protocol.Generate`.

        The request is sent at once. Whatever is wrong with it is raised by the stream, not here.
        """
        request = Generate(
            id=self.new_id(),
            model=model,
            device=device,
            precision=precision,
            prompt=prompt,
            prompt_tokens=None if prompt_tokens is None else tuple(prompt_tokens),
            params=params or SamplingParams(),
            pace=pace,
            alternatives=alternatives,
            changes=tuple(changes),
            template=template,
        )
        events: EventQueue = asyncio.Queue()
        self.follow(request, events)
        return GenerationStream(self, request.id, events)

    def new_id(self) -> int:
        """The id of another request."""
        return next(self._ids)

    def follow(self, request: Generate, events: EventSink) -> None:
        """Have a text written whose events go where they are wanted; whatever is wrong with it goes there as well."""
        try:
            self.send(request)
            self._waiting.follow(request.id, events)
        except MiniGPTError as error:
            events.put_nowait(error)

    def follows(self, id: int) -> bool:
        """Whether a text is being written and somebody follows it."""
        return self._waiting.follows(id)

    def leave(self, id: int) -> None:
        """Stop listening to a generation, and end it."""
        if self._waiting.leave(id) and self.state not in ("stopped", "dead"):
            self.send(Cancel(id=id))

    async def _ask(self, request: Load | Score | Inspect | Ask, kind: type[E]) -> E:
        self.send(request)
        try:
            event = await self._waiting.answer(request.id)
        except asyncio.CancelledError:
            if isinstance(request, Ask) and self.state not in ("stopped", "dead"):
                self.send(Cancel(id=request.id))  # nobody waits for its answer: what it takes may end
            raise
        if not isinstance(event, kind):
            raise WorkerError(f"the engine answered with {type(event).__name__}", DIFFERENT_VERSIONS)
        return event
