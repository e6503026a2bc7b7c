"""The texts of one request, written by the engine as their turns come, their events in the order in which they happen.
Knows nothing of HTTP, nor of the shape of an answer.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple

from engine.config import SamplingParams
from engine.errors import MiniGPTError
from engine.inference.stream import Token
from engine.worker.protocol import Done, ParamsChanged, Started, Tokens
from minigpt_tui.generation_stream import GenerationStream
from minigpt_tui.server.engine_keeper import EngineKeeper, Served
from minigpt_tui.server.faults import Fault
from minigpt_tui.server.limits import Limits
from minigpt_tui.server.line import Line, LineFull, Ticket
from minigpt_tui.server.meters import Meters

SEEDS = 2**63
"""A seed is below this."""


class Job(NamedTuple):
    """One text to write.

    Attributes:
        prompt: A text, or its ids.
        params: How to draw.
        alternatives: How many of the likeliest tokens each token is told with.
        template: Whether the prompt was rendered from a chat template.
        only_read: Whether the prompt alone is of interest: it is read, and nothing is written.
    """

    prompt: str | Sequence[int]
    params: SamplingParams
    alternatives: int = 0
    template: bool = False
    only_read: bool = False


class Event(NamedTuple):
    """What happened to one text of a request, by its place in it."""

    place: int
    what: Started | Tokens | Done


class Text:
    """A text as far as it has come.

    Attributes:
        started: How it began.
        tokens: Its tokens.
        done: How it ended; the text is whole then.
    """

    def __init__(self) -> None:
        self.tokens: list[Token] = []
        self.started: Started
        self.done: Done

    def add(self, event: Started | Tokens | Done) -> None:
        """Take in what happened."""
        match event:
            case Started():
                self.started = event
            case Tokens():
                self.tokens += event.tokens
            case Done():
                self.done = event

    @property
    def text(self) -> str:
        """The new text."""
        return "".join(token.text for token in self.tokens) + self.done.text


class Texts:
    """The texts of one request: an async iterator of their events, which ends with the last of them.

    They line up as they are made. Whoever makes them closes them, which ends what is still being written at its next
    token, and gives up the places.

    Raises:
        Fault: 429 where the line is full, 503 where there is no engine; and, while iterating, whatever goes wrong with
            a text.
    """

    def __init__(
        self, keeper: EngineKeeper, line: Line, limits: Limits, meters: Meters, model: Served, jobs: Sequence[Job]
    ) -> None:
        keeper.check()
        tickets = line_up(line, limits, len(jobs))
        self._keeper = keeper
        self._limits = limits
        self._meters = meters
        self._model = model
        self._left = len(jobs)
        self._events: asyncio.Queue[Event | Exception] = asyncio.Queue()
        self._tickets = tickets
        self._tasks = [
            asyncio.create_task(self._write(index, job, ticket))
            for index, (job, ticket) in enumerate(zip(jobs, tickets, strict=True))
        ]

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        if not self._left:
            raise StopAsyncIteration
        event = await self._events.get()
        if isinstance(event, Exception):
            raise event
        if isinstance(event.what, Done):
            self._left -= 1
        return event

    async def collect(self) -> list[Text]:
        """Wait for all of them."""
        texts = [Text() for _ in self._tasks]
        async for index, event in self:
            texts[index].add(event)
        return texts

    async def aclose(self) -> None:
        """Leave what is not finished. May be called again."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for ticket in self._tickets:
            ticket.leave()

    async def _write(self, index: int, job: Job, ticket: Ticket) -> None:
        try:
            await ticket.wait()
            async with self._generate(job) as stream:
                async for event in stream:
                    if isinstance(event, ParamsChanged):
                        continue
                    self._events.put_nowait(Event(index, event))
                    if isinstance(event, Started):
                        self._check(event)
                        if job.only_read:
                            self._events.put_nowait(Event(index, _nothing(event)))
                            return
                    elif isinstance(event, Done):
                        self._meters.ended(self._model.id, event)
        except asyncio.CancelledError:
            self._meters.left(self._model.id)
            raise
        except MiniGPTError as error:
            self._events.put_nowait(self._keeper.fault(error, "prompt"))
        except Exception as error:
            self._events.put_nowait(error)
        finally:
            ticket.leave()

    def _generate(self, job: Job) -> GenerationStream:
        prompt, ids = (job.prompt, None) if isinstance(job.prompt, str) else ("", job.prompt)
        return self._keeper.client.generate(
            prompt,
            prompt_tokens=ids,
            model=self._model.source,
            device=self._keeper.device,
            precision=self._keeper.precision,
            params=job.params,
            alternatives=job.alternatives,
            template=job.template,
        )

    def _check(self, started: Started) -> None:
        count, most = len(started.prompt_tokens), self._limits.prompt_tokens
        if count > most:
            raise Fault(
                422,
                f"the prompt has {count:,} tokens, and at most {most:,} are taken: shorten it",
                param="prompt",
                code="context_length_exceeded",
            )


def line_up(line: Line, limits: Limits, count: int) -> Sequence[Ticket]:
    """Line up for so many places; each has to be left in the end.

    Raises:
        Fault: 429, the line is full.
    """
    try:
        return line.admit(count)
    except LineFull as error:
        raise Fault(
            429,
            f"{line.waiting} wait already, and at most {limits.waiting} may: {error}",
            code="rate_limit_exceeded",
            headers={"Retry-After": str(error.seconds)},
        ) from None


def seeds(seed: int | None, count: int) -> list[int]:
    """The seeds of so many samples: one after the other, from a seed that nobody chose where none is given."""
    first = secrets.randbelow(2**31) if seed is None else seed
    return [(first + k) % SEEDS for k in range(count)]


def _nothing(started: Started) -> Done:
    """The end of a text that was not to be written."""
    return Done(
        id=started.id,
        finish_reason="length",
        text="",
        prompt_tokens=len(started.prompt_tokens),
        new_tokens=0,
        seed=started.seed,
        tokens_per_second=0.0,
        time_to_first_token=0.0,
    )
