"""What is asked of the engine while a text is looked into: one question at a time, of which the latest counts. Answers
are kept, so that going back costs nothing. Plain asyncio: it knows nothing of the screen, which hears by callbacks.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from engine.config import Device, Precision, SamplingParams
from engine.errors import MiniGPTError
from engine.worker.protocol import Inspected
from minigpt_tui.engine_client import EngineClient

PAUSE = 0.03
"""Seconds that a cursor stays at a place before the engine is asked: a key that is held down asks but once."""

KEPT = 256
"""So many answers are kept."""

KEPT_BYTES = 32 * 1024 * 1024
"""Of attention at most so much is kept."""


@dataclass(frozen=True)
class Question:
    """What one wants to know of a place.

    Attributes:
        tokens: The text's ids up to the place, and the one that stands there, if any.
        position: The place.
        deep: Whether to tell of heads and layers too.
        model: By its name; `id` tells it from another of that name.
    """

    tokens: tuple[int, ...]
    position: int
    params: SamplingParams
    deep: bool
    model: str
    id: str
    device: Device
    precision: Precision


class Looking:
    """Asks, and tells of each answer that is still wanted.

    Args:
        engine: Who is asked.
        on_answer: Called with the question and its answer.
        on_error: Called with the question and what went wrong.
    """

    def __init__(
        self,
        engine: EngineClient,
        on_answer: Callable[[Question, Inspected], None],
        on_error: Callable[[Question, MiniGPTError], None],
    ) -> None:
        self._engine, self._on_answer, self._on_error = engine, on_answer, on_error
        self._wanted: Question | None = None
        self._task: asyncio.Task[None] | None = None
        self._answers: OrderedDict[Question, Inspected] = OrderedDict()
        self._bytes = 0

    @property
    def wanted(self) -> Question | None:
        """The question that is not answered yet, or None."""
        return self._wanted

    def ask(self, question: Question) -> None:
        """Ask, in place of what was asked before; an answer that is kept is told at once."""
        self._wanted = question
        answer = self._known(question)
        if answer is not None:
            self._wanted = None
            self._on_answer(question, answer)
        elif self._task is None:
            self._task = asyncio.create_task(self._attend(), name="looking into a text")

    def leave(self) -> None:
        """Want nothing more; an answer that is on its way is kept and not told."""
        self._wanted = None

    def close(self) -> None:
        """Ask and tell nothing more."""
        self._wanted = None
        if self._task is not None:
            self._task.cancel()

    def forget(self) -> None:
        """Forget the answers."""
        self._answers.clear()
        self._bytes = 0

    async def _attend(self) -> None:
        try:
            while self._wanted is not None:
                await asyncio.sleep(PAUSE)
                if (question := self._wanted) is not None:
                    await self._put(question)
        finally:
            self._task = None

    async def _put(self, question: Question) -> None:
        try:
            answer = await self._engine.inspect(
                question.tokens,
                question.position,
                model=question.model,
                device=question.device,
                precision=question.precision,
                params=question.params,
                attention=question.deep,
                lens=question.deep,
            )
        except MiniGPTError as error:
            if self._wanted == question:
                self._wanted = None
                self._on_error(question, error)
            return
        self._keep(question, answer)
        if self._wanted == question:
            self._wanted = None
            self._on_answer(question, answer)

    def _known(self, question: Question) -> Inspected | None:
        for kept in (question, _deeper(question)):
            if kept in self._answers:
                self._answers.move_to_end(kept)
                return self._answers[kept]
        return None

    def _keep(self, question: Question, answer: Inspected) -> None:
        self._answers[question] = answer
        self._bytes += len(answer.attention)
        while len(self._answers) > KEPT or (self._bytes > KEPT_BYTES and len(self._answers) > 1):
            _, oldest = self._answers.popitem(last=False)
            self._bytes -= len(oldest.attention)


def _deeper(question: Question) -> Question:
    """The question whose answer holds this one's too."""
    return question if question.deep else Question(**{**vars(question), "deep": True})
