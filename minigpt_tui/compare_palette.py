"""What the palette can find for a comparison: a model or a checkpoint for a column, and a run whose checkpoints are its
columns.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from functools import partial
from typing import Any

from textual.command import DiscoveryHit, Hit, Hits, Provider
from textual.content import Content

from engine.catalog import CheckpointInfo
from engine.errors import MiniGPTError
from minigpt_tui.comparing.checkpoints import RunFacts, runs_to_compare, runs_told
from minigpt_tui.palette import CheckpointProvider, ModelProvider, app_of, highlighted

Choose = partial[Coroutine[Any, Any, bool]]


class ColumnModels(ModelProvider):
    """Finds the models on this machine, for the column that keys act on."""

    def _choose(self, info: CheckpointInfo) -> Choose:
        return partial(self.app.run_action, f"screen.column_model({info.name!r})")


class ColumnCheckpoints(CheckpointProvider):
    """Finds the checkpoints of runs, for the same."""

    def _choose(self, name: str) -> Choose:
        return partial(self.app.run_action, f"screen.column_model({name!r})")


class ComparedRuns(Provider):
    """Finds the runs that have two checkpoints or more."""

    async def startup(self) -> None:
        """Read their directories, beside the loop."""
        machine = app_of(self).machine
        self._runs: list[RunFacts] = []
        if not machine.name:
            self._runs = await asyncio.to_thread(runs_to_compare)
            return
        try:
            self._runs = runs_told(await machine.list_checkpoints(""))
        except MiniGPTError as error:
            app_of(self).remark(str(error))

    async def discover(self) -> Hits:
        """All of them, the latest first."""
        if not self._runs:
            yield DiscoveryHit(
                Content("no run has two checkpoints yet"), self._nothing, "no run has two checkpoints yet"
            )
        for run in self._runs:
            yield DiscoveryHit(Content(run.name), self._choose(run), run.name, _facts(run))

    async def search(self, query: str) -> Hits:
        """Those that match."""
        matcher = self.matcher(query)
        for run in self._runs:
            if (score := matcher.match(run.name)) > 0:
                yield Hit(score, highlighted(matcher, run.name), self._choose(run), run.name, _facts(run))

    def _choose(self, run: RunFacts) -> Choose:
        return partial(self.app.run_action, f"screen.run_checkpoints({run.name!r}, {run.checkpoints!r})")

    def _nothing(self) -> None:
        """There is nothing to choose."""


def _facts(run: RunFacts) -> str:
    first, last = (name.rpartition("step-")[2] for name in (run.checkpoints[0], run.checkpoints[-1]))
    return f"{len(run.checkpoints)} checkpoints, from step {first} to {last}"
