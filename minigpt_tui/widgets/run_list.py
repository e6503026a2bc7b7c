"""All training runs, one row each: state, name, loss, age, and more where there is room. It shows what it is given,
keeps its selection by name when the order changes, and says which run the reader wants.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from textual.binding import BindingType
from textual.content import Content
from textual.message import Message
from textual.reactive import reactive

from engine.training.runs import RunInfo
from minigpt_tui.actions import Where, bindings
from minigpt_tui.training.run_words import COLOURS, SIGNS, age_text, loss_text
from minigpt_tui.widgets.line_list import LineList
from minigpt_tui.widgets.row_list import cut

WORDS_FROM = 44
"""From so many cells on each state stands there in words."""

STEPS_FROM = 60
"""From so many cells on the steps stand there too."""

WORTH_A_WORD = ("crashed", "paused", "starting")
"""States that stand in the place of the age in a narrow list."""


class RunList(LineList):
    """A table without lines."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings(Where.RUNS)]

    runs: reactive[tuple[RunInfo, ...]] = reactive(())
    """What is shown, in this order."""

    selected: reactive[str] = reactive("")
    """The name of the run that was chosen; empty for none."""

    marked: reactive[tuple[str, ...]] = reactive(())
    """The names of the runs whose curves are laid over the chosen one's."""

    @dataclass
    class Selected(Message):
        """The reader has chosen a run."""

        name: str

    class OpenRequested(Message):
        """The reader wants to go to the chosen run."""

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.runs)

    def index(self) -> int:
        """The row of the chosen run; -1 when it is not there."""
        return next((place for place, run in enumerate(self.runs) if run.name == self.selected), -1)

    def watch_runs(self) -> None:
        """The list may be longer now."""
        self._fit()
        self.refresh()

    def empty_lines(self) -> list[str]:
        """In a low list without the lines around it."""
        return (self.empty_text if self.size.height > 2 else self.empty_text.strip("\n")).split("\n")

    def line(self, place: int, width: int) -> Content:
        """One run."""
        run = self.runs[place]
        here = run.name == self.selected
        status = run.status
        word = run.state if width >= WORDS_FROM else ""
        right = f" {loss_text(run.loss)} {age_text(run):>4} "
        if not word and run.state in WORTH_A_WORD:
            right = f" {run.state:>11} "
        if width >= STEPS_FROM:
            of = f"{status.step:,} of {status.steps:,}" if status.steps else f"{status.step:,}"
            right = f"{of:>22} {right}"
        if word:
            right = f" {word:<8}{right}"
        mark = "+" if run.name in self.marked else " "
        room = max(4, width - len(right) - 4)
        lit = here and self.has_focus
        return Content.assemble(
            ("›" if here else " ", "$accent"),
            (f"{SIGNS[run.state]} ", COLOURS[run.state]),
            (cut(run.name, room), f"bold {'$accent' if lit else ''}" if here else ""),
            (mark, "$accent"),
            (right, "" if here else "$quiet"),
        )

    # What the reader does.

    def choose(self, place: int) -> None:
        """Choose the run at a place, or the nearest there is."""
        if self.runs:
            name = self.runs[max(0, min(len(self.runs) - 1, place))].name
            if name != self.selected:
                self.selected = name
                self.post_message(self.Selected(name))

    def action_open(self) -> None:
        """Go to the chosen run."""
        self.post_message(self.OpenRequested())
