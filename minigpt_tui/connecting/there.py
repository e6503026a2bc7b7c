"""Machines elsewhere as the screens see them: `There` has an engine of ours, which answers what is asked about its runs
and models; `Server` has an API, which knows of models alone. Runs that are shown are copied as far as they have come
into a folder of this process, where they are read as one's own are.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
import time
import weakref
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from engine.errors import RunError
from engine.training.commands import Command
from engine.training.runs import RunInfo, read_run
from engine.worker.answers import Amount, CheckpointsListed, Fine, ModelsListed, Named, RunPart, RunsListed
from engine.worker.questions import (
    AnyQuestion,
    AwaitRun,
    ControlRun,
    ListCheckpoints,
    ListModels,
    ListRuns,
    MeasureRun,
    NextCheckpoint,
    PruneRun,
    ReadRun,
    RemoveRun,
    RenameRun,
    ResumeRun,
)

if TYPE_CHECKING:
    from engine.catalog import CheckpointInfo
    from minigpt_tui.connecting.place import Place
    from minigpt_tui.engine_client import EngineClient
    from minigpt_tui.training.run_starter import RunStarter

FETCH_SECONDS = 0.5
"""Seconds between two looks at a run that is shown."""


class _Copy:
    """What has come of one run."""

    def __init__(self) -> None:
        self.metrics = self.samples = 0
        self.log = -1
        self.created = 0.0
        self.fetched_at = 0.0


class There:
    """A machine with an engine of ours.

    Args:
        engine: Who answers.
        place: Where it is.
    """

    no_runs = ""

    def __init__(self, engine: EngineClient, place: Place) -> None:
        self.name = place.name
        self._engine = engine
        self._folder: Path | None = None
        self._infos: dict[str, RunInfo] = {}
        self._copies: dict[str, _Copy] = {}

    def info_of(self, run: Path) -> RunInfo:
        """What was told last; locks and processes are not looked for here."""
        return self._infos.get(run.name) or read_run(run)

    async def list_runs(self) -> tuple[RunInfo, ...]:
        """All runs, each with the path of its copy."""
        listed = await self._engine.ask(ListRuns(), RunsListed)
        found = tuple(self._placed(run) for run in listed.runs)
        self._infos = {run.name: run for run in found}
        for name in [name for name in self._copies if name not in self._infos]:
            self._forget(name)
        return found

    async def fetch(self, wanted: Iterable[Path]) -> None:
        """Copy what is new of the runs that are read."""
        for path in wanted:
            copy = self._copies.setdefault(path.name, _Copy())
            if time.monotonic() - copy.fetched_at < FETCH_SECONDS:
                continue
            question = ReadRun(name=path.name, metrics=copy.metrics, samples=copy.samples, log=copy.log)
            part = await self._engine.ask(question, RunPart)
            if not part.more:
                copy.fetched_at = time.monotonic()
            info = self._placed(part.info)
            created = info.config.created if info.config else 0.0
            if part.replaced or (copy.created and copy.created != created):
                self._forget(path.name)  # another run has taken the name: it is read anew at the next look
                continue
            self._infos[path.name] = info
            copy.created = created
            await asyncio.to_thread(_write, info.path, part)
            copy.metrics += len(part.metrics)
            copy.samples += len(part.samples)
            copy.log = part.log_size

    async def control(self, run: RunInfo, command: Command) -> None:
        """Ask something of a run."""
        await self._do(ControlRun(name=run.name, command=command))

    async def resume(self, name: str, steps: int | None) -> None:
        """Let a run go on."""
        await self._do(ResumeRun(name=name, steps=steps))

    async def wait_until_running(self, name: str) -> None:
        """Wait until it takes its steps."""
        await self._do(AwaitRun(name=name))

    async def rename(self, name: str, new_name: str) -> None:
        """Give a run another name."""
        await self._do(RenameRun(name=name, new_name=new_name))

    async def remove(self, name: str) -> None:
        """Delete a run."""
        await self._do(RemoveRun(name=name))

    async def prune(self, name: str) -> tuple[int, int]:
        """Delete checkpoints."""
        amount = await self._engine.ask(PruneRun(name=name), Amount)
        return amount.count, amount.size

    async def measure(self, name: str) -> tuple[int, int]:
        """What a run takes."""
        amount = await self._engine.ask(MeasureRun(name=name), Amount)
        return amount.count, amount.size

    async def list_models(self) -> tuple[CheckpointInfo, ...]:
        """All models there."""
        return (await self._engine.ask(ListModels(), ModelsListed)).models

    async def list_checkpoints(self, first: str) -> tuple[tuple[str, str], ...]:
        """The checkpoints of the runs there."""
        return (await self._engine.ask(ListCheckpoints(first=first), CheckpointsListed)).checkpoints

    async def next_checkpoint(self, model: str, direction: int) -> str | None:
        """The checkpoint before or after another."""
        return (await self._engine.ask(NextCheckpoint(model=model, direction=direction), Named)).name

    def starter(self) -> RunStarter:
        """Who starts runs there."""
        from minigpt_tui.connecting.starts_there import StartsThere  # when it is wanted first

        return StartsThere(self._engine, self.name)

    async def _do(self, question: AnyQuestion) -> None:
        await self._engine.ask(question, Fine)

    def _placed(self, run: RunInfo) -> RunInfo:
        """A run with the path of its copy.

        Raises:
            RunError: Its name is none for a folder.
        """
        if run.name in ("", ".", "..") or {*run.name} & {*"/\\\0"}:
            raise RunError(f"{self.name} told of a run {run.name!r}, which is no name", "rename its folder there")
        return msgspec.structs.replace(run, path=self._copies_folder() / run.name)

    def _copies_folder(self) -> Path:
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="minigpt-runs-"))  # the user's alone
            weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)  # at the end of the app too
        return self._folder

    def _forget(self, name: str) -> None:
        self._copies.pop(name, None)
        self._infos.pop(name, None)
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self._copies_folder() / name)


def _write(path: Path, part: RunPart) -> None:
    """Add what is new to the copy of a run."""
    (path / "checkpoints").mkdir(parents=True, exist_ok=True)
    for name, data in (("metrics.jsonl", part.metrics), ("samples.jsonl", part.samples)):
        if data or not (path / name).exists():
            with (path / name).open("ab") as file:
                file.write(data)
    if part.log is not None:
        (path / "log.txt").write_bytes(part.log)
    there = {f"step-{step}" for step in part.checkpoints}
    known = {folder.name for folder in (path / "checkpoints").iterdir()}
    for name in there - known:
        (path / "checkpoints" / name).mkdir()
    for name in known - there:
        (path / "checkpoints" / name).rmdir()


class Server(There):
    """A server with an API."""

    no_runs = "A server tells of no runs."

    async def list_runs(self) -> tuple[RunInfo, ...]:
        """None."""
        return ()

    async def list_checkpoints(self, first: str) -> tuple[tuple[str, str], ...]:
        """None."""
        return ()
