"""Which columns there are on the Compare screen: their models, the checkpoints of a run, the cells of a sweep. It has
them written as its base does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from textual.command import CommandPalette

from engine.config import SamplingParams
from engine.errors import CheckpointError, InvalidSettingError, MiniGPTError
from minigpt_tui.actions import by_id
from minigpt_tui.comparing.checkpoints import checkpoint_names, evenly
from minigpt_tui.comparing.column import LEAST, MOST, Column
from minigpt_tui.comparing.sweep import EXAMPLE, Sweep, parse_sweep
from minigpt_tui.machine import machine_of
from minigpt_tui.screens.compare_view import warmer
from minigpt_tui.screens.compare_writing import CompareWriting
from minigpt_tui.status_text import sentence
from minigpt_tui.visible import visible_line


class CompareColumns(CompareWriting):
    """Columns that come and go."""

    _before_sweep: tuple[list[Column], int, tuple[str, int] | None] | None = None
    """The columns that the sweep stands in for, which of them keys acted on, and what they were asked."""

    _sweep_typed = EXAMPLE

    async def _have(self, columns: list[Column], *, sweep: Sweep | None = None, at: int = 0) -> None:
        """Show other columns; the texts of those that are there no more end."""
        kept = self._before_sweep[0] if self._before_sweep is not None else []
        for column in self.columns:
            if column not in columns:
                self._chorus.leave(column)
                if column not in kept:
                    column.parting = None
        self.columns, self.sweep, self._at, self._is_large = columns, sweep, at, False
        await self.show_columns()

    # Models.

    def compare_models(self, names: tuple[str, ...]) -> None:
        """Show a column for each of some models; beside a single one stands the model of Play.

        Args:
            names: As the engine knows them.
        """
        names = tuple(dict.fromkeys(names))
        if len(names) > MOST:
            self.say(f"the first {MOST} of {len(names)} models; more columns have no room")
        if len(names) == 1:
            names = (*names, self._choice().name)
        if names:
            self.call_later(self._have_models, list(names[:MOST]))

    async def _have_models(self, names: list[str]) -> None:
        """A column for each model, all drawn as the first one is."""
        self._before_sweep = None
        params = self.columns[0].params
        await self._have([Column(name, params) for name in names])
        if self._asked is not None:
            self._write(self.columns)
        else:
            self._prompt.focus()

    def action_choose_model(self) -> None:
        """Choose the model of the column that keys act on."""
        from minigpt_tui.compare_palette import ColumnCheckpoints, ColumnModels

        providers = [ColumnModels, ColumnCheckpoints]
        self.app.push_screen(
            CommandPalette(providers=providers, placeholder=f"Choose the model of column {self._at + 1}")
        )

    def action_column_model(self, name: str) -> None:
        """Let another model write this column; what stood there was the other one's."""
        column = self.column
        if name == column.model:
            return
        self._chorus.leave(column)
        column.clear()
        column.model, column.info = name, None
        if (pane := self.pane_of(column)) is not None:
            pane.show_all()
        # Where it is the first, the others are compared with what it writes now.
        for other in self.columns[1:] if column is self.columns[0] else ():
            other.parting = None
            self.show_marks(other)
        self.write_anew([column])

    def action_choose_run(self) -> None:
        """Choose a run whose checkpoints become the columns."""
        from minigpt_tui.compare_palette import ComparedRuns

        self.app.push_screen(CommandPalette(providers=[ComparedRuns], placeholder="A run, from first to last"))

    async def action_run_checkpoints(self, run: str, known: Sequence[str] = ()) -> None:
        """Show the checkpoints of a run, evenly chosen from its first to its last.

        Args:
            run: Its name.
            known: The names of its checkpoints' models, where they were asked for already.
        """
        try:
            names = list(known) or await asyncio.to_thread(checkpoint_names, run)
        except CheckpointError as error:
            self.tell("Its checkpoints cannot be read", sentence(error))
            return
        if len(names) < LEAST:
            self.say(f"{run} has no two checkpoints")
            return
        await self._have_models(evenly(names, MOST))
        keys = f"{by_id('checkpoint_before').shown} and {by_id('checkpoint_after').shown}"
        self.say(f"{len(self.columns)} of {len(names)} checkpoints; {keys} walk through all of them")

    async def action_walk(self, direction: int) -> None:
        """Let this column be written by the checkpoint before or after its own."""
        column = self.column
        machine = machine_of(self._engine)
        if machine.no_runs:
            self.say(machine.no_runs)
            return
        try:
            name = await machine.next_checkpoint(column.model, direction)
        except MiniGPTError as error:
            self.say(visible_line(str(error)))
            return
        if name is None:
            self.say(f"{visible_line(column.model)} is the {'first' if direction < 0 else 'last'} of its run")
        elif column in self.columns:
            self._at = self.columns.index(column)
            self.action_column_model(name)

    # Columns.

    async def action_add(self) -> None:
        """Add a column like the one that keys act on, drawn warmer."""
        if self.sweep is not None or len(self.columns) >= MOST:
            self.say("leave the sweep first" if self.sweep is not None else f"{MOST} columns are the most")
            return
        params = warmer(self.column.params, [column.params for column in self.columns])
        column = Column(self.column.model, params, self.column.info)
        await self._have([*self.columns, column], at=len(self.columns))
        self._panes[self._at].focus()
        self.write_anew([column])

    async def action_remove(self) -> None:
        """Take away the column that keys act on."""
        if self.sweep is not None or len(self.columns) <= LEAST:
            self.say(f"{LEAST} columns are the least" if self.sweep is None else "leave the sweep first")
            return
        left = [column for column in self.columns if column is not self.column]
        first = self.columns[0]
        await self._have(left, at=min(self._at, len(left) - 1))
        if left[0] is not first:
            self._compare_all()

    def _compare_all(self) -> None:
        """Compare all columns anew: another one is the first."""
        for column in self.columns:
            column.parting = None
        if self.columns[0].writing.tokens():
            self._begun(self.columns[0])

    # Sweeps.

    async def action_sweep(self) -> None:
        """Ask for the settings to sweep over; leave the sweep that is shown."""
        if self.sweep is not None:
            await self.leave_sweep()
            return

        def take(typed: str) -> str:
            try:
                sweep = parse_sweep(typed)
                cells = sweep.cells(self.column.params)
            except InvalidSettingError as error:
                return visible_line(f"{error.message}; {error.hint}")
            self._sweep_typed = typed
            self.call_later(self._begin_sweep, sweep, cells)
            return ""

        self._open("sweep", "2 to 4 values of each", take, self._sweep_typed)

    async def _begin_sweep(self, sweep: Sweep, cells: list[SamplingParams]) -> None:
        self._before_sweep = self.columns, self._at, self._asked
        column = self.column
        await self._have([Column(column.model, params, column.info) for params in cells], sweep=sweep)
        self._panes[0].focus()
        if self._asked is not None:
            self._write(self.columns)
        else:
            self._prompt.focus()

    async def leave_sweep(self) -> None:
        """Show the columns that were there before, as they were left."""
        if self._before_sweep is None:
            return
        (columns, at, asked), self._before_sweep = self._before_sweep, None
        if any(column.writing.tokens() for column in columns):  # else what the sweep was asked is theirs, too
            self._asked, self.asked_seed = asked, asked[1] if asked is not None else None
        await self._have(columns, at=at)
        if self.focused is not self._prompt:
            self._panes[self._at].focus()
