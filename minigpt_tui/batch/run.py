"""A batch that is being written: so many texts at once, the others wait for their turn. Plain asyncio: it knows nothing
of the screen, which looks at the results when it likes.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Sequence

from engine.config import Device, Precision
from engine.errors import MiniGPTError, WorkerError
from engine.worker.protocol import Done, ModelInfo, Started, Tokens
from minigpt_tui.batch.results import Result
from minigpt_tui.engine_client import EngineClient, GenerationStream

AT_ONCE = 64
"""Texts that the engine is asked for at once; so many share its passes."""


class BatchRun:
    """Has all prompts written on from.

    Args:
        engine: Where text comes from; it is started when it does not run.
        results: One for each prompt.
        on_end: Called with each result that has begun and has ended.

    Attributes:
        model: The name by which its model was asked for.
        info: What is known of the model, once it is loaded.
        running: Whether it goes on.
        stopping: Whether it was told to end.
        ended: So many texts have ended, or failed.
        tokens: So many tokens were written.
    """

    def __init__(self, engine: EngineClient, results: Sequence[Result], on_end: Callable[[Result], None]) -> None:
        self.results = list(results)
        self.model = ""
        self.info: ModelInfo | None = None
        self.running, self.ended, self.tokens = True, 0, 0
        self._engine, self._on_end = engine, on_end
        self._waiting = deque(self.results)
        self._streams: set[GenerationStream] = set()
        self.stopping = False
        self._first = self._last = 0.0

    @property
    def tokens_per_second(self) -> float:
        """Of all texts, since the first token; 0 while unknown."""
        seconds = self._last - self._first
        return self.tokens / seconds if seconds > 0 else 0.0

    async def write(self, model: str, device: Device, precision: Precision) -> None:
        """Write all of them; returns when all have ended, or it was stopped.

        Args:
            model: Its name; empty for the default.
            device: Where to compute.
            precision: How to compute.

        Raises:
            MiniGPTError: The model cannot be loaded, or the engine died; what is written stays.
        """
        self.model = model
        try:
            await self._engine.start()
            self.info = (await self._engine.load(model, device, precision)).model
            writers = [self._write_in_turn(model, device, precision) for _ in range(min(AT_ONCE, len(self._waiting)))]
            for problem in await asyncio.gather(*writers):
                if problem is not None:
                    raise problem
        finally:
            self.running = False
            for result in self._waiting:
                result.state = "left"

    async def _write_in_turn(self, model: str, device: Device, precision: Precision) -> WorkerError | None:
        """Write one after the other until none waits; returns why the engine ended, if it did."""
        while self._waiting and not self.stopping:
            result = self._waiting.popleft()
            try:
                await self._write_one(result, model, device, precision)
            except MiniGPTError as problem:
                result.fail(problem)
                if isinstance(problem, WorkerError):  # the others would only fail, too
                    self.stopping = True
                    return problem
            finally:
                self.ended += 1
                if result.tokens:
                    self._on_end(result)
        return None

    async def _write_one(self, result: Result, model: str, device: Device, precision: Precision) -> None:
        stream = self._engine.generate(
            result.job.prompt, model=model, device=device, precision=precision, params=result.job.params
        )
        self._streams.add(stream)
        try:
            async with stream:
                async for event in stream:
                    match event:
                        case Started():
                            result.start(event, time.time())
                        case Tokens():
                            result.add(event)
                            self._count(len(event.tokens))
                        case Done():
                            result.end(event)
        finally:
            self._streams.discard(stream)

    def _count(self, tokens: int) -> None:
        self._last = time.perf_counter()
        if not self.tokens:
            self._first = self._last
        self.tokens += tokens

    def stop(self) -> None:
        """Begin no more, and end those that are being written at their next tokens; what is there stays."""
        self.stopping = True
        for stream in self._streams:
            with contextlib.suppress(WorkerError):  # a dead engine has ended them already
                stream.cancel()
