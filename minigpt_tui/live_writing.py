"""The text that the engine writes now: asks for it, takes in its events at most 30 times a second, turns its
settings and stops it. Plain asyncio: it knows nothing of the screen, which hears of each change by callbacks.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from engine.config import Device, Precision, SamplingParams
from engine.errors import MiniGPTError
from engine.worker.protocol import Done, ModelInfo, ParamsAt, ParamsChanged, Started, Tokens
from minigpt_tui.engine_client import EngineClient, GenerationStream
from minigpt_tui.token_trace import ALTERNATIVES
from minigpt_tui.writing import Writing

FRAME = 1 / 30
"""Seconds between two looks at what the engine wrote."""

FAST_FRAME, FAST_TOKENS = 1 / 20, 20
"""Where more tokens than this come in a frame, nobody can read along: fewer frames leave more time for the keys."""


class LiveWriting:
    """One text at a time; asking for another ends the one before.

    Args:
        engine: Where text comes from; it is started when it does not run.
        writing: What is brought up to date.
        on_begin: Called when the engine has begun, with the characters of the prompt that it left out.
        on_change: Called after each frame with the first row of the document that changed.
        on_end: Called when the text has ended, with what went wrong or None.

    Attributes:
        running: Whether a text was asked for and has not ended.
        stopping: Whether the engine was told to end the text and has not done so yet.
    """

    def __init__(
        self,
        engine: EngineClient,
        writing: Writing,
        *,
        on_begin: Callable[[str], None],
        on_change: Callable[[int], None],
        on_end: Callable[[MiniGPTError | None], None],
    ) -> None:
        self.running = self.stopping = False
        self._begun = False  # whether something of the text is on the screen
        self._engine, self._writing = engine, writing
        self._on_begin, self._on_change, self._on_end = on_begin, on_change, on_end
        self._task: asyncio.Task[None] | None = None
        self._stream: GenerationStream | None = None
        self._pending: list[Tokens | ParamsChanged | Done] = []
        self._last_frame = 0.0
        self._frame_seconds = FRAME
        self._frame_due: asyncio.TimerHandle | None = None
        # What the engine shall go on with, also where it has not begun yet.
        self._params = SamplingParams()
        self._pace = 0.0
        self._limit: int | None = None  # so many tokens alone, whatever the settings say

    @property
    def streaming(self) -> bool:
        """Whether text is coming."""
        return self.running and self._begun

    @property
    def is_step(self) -> bool:
        """Whether what is being written has a limit of its own."""
        return self.running and self._limit is not None

    def write(
        self,
        prompt: str,
        params: SamplingParams,
        pace: float,
        *,
        model: str = "",
        device: Device = "auto",
        precision: Precision = "auto",
        info: ModelInfo | None = None,
        tokens: tuple[int, ...] | None = None,
        changes: Sequence[ParamsAt] = (),
        resume: Callable[[Started, SamplingParams], None] | None = None,
        limit: int | None = None,
        template: bool = False,
    ) -> None:
        """Ask for a text in place of the one that is being written.

        Args:
            prompt: What to write on from.
            params: How to draw; `seed` None lets the engine choose.
            pace: Tokens per second at most; 0 for no limit.
            model: The model's name; empty for the default.
            device: Where to compute.
            precision: How to compute.
            info: What is known of the model.
            tokens: The prompt as ids, where they are known.
            changes: Settings from a position on, as they were recorded.
            resume: Takes the beginning in, where the text that is there goes on; else it is replaced.
            limit: Write so many tokens, whatever the settings say of lengths and stop strings; with 0 the text's
                beginning is taken in and nothing is written. Settings that are turned hold for the next text alone.
            template: Whether the prompt was rendered from a chat template.
        """
        self.abandon("cancelled")
        self.running, self.stopping, self._begun = True, False, False
        self._params, self._pace, self._limit = params, pace, limit

        async def follow() -> None:
            await self._engine.start()
            params = self._params
            asked = params if limit is None else params.replace(max_new_tokens=max(1, limit), stop=())
            stream = self._engine.generate(
                prompt,
                prompt_tokens=tokens,
                model=model,
                device=device,
                precision=precision,
                params=asked,
                pace=self._pace,
                alternatives=ALTERNATIVES,
                changes=changes,
                template=template,
            )
            async with stream:
                self._stream = stream
                async for event in stream:
                    if not isinstance(event, Started):
                        self._pending.append(event)
                        self._ask_for_frame()
                        continue
                    if resume:
                        resume(event, params)
                    else:
                        self._writing.start(event, prompt, params)
                    self._writing.asked_model, self._writing.model = model, info
                    self._on_begin(event.left_out)
                    if limit == 0:
                        self._begun = True
                        break
            if limit == 0:
                self._finish("cancelled", None)

        async def attend() -> None:
            try:
                await follow()
            except MiniGPTError as error:
                self._finish("lost", error)

        self._task = asyncio.create_task(attend(), name="writing")

    def set_params(self, params: SamplingParams) -> None:
        """Go on with other settings from the next token on."""
        self._params = params.replace(seed=self._params.seed)
        if self._stream is not None and self._limit is None:
            self._stream.set_params(params=self._params)

    def set_pace(self, pace: float) -> None:
        """Go on at another pace; 0 for no limit."""
        self._pace = pace
        if self._stream is not None:
            self._stream.set_params(pace=pace)

    def stop(self) -> None:
        """End the text at its next token; at once where the engine has not begun it, or has not heard a first stop."""
        if self._stream is not None and self._begun and not self.stopping:
            self.stopping = True
            self._stream.cancel()
        else:
            self.abandon("cancelled")

    def abandon(self, reason: str) -> None:
        """End the text here and now, with what has come of it.

        Args:
            reason: Its finish reason.
        """
        if self._task is not None:
            self._task.cancel()  # which tells the engine
        self._finish(reason, None)

    def close(self) -> None:
        """End the text without a word to anybody."""
        self.running = False
        self._pending.clear()
        if self._frame_due is not None:
            self._frame_due.cancel()
        if self._task is not None:
            self._task.cancel()

    def _ask_for_frame(self) -> None:
        if self._frame_due is None:
            wait = max(0.0, self._last_frame + self._frame_seconds - time.monotonic())
            self._frame_due = asyncio.get_running_loop().call_later(wait, self._frame)

    def _frame(self) -> None:
        """Take in what has come since the last frame."""
        if self._frame_due is not None:
            self._frame_due.cancel()
        self._frame_due, self._last_frame = None, time.monotonic()
        events, self._pending = self._pending, []
        if not events:
            return
        self._begun = True
        count = len(self._writing.trace)
        self._on_change(self._writing.apply(events))
        self._frame_seconds = FAST_FRAME if len(self._writing.trace) - count > FAST_TOKENS else FRAME
        if isinstance(events[-1], Done):
            self._end(None)

    def _finish(self, reason: str, error: MiniGPTError | None) -> None:
        self._frame()
        if self.running:
            if self._begun:
                self._writing.finish_reason = reason
            self._end(error)

    def _end(self, error: MiniGPTError | None) -> None:
        self.running, self.stopping, self._stream = False, False, None
        self._on_end(error)
