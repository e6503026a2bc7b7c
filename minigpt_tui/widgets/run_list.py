"""All training runs, one row each: state, name, loss, age, and more where there is room. It shows what it is given,
keeps its selection by name when the order changes, and says which run the reader wants.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from textual.binding import BindingType
from textual.content import Content
from textual.events import Click, Resize
from textual.geometry import Region, Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.visual import Visual

from engine.training.runs import RunInfo
from minigpt_tui.actions import Where, bindings
from minigpt_tui.text_document import cells
from minigpt_tui.training.run_words import COLOURS, SIGNS, age_text, loss_text
from minigpt_tui.visible import visible_line

WORDS_FROM = 44
"""From so many cells on each state stands there in words."""

STEPS_FROM = 60
"""From so many cells on the steps stand there too."""

WORTH_A_WORD = ("crashed", "paused", "starting")
"""States that stand in the place of the age in a narrow list."""


class RunList(ScrollView, can_focus=True):
    """A table without lines."""

    DEFAULT_CSS = """
    RunList {
        overflow-x: hidden;
        overflow-y: auto;
        scrollbar-size-vertical: 1;
    }
    """

    BINDINGS: ClassVar[list[BindingType]] = [*bindings(Where.RUNS)]

    runs: reactive[tuple[RunInfo, ...]] = reactive(())
    """What is shown, in this order."""

    selected: reactive[str] = reactive("")
    """The name of the run that was chosen; empty for none."""

    marked: reactive[tuple[str, ...]] = reactive(())
    """The names of the runs whose curves are laid over the chosen one's."""

    empty_text: reactive[str] = reactive("")
    """What stands here while there are none."""

    @dataclass
    class Selected(Message):
        """The reader has chosen a run."""

        name: str

    class OpenRequested(Message):
        """The reader wants to go to the chosen run."""

    def index(self) -> int:
        """The row of the chosen run; -1 when it is not there."""
        return next((place for place, run in enumerate(self.runs) if run.name == self.selected), -1)

    def watch_runs(self) -> None:
        """The list may be longer now."""
        self.virtual_size = Size(self.scrollable_content_region.width, len(self.runs))
        self.refresh()

    def watch_selected(self) -> None:
        """Bring the chosen run into view."""
        if (row := self.index()) >= 0:
            self.scroll_to_region(Region(0, row, 1, 1), animate=False, force=True)
        self.refresh()

    def on_resize(self, event: Resize) -> None:
        """Keep the chosen run in view."""
        self.virtual_size = Size(self.scrollable_content_region.width, len(self.runs))
        self.watch_selected()

    def on_focus(self) -> None:
        """Mark the selected row."""
        self.refresh()

    def on_blur(self) -> None:
        """Unmark it."""
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """One run."""
        width, row = self.scrollable_content_region.width, y + self.scroll_offset.y
        if row < len(self.runs):
            content = self._row(self.runs[row], width)
        elif not self.runs and y < len(lines := self._empty_lines()):
            content = Content.from_markup(lines[y]).stylize_before("$quiet")
        else:
            return Strip.blank(width, self.rich_style)
        [strip] = Visual.to_strips(self, content, width, 1, self.visual_style, apply_selection=False, pad=True)
        return strip

    def _empty_lines(self) -> list[str]:
        """What is said where there is no run; in a low list without the lines around it."""
        return (self.empty_text if self.size.height > 2 else self.empty_text.strip("\n")).split("\n")

    def _row(self, run: RunInfo, width: int) -> Content:
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
        name = visible_line(run.name)
        while cells(name) > room:
            name = name.removesuffix("…")[:-1] + "…"
        lit = here and self.has_focus
        return Content.assemble(
            ("›" if here else " ", "$accent"),
            (f"{SIGNS[run.state]} ", COLOURS[run.state]),
            (name + " " * (room - cells(name)), f"bold {'$accent' if lit else ''}" if here else ""),
            (mark, "$accent"),
            (right, "" if here else "$quiet"),
        )

    # What the reader does.

    def _choose(self, row: int) -> None:
        if self.runs:
            name = self.runs[max(0, min(len(self.runs) - 1, row))].name
            if name != self.selected:
                self.selected = name
                self.post_message(self.Selected(name))

    def action_move(self, rows: int) -> None:
        """Choose a run so many rows further down."""
        self._choose(self.index() + rows)

    def action_page(self, pages: int) -> None:
        """Choose a run a page further down."""
        self.action_move(pages * max(1, self.size.height - 1))

    def action_open(self) -> None:
        """Go to the chosen run."""
        self.post_message(self.OpenRequested())

    def on_click(self, event: Click) -> None:
        """Choose the run under the mouse; twice goes to it."""
        if (offset := event.get_content_offset(self)) is None:
            return
        row = offset.y + self.scroll_offset.y
        if row < len(self.runs):
            self._choose(row)
            if event.chain > 1:
                self.action_open()
