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
from engine.worker.protocol import Done, Generate, Started, Tokens, Written
from minigpt_tui.generation_stream import AnyTextEvent
from minigpt_tui.server.engine_keeper import EngineKeeper, Served
from minigpt_tui.server.faults import Fault
from minigpt_tui.server.limits import Limits
from minigpt_tui.server.line import Line, LineFull, Ticket
from minigpt_tui.server.meters import Meters

SEEDS = 2**63
"""A seed is below this."""

MOST_AT_ONCE = 64
"""Events that are brought at once: where a client is slow, no more of them are made into an answer ahead of it."""


class Job(NamedTuple):
    """One text to write.

    Attributes:
        prompt: A text, or its ids.
        params: How to draw.
        alternatives: How many of the likeliest tokens each token is told with; None where no token is told of, but
            the text alone.
        template: Whether the prompt was rendered from a chat template.
        only_read: Whether the prompt alone is of interest: it is read, and nothing is written.
    """

    prompt: str | Sequence[int]
    params: SamplingParams
    alternatives: int | None = None
    template: bool = False
    only_read: bool = False


class Event(NamedTuple):
    """What happened to one text of a request, by its place in it."""

    place: int
    what: Started | Tokens | Written | Done


class Text:
    """A text as far as it has come.

    Attributes:
        started: How it began.
        tokens: Its tokens, where they are told of.
        done: How it ended; the text is whole then.
    """

    def __init__(self) -> None:
        self.tokens: list[Token] = []
        self._pieces: list[str] = []
        self.started: Started
        self.done: Done

    def add(self, event: Started | Tokens | Written | Done) -> None:
        """Take in what happened."""
        match event:
            case Written():
                self._pieces.append(event.text)
            case Started():
                self.started = event
            case Tokens():
                self.tokens += event.tokens
                self._pieces += [token.text for token in event.tokens]
            case Done():
                self.done = event

    @property
    def text(self) -> str:
        """The new text."""
        return "".join(self._pieces) + self.done.text


class Texts:
    """The texts of one request: an async iterator of their events, which ends with the last of them. It brings all at
    once that has come since it was last asked.

    They line up as they are made. Whoever makes them closes them, which ends what is still being written at its next
    token, and gives up the places.

    Attributes:
        keeper: Has the engine that writes them.
        limits: What they may not go beyond.
        meters: Counts them.
        model: Writes them.

    Raises:
        Fault: 429 where the line is full, 503 where there is no engine; and, while iterating, whatever goes wrong with
            a text.
    """

    def __init__(
        self, keeper: EngineKeeper, line: Line, limits: Limits, meters: Meters, model: Served, jobs: Sequence[Job]
    ) -> None:
        keeper.check()
        tickets = line_up(line, limits, len(jobs))
        self.keeper = keeper
        self.limits = limits
        self.meters = meters
        self.model = model
        self._events: list[Event] = []
        self._error: Exception | None = None
        self._news: asyncio.Future[None] | None = None
        self._left = len(jobs)
        self._writing = [
            _Writing(self, place, job, ticket) for place, (job, ticket) in enumerate(zip(jobs, tickets, strict=True))
        ]

    def __aiter__(self) -> AsyncIterator[list[Event]]:
        return self

    async def __anext__(self) -> list[Event]:
        while not self._events:
            if isinstance(self._error, MiniGPTError):
                raise self.keeper.fault(self._error, "prompt")
            if self._error:
                raise self._error
            if not self._left:
                raise StopAsyncIteration
            self._news = asyncio.get_running_loop().create_future()
            await self._news
        events = self._events
        self._events = events[MOST_AT_ONCE:]
        return events[:MOST_AT_ONCE] if self._events else events

    async def collect(self) -> list[Text]:
        """Wait for all of them."""
        texts = [Text() for _ in range(self._left)]
        async for events in self:
            for place, what in events:
                texts[place].add(what)
        return texts

    def close(self) -> None:
        """Leave what is not finished; whoever iterates is told of nothing more. May be called again."""
        self._left, self._events, self._error = 0, [], None
        self._wake()
        for writing in self._writing:
            writing.leave()
        self._writing.clear()  # each knows this one, so that only the collector would find them

    # What each text says.

    def add(self, event: Event) -> None:
        """Bring an event."""
        if self._error is None:
            self._events.append(event)
            if isinstance(event.what, Done):
                self._left -= 1
            self._wake()

    def fail(self, error: Exception) -> None:
        """Go no further."""
        if self._error is None:
            self._error = error
            asyncio.get_running_loop().call_soon(self._name_fault)  # once it is known whether the engine lives
            self._wake()

    def _name_fault(self) -> None:
        if isinstance(self._error, MiniGPTError):
            self._error = self.keeper.fault(self._error, "prompt")

    def _wake(self) -> None:
        if self._news and not self._news.done():
            self._news.set_result(None)


class _Writing:
    """One of the texts, from its place in the line to its end: what the engine says of it comes here."""

    def __init__(self, texts: Texts, place: int, job: Job, ticket: Ticket) -> None:
        self._texts = texts
        self._place = place
        self._job = job
        self._ticket = ticket
        self._id: int | None = None
        self._ended = False
        ticket.turn.add_done_callback(self._begin)

    def leave(self) -> None:
        """End it, unless it has ended."""
        if not self._ended:
            self._texts.meters.left(self._texts.model.id)
            self._end()

    def put_nowait(self, event: AnyTextEvent | MiniGPTError) -> None:
        """Take what has happened."""
        try:
            self._take(event)
        except Exception as error:  # it is this request's alone
            self._fail(error)

    def _begin(self, turn: asyncio.Future[None]) -> None:
        if self._ended or turn.cancelled():
            return
        try:
            self._ask()
        except Exception as error:
            self._fail(error)

    def _ask(self) -> None:
        job, keeper = self._job, self._texts.keeper
        prompt, ids = (job.prompt, None) if isinstance(job.prompt, str) else ("", tuple(job.prompt))
        request = Generate(
            id=keeper.client.new_id(),
            prompt=prompt,
            prompt_tokens=ids,
            model=self._texts.model.source,
            device=keeper.device,
            precision=keeper.precision,
            params=job.params,
            alternatives=job.alternatives or 0,
            template=job.template,
            plain=job.alternatives is None,
        )
        self._id = request.id
        keeper.client.follow(request, self)

    def _take(self, event: AnyTextEvent | MiniGPTError) -> None:
        match event:
            case Written() | Tokens():
                self._texts.add(Event(self._place, event))
            case Started():
                self._check(event)
                self._texts.add(Event(self._place, event))
                if self._job.only_read:
                    self._end()
                    self._texts.add(Event(self._place, _nothing(event)))
            case Done():
                self._texts.meters.ended(self._texts.model.id, event)
                self._id = None
                self._end()
                self._texts.add(Event(self._place, event))
            case MiniGPTError():
                raise event

    def _fail(self, error: Exception) -> None:
        self._end()
        self._texts.fail(error)

    def _end(self) -> None:
        self._ended = True
        if self._id is not None:
            self._texts.keeper.client.leave(self._id)
        self._ticket.leave()

    def _check(self, started: Started) -> None:
        count, most = len(started.prompt_tokens), self._texts.limits.prompt_tokens
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
