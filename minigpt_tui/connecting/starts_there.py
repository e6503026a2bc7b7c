"""Starting a run on another machine: whatever the form asks is answered there, through the engine's protocol. Names of
texts, paths and free names are that machine's.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec

from engine.catalog import CheckpointInfo
from engine.errors import WorkerError
from engine.text.library import LibraryText
from engine.text.path_completion import Completions
from engine.text.sent_texts import read_to_send
from engine.training.estimate import Measurement, MeasureRequest
from engine.training.run import RunConfig
from engine.training.run_making import BaseModel, Sight
from engine.training.run_wish import RunWish, TypedTexts
from engine.worker.answers import Fine, ModelsListed, Named, TextsListed
from engine.worker.questions import (
    AnyQuestion,
    AwaitRun,
    CheckRunName,
    CompletePath,
    FreeRunName,
    KeepText,
    ListModels,
    ListTexts,
    LookAtTexts,
    MakeConfig,
    MeasureStep,
    ReadBase,
    StartRun,
)
from minigpt_tui.machine import LinkLostError

if TYPE_CHECKING:
    from minigpt_tui.engine_client import EngineClient

A = TypeVar("A")


class StartsThere:
    """A machine with an engine of ours.

    Args:
        engine: Who answers.
        name: What the machine is called.
    """

    def __init__(self, engine: EngineClient, name: str) -> None:
        self.name = name
        self._engine = engine

    async def list_texts(self) -> tuple[LibraryText, ...]:
        """The texts there."""
        return (await self._ask(ListTexts(), TextsListed)).texts

    async def list_models(self) -> tuple[CheckpointInfo, ...]:
        """The models there."""
        return (await self._ask(ListModels(), ModelsListed)).models

    async def complete(self, begun: str) -> Completions:
        """A look into a folder there."""
        return await self._ask(CompletePath(begun=begun), Completions)

    async def look(self, texts: TypedTexts) -> Sight:
        """A look at texts there."""
        return await self._ask(LookAtTexts(texts=texts), Sight)

    async def measure(self, request: MeasureRequest) -> Measurement:
        """A step on that machine."""
        question = MeasureStep(training=request.training, model=request.model, device=request.device)
        return await self._ask(question, Measurement)

    async def check_name(self, name: str) -> None:
        """A look at the runs there."""
        await self._ask(CheckRunName(name=name), Fine)

    async def read_base(self, path: str, name: str) -> BaseModel:
        """A model there."""
        return await self._ask(ReadBase(path=path, name=name), BaseModel)

    async def free_name(self, name: str) -> str:
        """A look at the runs there."""
        return (await self._ask(FreeRunName(name=name), Named)).name or name

    async def send(self, path: Path) -> str:
        """Into the user's folder of texts there; where the answer is lost and it is sent again, it is there once."""
        data = await asyncio.to_thread(read_to_send, path)
        return (await self._ask(KeepText(name=path.name, data=data), Named)).name or ""

    async def make_config(self, wish: RunWish) -> RunConfig:
        """What to start there; its paths are that machine's."""
        return await self._ask(MakeConfig(wish=wish), RunConfig)

    async def start(self, config: RunConfig) -> None:
        """A process there, which does not notice when the link is lost."""
        await self._ask(StartRun(config=msgspec.Raw(msgspec.json.encode(config))), Fine)

    async def wait_until_running(self, name: str) -> None:
        """Its status is looked at there."""
        await self._ask(AwaitRun(name=name, discard=True), Fine)

    async def _ask(self, question: AnyQuestion, kind: type[A]) -> A:
        """The answer to a question.

        Raises:
            LinkLostError: There is no link, or it was lost before the answer came.
            MiniGPTError: What was asked for cannot be done there.
        """
        try:
            return await self._engine.ask(question, kind)
        except WorkerError as error:
            if self._engine.state in ("dead", "stopped"):
                raise LinkLostError(error.message, error.hint) from None
            raise
