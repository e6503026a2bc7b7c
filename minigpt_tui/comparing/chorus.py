"""Columns that are written at once: their models are loaded first, then all begin together, so that the engine may have
them share its passes. Plain asyncio: it knows nothing of the screen, which hears of each change by callbacks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from engine.catalog import TOKENIZER, read_record
from engine.config import Device, Precision
from engine.errors import CheckpointError, MiniGPTError
from engine.worker.protocol import ModelInfo
from minigpt_tui.comparing.column import Column
from minigpt_tui.engine_client import EngineClient
from minigpt_tui.live_writing import LiveWriting


class Chorus:
    """Has columns written, stopped and written anew.

    Args:
        engine: Where text comes from; it is started when it does not run.
        on_begin: Called when a column's text has begun.
        on_change: Called with the first row of its document that changed.
        on_end: Called when a column has ended, also without a text; its state and problem say how.
    """

    def __init__(
        self,
        engine: EngineClient,
        *,
        on_begin: Callable[[Column], None],
        on_change: Callable[[Column, int], None],
        on_end: Callable[[Column], None],
    ) -> None:
        self._engine = engine
        self._on_begin, self._on_change, self._on_end = on_begin, on_change, on_end
        self._live: dict[Column, LiveWriting] = {}
        self._preparing: dict[Column, asyncio.Task[None]] = {}

    @property
    def running(self) -> bool:
        """Whether a column was asked for and has not ended."""
        return any(column.is_busy for column in self._live)

    @property
    def stopping(self) -> bool:
        """Whether a column was told to end and has not done so yet."""
        return any(live.stopping for live in self._live.values())

    def write(
        self, columns: Sequence[Column], prompt: str, seed: int, pace: float, device: Device, precision: Precision
    ) -> None:
        """Have columns written, in place of what they are writing.

        Args:
            columns: Which.
            prompt: What all of them write on from.
            seed: What all of them draw with.
            pace: Tokens per second of each at most; 0 for no limit.
            device: Where to compute.
            precision: How to compute.
        """
        for column in columns:
            self._leave(column)
            column.state, column.problem = "loading", None
            self._live.setdefault(column, self._make(column))
        task = asyncio.create_task(
            self._write(list(columns), prompt, seed, pace, device, precision), name="columns that begin"
        )
        for column in columns:
            self._preparing[column] = task

    def _make(self, column: Column) -> LiveWriting:
        return LiveWriting(
            self._engine,
            column.writing,
            on_begin=partial(self._begun, column),
            on_change=partial(self._changed, column),
            on_end=partial(self._ended, column),
        )

    async def _write(
        self, columns: list[Column], prompt: str, seed: int, pace: float, device: Device, precision: Precision
    ) -> None:
        """Load what they need, then begin with all that can be written."""
        this = asyncio.current_task()

        def mine(column: Column) -> bool:
            return self._preparing.get(column) is this  # else another text was asked for, or none any more

        async def load(name: str) -> tuple[ModelInfo, str] | MiniGPTError:
            try:
                await self._engine.start()
                loaded = await self._engine.load(name, device, precision)
            except MiniGPTError as problem:
                return problem
            return loaded.model, await asyncio.to_thread(tokenizer_of, loaded.model.path)

        names = list(dict.fromkeys(column.model for column in columns))
        models = dict(zip(names, await asyncio.gather(*map(load, names)), strict=True))
        for column in filter(mine, columns):
            match models[column.model]:
                case MiniGPTError() as problem:
                    del self._preparing[column]
                    column.clear()
                    column.info = None
                    column.fail(problem)
                    self._on_end(column)
                case (info, tokenizer):
                    column.info, column.tokenizer, column.state = info, tokenizer, "waiting"
        for column in filter(mine, columns):
            del self._preparing[column]
            self._live[column].write(
                prompt,
                column.params.replace(seed=seed),
                pace,
                model=column.model,
                device=device,
                precision=precision,
                info=column.info,
            )

    def set_pace(self, pace: float) -> None:
        """Go on at another pace; 0 for no limit."""
        for live in self._live.values():
            live.set_pace(pace)

    def stop(self) -> None:
        """End all columns at their next tokens; those that have not begun at once."""
        for column, live in self._live.items():
            if self._preparing.pop(column, None) is not None:
                self._give_up(column)
            elif column.is_busy:
                live.stop()

    def abandon(self) -> None:
        """End all columns here and now, with what has come of them."""
        for column in self._live:
            self._leave(column)

    def leave(self, column: Column) -> None:
        """A column is no more: let its text go; the engine hears of it."""
        self._leave(column)
        self._live.pop(column, None)

    def _leave(self, column: Column) -> None:
        """End what a column is writing, and let that be known."""
        if self._preparing.pop(column, None) is not None:
            self._give_up(column)
        elif (live := self._live.get(column)) is not None and live.running:
            live.abandon("cancelled")

    def _give_up(self, column: Column) -> None:
        """Nothing has come yet: what was there before stays."""
        column.state = "empty" if column.writing.is_empty else "ended"
        self._on_end(column)

    def close(self) -> None:
        """End everything without a word to anybody."""
        for task in set(self._preparing.values()):
            task.cancel()
        self._preparing.clear()
        for live in self._live.values():
            live.close()

    # What becomes of a column.

    def _begun(self, column: Column, left_out: str) -> None:
        column.begin(left_out)
        self._on_begin(column)

    def _changed(self, column: Column, first_row: int) -> None:
        column.take()
        self._on_change(column, first_row)

    def _ended(self, column: Column, error: MiniGPTError | None) -> None:
        if column.state == "writing":
            column.end()
        elif error is None:
            column.state = "empty" if column.writing.is_empty else "ended"
        if error is not None:
            column.fail(error)
        self._on_end(column)


def tokenizer_of(path: str) -> str:
    """What tells a model's tokenizer from others: the hash of its file, where its record has it; else nothing."""
    try:
        return read_record(Path(path)).files.get(TOKENIZER, "")
    except CheckpointError:
        return ""
