"""What every endpoint works with: the engine, the line before it, the limits and the figures."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, cast

from fastapi import Depends, Request

from engine.split_loss import SplitLoss
from minigpt_tui.server.engine_keeper import EngineKeeper, Served
from minigpt_tui.server.faults import Fault
from minigpt_tui.server.limits import Limits
from minigpt_tui.server.line import Line
from minigpt_tui.server.meters import Meters
from minigpt_tui.server.texts import Job, Texts, line_up

RENDERING_AT_ONCE = 2
"""Chat templates that are rendered at the same time, each in a process of its own."""


class Backend:
    """What every endpoint works with.

    Attributes:
        line: Before the engine.
        scoring: The line of texts to score, which the engine reads one at a time.
        measuring: The line of splits to measure, one at a time.
        measured: What came of it, by model, split and the date of the weights.
        rendering: The line of conversations to write down by a chat template.
    """

    def __init__(self, keeper: EngineKeeper, limits: Limits) -> None:
        self.keeper = keeper
        self.limits = limits
        self.line = Line(limits.running, limits.waiting)
        self.scoring = Line(1, limits.waiting)
        self.measuring = Line(1, limits.waiting)
        self.measured: dict[tuple[str, str, int], SplitLoss] = {}
        self.rendering = Line(RENDERING_AT_ONCE, limits.waiting)
        self.meters = Meters()
        self.meters.follow(
            running=lambda: self.line.running,
            waiting=lambda: self.line.waiting,
            ready=lambda: keeper.state == "ready",
            deaths=lambda: keeper.deaths,
            engine_pid=lambda: keeper.client.hello.pid if keeper.client.hello and keeper.is_up else None,
        )

    def model(self, id: str | None) -> Served:
        """The model that a request names; the first one where it names none.

        Raises:
            Fault: There is none of that name.
        """
        models = self.keeper.models
        if id is None:
            return next(iter(models.values()))
        if id not in models:
            raise Fault(
                404,
                f"the model {id!r} is not served; there is: {', '.join(models)}",
                param="model",
                code="model_not_found",
            )
        return models[id]

    def length(self, asked: int | None, otherwise: int, param: str) -> int:
        """How many tokens to write.

        Raises:
            Fault: More than the server allows.
        """
        most = self.limits.new_tokens
        if asked is None:
            return min(otherwise, most)
        if asked > most:
            raise Fault(422, f"{param} is {asked}, and at most {most:,} is allowed", param=param, code="invalid_value")
        return asked

    def check_batch(self, count: int, param: str) -> None:
        """Raise a Fault where a request has more texts than are allowed."""
        most = self.limits.batch
        if count > most:
            raise Fault(
                422,
                f"the request asks for {count:,} texts, and at most {most:,} are allowed",
                param=param,
                code="invalid_value",
            )

    def write(self, model: Served, jobs: Sequence[Job]) -> Texts:
        """Have texts written; raises as `Texts` does."""
        return Texts(self.keeper, self.line, self.limits, self.meters, model, jobs)

    @asynccontextmanager
    async def turn(self, line: Line) -> AsyncIterator[None]:
        """Hold a place of one of the lines.

        Raises:
            Fault: 429, the line is full.
        """
        (ticket,) = line_up(line, self.limits, 1)
        try:
            await ticket.wait()
            yield
        finally:
            ticket.leave()


async def _backend(request: Request) -> Backend:  # a plain function would be called in a thread of its own
    return cast(Backend, request.app.state.backend)


UsedBackend = Annotated[Backend, Depends(_backend)]
