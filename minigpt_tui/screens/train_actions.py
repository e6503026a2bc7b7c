"""What can be done with training runs on their screen: start, pause, resume, save, stop, extend, rename, delete, prune.
Runs are asked through their control files; all that waits for a disk or a process waits in a thread.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING

from engine.errors import MiniGPTError, RunError, WorkerError
from engine.training.commands import Command
from engine.training.run import RunConfig
from engine.training.run_names import check_run_name
from engine.training.runs import RunInfo, checkpoint_steps
from minigpt_tui.actions import by_id
from minigpt_tui.columns import size
from minigpt_tui.machine import Here, LinkLostError, Machine
from minigpt_tui.screens.train_view import TrainView
from minigpt_tui.settings import Session
from minigpt_tui.status_text import sentence
from minigpt_tui.visible import visible_line
from minigpt_tui.widgets.ask_line import if_yes

if TYPE_CHECKING:
    from minigpt_tui.training.run_draft import RunDraft
    from minigpt_tui.training.run_starter import RunStarter

LINK_SECONDS = 1.0
"""After a link was lost, another machine is asked so often for what is not known of it."""

ASKED: dict[Command, str] = {
    "pause": "asked to pause",
    "resume": "asked to go on",
    "save": "asked to save",
    "stop": "asked to stop",
}
"""What a request is called until it has come true."""

LEAVES = "y does it; esc leaves everything as it is"


class RunActions(TrainView):
    """The actions that change a run."""

    def __init__(self, session: Session, machine: Machine | None = None) -> None:
        """Make the screen.

        Args:
            session: What the last session left.
            machine: Whose runs they are; by default this one's.
        """
        self._machine: Machine = machine or Here()
        super().__init__(session)
        self._draft: RunDraft | None = None  # what was typed in the form, which opens with it again
        self._starter: RunStarter | None = None
        self._saves: dict[str, int] = {}  # the last checkpoint of each run that was asked to save

    def _no_runs(self) -> str:
        if not self._machine.no_runs:
            return super()._no_runs()
        return f"\n  {self._machine.no_runs}"

    def _whose_runs(self) -> str:
        return f"Runs of {visible_line(self._machine.name)}" if self._machine.name else super()._whose_runs()

    async def refresh_runs(self) -> None:
        """Read the list of runs now."""
        with contextlib.suppress(WorkerError):  # without a link there is no list; the one that is known stays
            self.show_runs(await self._machine.list_runs())

    # Requests.

    def _ask_of_run(self, command: Command) -> None:
        """Ask something of the chosen run; the state says when it has come true."""
        run = self.chosen
        if run is None:
            self.say("there is no run yet")
            return
        self.say(f"{run.name}: {ASKED[command]}…")
        if command == "save":
            self._saves[run.name] = max(checkpoint_steps(run.path), default=-1)
        else:
            self._asked[run.name] = run.state, f"{ASKED[command]}…"
        self._show_borders()
        self._do(lambda: self._machine.control(run, command), f"{run.name} cannot be asked")

    def _do(self, work: Callable[[], Awaitable[object]], failed: str) -> None:
        """Do something beside the screen; what goes wrong is told in words, and the list is read again.

        Args:
            work: What to do.
            failed: The title where it does not work.
        """

        async def do() -> None:
            try:
                await work()
            except MiniGPTError as error:
                self._asked.clear()
                self.tell(failed, sentence(error))
            await self.refresh_runs()

        self.run_worker(do(), group="requests")

    def action_pause(self) -> None:
        """Pause; or go on, in the same process or in a new one."""
        run = self.chosen
        if run is None or run.state == "starting":
            self.say("it is starting" if run else "there is no run yet")
        elif run.state == "running":
            self._ask_of_run("pause")
        elif run.state == "paused":
            self._ask_of_run("resume")
        elif run.state == "finished":
            self.say(f"it is finished; {by_id('run_extend').shown} gives it more steps")
        else:
            self._resume(run)

    def _resume(self, run: RunInfo, steps: int | None = None) -> None:
        """Let a run that has ended go on from its last checkpoint."""
        self._asked[run.name] = run.state, "asked to go on…"
        self._show_borders()
        self.say(f"{run.name} goes on…")
        self._notice.dismiss()

        async def resume() -> None:
            await self._machine.resume(run.name, steps)
            await self.refresh_runs()
            await self._machine.wait_until_running(run.name)

        self._do(resume, f"{run.name} does not go on")

    def action_save(self) -> None:
        """Have a checkpoint saved."""
        if self._is_under_way("saved"):
            self._ask_of_run("save")

    def action_stop(self) -> None:
        """Save and stop."""
        if self._is_under_way("stopped"):
            self._ask_of_run("stop")

    def _is_under_way(self, what: str) -> bool:
        run = self.chosen
        if run is not None and run.is_under_way:
            return True
        self.say(f"{run.name} is {run.state}; there is nothing to be {what}" if run else "there is no run yet")
        return False

    def _has_ended(self, what: str) -> RunInfo | None:
        """The chosen run if it has ended; else it is said that it cannot be done yet."""
        run = self.chosen
        if run is None:
            self.say("there is no run yet")
        elif run.is_under_way:
            self.say(f"{run.name} is {run.state} and cannot be {what}; {by_id('run_stop').shown} stops it")
        else:
            return run
        return None

    # Starting.

    def action_start(self) -> None:
        """Open the form, with what was typed there before."""
        self._open_form(None)

    def action_another(self) -> None:
        """Open the form with the chosen run's settings."""
        run = self.chosen
        self._open_form(run.config if run is not None else None)

    def _open_form(self, initial: RunConfig | None) -> None:
        if self._machine.no_runs:
            self.say(self._machine.no_runs)
            return
        from minigpt_tui.screens.train_form import TrainForm
        from minigpt_tui.training.run_draft import RunDraft  # when they are wanted first

        self._notice.dismiss()
        self._draft = self._draft or RunDraft()
        form = TrainForm(initial, draft=self._draft, starter=self._starter_of_runs())
        self.app.push_screen(form, self._start)

    def _starter_of_runs(self) -> RunStarter:
        self._starter = self._starter or self._machine.starter()
        return self._starter

    def _start(self, config: RunConfig | None) -> None:
        """Start what the form says; a run that cannot begin leaves no directory, and the form keeps what was typed."""
        if config is None:
            return
        starter = self._starter_of_runs()
        self._asked[config.name] = "", "starting…"
        self._select(config.name)
        self._show_picture(None)
        self.say(f"{config.name} is starting…")

        async def start() -> None:
            try:
                await starter.start(config)
                await self.refresh_runs()
                await starter.wait_until_running(config.name)
            except LinkLostError as error:
                self._asked.pop(config.name, None)
                await self._learn_whether_it_began(config, error)
            except MiniGPTError as error:
                self._asked.pop(config.name, None)
                self.tell(f"{config.name} could not begin", f"{sentence(error)} Nothing is left of it.", ["run_start"])
            await self.refresh_runs()

        self.run_worker(start(), group="requests")

    async def _learn_whether_it_began(self, config: RunConfig, error: LinkLostError) -> None:
        """The link was lost while a run was started: once it is back, the list says whether it was; and of one that is
        there it is asked what has become of it, as of any that is started.
        """
        name = config.name
        said = f"{sentence(error)} A run that has begun goes on there; once the link is back, it is seen here."
        self.tell(f"Whether {name} has begun is not known yet", said)
        why = ""
        while True:
            await asyncio.sleep(LINK_SECONDS)
            try:
                runs = await self._machine.list_runs()
            except MiniGPTError:
                continue
            is_there = any(
                run.config is not None and (run.name, run.config.created) == (name, config.created) for run in runs
            )
            if why or not is_there:
                break
            try:
                await self._starter_of_runs().wait_until_running(name)
                break
            except LinkLostError:
                continue
            except MiniGPTError as error:
                why = sentence(error)  # whether anything is left of it, the next list tells
        self._notice.dismiss()
        machine = visible_line(self._machine.name)
        if is_there:
            self._select(name)
            if why:
                self.tell(f"{name} has begun on {machine}, and ended", why)
            else:
                self.say(f"{name} has begun on {self._machine.name}")
        elif why:
            self.tell(f"{name} could not begin", f"{why} Nothing is left of it.", ["run_start"])
        else:
            said = f"It is no run of {machine}: the link was lost before it was asked for, or it could not begin there."
            self.tell(f"{name} has not begun", f"{said} Nothing is left of it.", ["run_start"])

    def action_extend(self) -> None:
        """Ask for the number of steps, and go on to it."""
        if (run := self._has_ended("extended")) is None:
            return

        def take(text: str) -> str:
            digits = text.replace(",", "").replace("_", "").strip()
            if not digits.isdecimal() or int(digits) <= run.status.step:
                return f"a whole number above {run.status.step:,}"
            self._resume(run, int(digits))
            return ""

        more = max(run.status.steps, run.status.step) + max(1, run.status.step)
        self._open(f"steps of {run.name} in all", f"it has taken {run.status.step:,}", take, str(more))

    # Keeping order.

    def action_rename(self) -> None:
        """Ask for another name."""
        if (run := self._has_ended("renamed")) is None:
            return

        def take(text: str) -> str:
            name = text.strip()
            try:
                check_run_name(name)
            except RunError as error:
                return visible_line(f"{error.message}; {error.hint}")
            if name != run.name and run.path.with_name(name).exists():
                return f"there is a run {name} already; choose another name"
            if name != run.name:
                self._do(partial(self._rename, run, name), f"{run.name} cannot be renamed")
            return ""

        self._open(f"another name for {run.name}", "enter renames it, esc leaves it", take, run.name)

    async def _rename(self, run: RunInfo, name: str) -> None:
        await self._machine.rename(run.name, name)
        self._runs.marked = tuple(name if marked == run.name else marked for marked in self._runs.marked)
        self._select(name)
        self.say(f"{run.name} is called {name} now")

    def action_remove(self) -> None:
        """Delete the chosen run, if the reader says so twice."""
        if (run := self._has_ended("deleted")) is None:
            return
        self.say(f"looking at what {run.name} takes…")

        async def ask() -> None:
            if (facts := await self._measured(run)) is None:
                return
            count, used = facts
            what = f"y deletes it with {_checkpoint_words(count)}, {size(used)}; esc keeps it"
            self._open(f"delete {run.name}?", what, if_yes(partial(self._remove, run), LEAVES))

        self.run_worker(ask(), group="asking", exclusive=True)

    async def _measured(self, run: RunInfo) -> tuple[int, int] | None:
        """How many checkpoints a run has, and the bytes of all its files; where it cannot be told, that is said."""
        try:
            return await self._machine.measure(run.name)
        except MiniGPTError as error:
            self.tell(f"{run.name} cannot be measured", sentence(error))
            return None

    def _remove(self, run: RunInfo) -> None:
        self.say(f"{run.name} is deleted")
        self._do(lambda: self._machine.remove(run.name), f"{run.name} cannot be deleted")

    def action_prune(self) -> None:
        """Delete the chosen run's checkpoints but the best and the last, if the reader says so."""
        run = self.chosen
        if run is None:
            self.say("there is no run yet")
            return
        self.say(f"looking at what {run.name} takes…")

        async def ask() -> None:
            if (facts := await self._measured(run)) is None:
                return
            count, used = facts
            if count <= 1:
                self.say(f"{run.name} takes {size(used)}; there is nothing to prune")
                return
            what = f"{size(used)} on disk; y keeps the best and the last of {count} checkpoints"
            self._open(f"prune {run.name}?", what, if_yes(partial(self._prune, run), LEAVES))

        self.run_worker(ask(), group="asking", exclusive=True)

    def _prune(self, run: RunInfo) -> None:
        async def prune() -> None:
            count, freed = await self._machine.prune(run.name)
            self.say(f"{_checkpoint_words(count)} of {run.name} went; {size(freed)} are free again")

        self._do(prune, f"{run.name} cannot be pruned")


def _checkpoint_words(count: int) -> str:
    return "one checkpoint" if count == 1 else f"{count or 'no'} checkpoints"
