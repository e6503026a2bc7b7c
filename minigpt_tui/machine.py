"""The machine that the engine runs on, as the screens see it: its runs, what can be done with them, its models. `Here`
is this one; another answers through the engine's protocol (`connecting/there.py`). Knows nothing of screens.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from engine import catalog
from engine.errors import WorkerError
from engine.training import control, launch, runs
from engine.training.commands import Command
from engine.training.run import RunDirectory
from engine.training.runs import RunInfo
from minigpt_tui.threads import in_daemon

if TYPE_CHECKING:
    from engine.catalog import CheckpointInfo
    from minigpt_tui.engine_client import EngineClient
    from minigpt_tui.training.run_starter import RunStarter


class LinkLostError(WorkerError):
    """There is no link to another machine now; it may come back."""


class Machine(Protocol):
    """What is asked of it. All of it raises MiniGPTError where it cannot be done."""

    @property
    def name(self) -> str:
        """What another machine is called; empty for this one."""

    @property
    def no_runs(self) -> str:
        """That nothing is known of its runs, as a short sentence; empty where they are."""

    def info_of(self, run: Path) -> RunInfo:
        """What is known of a run, from its directory or a copy of it."""

    async def list_runs(self) -> tuple[RunInfo, ...]:
        """All runs, in the order of the list."""

    async def fetch(self, wanted: Iterable[Path]) -> None:
        """Bring the directories of runs up to date that are to be read; nothing where they are the runs' own."""

    async def control(self, run: RunInfo, command: Command) -> None:
        """Ask something of a run."""

    async def resume(self, name: str, steps: int | None) -> None:
        """Let a run that has ended go on; returns before it has begun."""

    async def wait_until_running(self, name: str) -> None:
        """Wait until a run takes its steps, or has ended."""

    async def rename(self, name: str, new_name: str) -> None:
        """Give a run another name."""

    async def remove(self, name: str) -> None:
        """Delete a run."""

    async def prune(self, name: str) -> tuple[int, int]:
        """Delete its checkpoints but the best and the last; how many went, and their bytes."""

    async def measure(self, name: str) -> tuple[int, int]:
        """How many checkpoints a run has, and the bytes of all its files."""

    async def list_models(self) -> tuple[CheckpointInfo, ...]:
        """All models that go by a name, the default first."""

    async def list_checkpoints(self, first: str) -> tuple[tuple[str, str], ...]:
        """The checkpoints of runs, those of `first` before others: name, and what is known."""

    async def next_checkpoint(self, model: str, direction: int) -> str | None:
        """The checkpoint of the same run before (-1) or after (1) a model; None where there is none."""

    def starter(self) -> RunStarter:
        """Where runs are started; of no use where nothing is known of its runs."""


class Here:
    """This machine: directories are read in threads, since a disk may be slow."""

    name = ""
    no_runs = ""

    def info_of(self, run: Path) -> RunInfo:
        """What its directory says."""
        return runs.read_run(run)

    async def list_runs(self) -> tuple[RunInfo, ...]:
        """All runs."""
        return tuple(await asyncio.to_thread(runs.list_runs))

    async def fetch(self, wanted: Iterable[Path]) -> None:
        """Nothing: the directories are the runs' own."""

    async def control(self, run: RunInfo, command: Command) -> None:
        """Ask through its control file."""
        await asyncio.to_thread(control.request, run.path, command)

    async def resume(self, name: str, steps: int | None) -> None:
        """Start its process again."""
        await in_daemon(partial(launch.resume_run, name, {} if steps is None else {"steps": steps}))

    async def wait_until_running(self, name: str) -> None:
        """Look at its status until then."""
        await in_daemon(partial(launch.wait_until_running, RunDirectory(runs.find_run(name))))

    async def rename(self, name: str, new_name: str) -> None:
        """Rename its directory."""
        await asyncio.to_thread(runs.rename_run, name, new_name)

    async def remove(self, name: str) -> None:
        """Remove its directory."""
        await asyncio.to_thread(runs.remove_run, name)

    async def prune(self, name: str) -> tuple[int, int]:
        """Remove checkpoints."""
        return await asyncio.to_thread(lambda: runs.prune_run(runs.find_run(name)))

    async def measure(self, name: str) -> tuple[int, int]:
        """Look at all its files."""
        path = runs.find_run(name)
        return len(runs.checkpoint_steps(path)), await asyncio.to_thread(runs.disk_use, path)

    async def list_models(self) -> tuple[CheckpointInfo, ...]:
        """Read their directories."""
        return tuple(await asyncio.to_thread(catalog.list_checkpoints))

    async def list_checkpoints(self, first: str) -> tuple[tuple[str, str], ...]:
        """Read the runs' directories."""
        return tuple(await asyncio.to_thread(runs.list_run_checkpoints, first))

    async def next_checkpoint(self, model: str, direction: int) -> str | None:
        """Read the run's directory."""
        return await asyncio.to_thread(runs.next_checkpoint, model, direction)

    def starter(self) -> RunStarter:
        """Processes of this machine."""
        from minigpt_tui.training.run_starter import StartsHere  # when it is wanted first

        return StartsHere()


def machine_of(engine: EngineClient) -> Machine:
    """The machine that an engine runs on."""
    if engine.place is None:
        return Here()
    from minigpt_tui.connecting.there import Server, There

    return Server(engine, engine.place) if engine.place.is_server else There(engine, engine.place)
