"""Where a run is started, as the form sees it: the texts and models of that machine, what a text is like, how long a
step takes there, and the start. `StartsHere` is this machine; another answers through the engine's protocol
(`connecting/starts_there.py`). Knows nothing of screens.
"""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import Protocol

from engine import catalog
from engine.catalog import CheckpointInfo
from engine.text.library import LibraryText, list_texts
from engine.text.path_completion import Completions, complete
from engine.training import launch, run_making
from engine.training.estimate import Measurement, MeasureRequest
from engine.training.run import RunConfig, RunDirectory
from engine.training.run_making import BaseModel, Sight
from engine.training.run_names import free_run_name
from engine.training.run_wish import RunWish, TypedTexts
from engine.training.runs import find_run
from engine.training.survey import Survey
from minigpt_tui.one_answer import ask
from minigpt_tui.threads import in_daemon


class RunStarter(Protocol):
    """What is asked of a machine. All of it raises MiniGPTError where it cannot be done, and LinkLostError where nobody
    can be asked now; it is given up when whoever waits for it is cancelled.
    """

    @property
    def name(self) -> str:
        """What another machine is called; empty for this one."""

    async def list_texts(self) -> tuple[LibraryText, ...]:
        """The texts that have a name there."""

    async def list_models(self) -> tuple[CheckpointInfo, ...]:
        """The models that a run there can go on from."""

    async def complete(self, begun: str) -> Completions:
        """What the beginning of a path could become there."""

    async def look(self, texts: TypedTexts) -> Sight:
        """Look at texts."""

    async def measure(self, request: MeasureRequest) -> Measurement:
        """Time a step there."""

    async def check_name(self, name: str) -> None:
        """Raise RunError when a run there cannot be called so."""

    async def read_base(self, path: str, name: str) -> BaseModel:
        """What is to be known of a model there that a run goes on from; without a name its folder's."""

    async def free_name(self, name: str) -> str:
        """A name like another run's that is free."""

    async def send(self, path: Path) -> str:
        """Have a file of this machine there; its path there."""

    async def make_config(self, wish: RunWish) -> RunConfig:
        """What to start."""

    async def start(self, config: RunConfig) -> None:
        """Start a run; returns before it has begun."""

    async def wait_until_running(self, name: str) -> None:
        """Wait until it takes its steps; where it cannot begin, nothing is left of it."""


class StartsHere:
    """This machine: what may take long is asked in processes of its own, and given up with them."""

    name = ""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}  # the texts that have a name, as of the last look

    async def list_texts(self) -> tuple[LibraryText, ...]:
        """Folders may be large, and disks slow."""
        texts = await asyncio.to_thread(list_texts)
        self._known = {text.name: text.state for text in texts}
        return tuple(texts)

    async def list_models(self) -> tuple[CheckpointInfo, ...]:
        """Read their directories."""
        return tuple(await asyncio.to_thread(catalog.list_checkpoints))

    async def complete(self, begun: str) -> Completions:
        """Look into a folder."""
        return await asyncio.to_thread(complete, begun)

    async def look(self, texts: TypedTexts) -> Sight:
        """Have them looked at."""
        request = run_making.survey_request(texts, self._known)
        if request is None:
            return Sight()
        found = await ask("engine.training.survey", request, Survey)
        return Sight(survey=found, free_name=run_making.free_name(texts, self._known))

    async def measure(self, request: MeasureRequest) -> Measurement:
        """Have it timed."""
        return await ask("engine.training.measure", request, Measurement)

    async def check_name(self, name: str) -> None:
        """Look for a run of that name."""
        run_making.check_name(name)

    async def read_base(self, path: str, name: str) -> BaseModel:
        """Read its small files."""
        return run_making.read_base(Path(path), name)

    async def free_name(self, name: str) -> str:
        """Look at the names of runs."""
        return free_run_name(name)

    async def send(self, path: Path) -> str:
        """It is here already."""
        return str(path)

    async def make_config(self, wish: RunWish) -> RunConfig:
        """Look for its texts."""
        if not self._known:
            await self.list_texts()
        return run_making.make_config(wish, self._known)

    async def start(self, config: RunConfig) -> None:
        """Start its process."""
        await in_daemon(partial(launch.start_run, config))

    async def wait_until_running(self, name: str) -> None:
        """Look at its status until then."""
        await in_daemon(partial(launch.wait_until_running, RunDirectory(find_run(name)), discard=True))
