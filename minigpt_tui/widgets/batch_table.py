"""The results of a batch, one row each: state, prompt, text, tokens, how it ended, speed. It shows what it is given and
says which one the reader has chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import set_cell_size
from textual.content import Content
from textual.events import Click, Resize
from textual.geometry import Region, Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.visual import Visual

from minigpt_tui.batch.results import Result
from minigpt_tui.status_text import FINISHED
from minigpt_tui.text_document import cells
from minigpt_tui.visible import visible_line

SIGNS = {"waiting": "·", "left": "·", "writing": "●", "ended": "✓", "failed": "✗"}
COLOURS = {"waiting": "$quiet", "left": "$quiet", "writing": "$accent", "ended": "$success", "failed": "$text-error"}
WORDS = {"waiting": "waiting", "left": "not begun", "writing": "writing", "failed": "not written"}

SPEED_FROM = 70
"""From so many cells on the speed stands there too."""

READ = 400
"""So many characters of a text are looked at for its row."""


class BatchTable(ScrollView, can_focus=True):
    """A table without lines."""

    DEFAULT_CSS = """
    BatchTable { overflow-x: hidden; overflow-y: auto; scrollbar-size-vertical: 1; }
    """

    selected: reactive[int] = reactive(0)
    """The row of the one that was chosen."""

    empty_text: reactive[str] = reactive("")
    """What stands here while there are none."""

    @dataclass
    class Selected(Message):
        """The reader has chosen a result."""

        row: int

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.results: Sequence[Result] = ()

    def show(self, results: Sequence[Result]) -> None:
        """Show other results, the first of them chosen."""
        self.results, self.selected = results, 0
        self.virtual_size = Size(self.scrollable_content_region.width, len(results))
        self.scroll_home(animate=False)
        self.refresh()

    def on_resize(self, event: Resize) -> None:
        """Keep the chosen one in view."""
        self.virtual_size = Size(self.scrollable_content_region.width, len(self.results))
        self.watch_selected()

    def watch_selected(self) -> None:
        """Bring the chosen one into view."""
        if self.results:
            self.scroll_to_region(Region(0, self.selected, 1, 1), animate=False, force=True)
        self.refresh()

    def on_focus(self) -> None:
        """Mark the chosen row."""
        self.refresh()

    def on_blur(self) -> None:
        """Unmark it."""
        self.refresh()

    def choose(self, row: int) -> None:
        """Choose a row, or the nearest there is."""
        row = max(0, min(len(self.results) - 1, row))
        if self.results and row != self.selected:
            self.selected = row
            self.post_message(self.Selected(row))

    def on_click(self, event: Click) -> None:
        """Choose the one under the mouse."""
        if (offset := event.get_content_offset(self)) is not None:
            row = offset.y + self.scroll_offset.y
            if row < len(self.results):
                self.choose(row)

    def render_line(self, y: int) -> Strip:
        """One result."""
        width, row = self.scrollable_content_region.width, y + self.scroll_offset.y
        if row < len(self.results):
            content = self._row(self.results[row], width, row == self.selected)
        elif not self.results and y < len(lines := self.empty_text.split("\n")):
            content = Content.from_markup(lines[y]).stylize_before("$quiet")
        else:
            return Strip.blank(width, self.rich_style)
        [strip] = Visual.to_strips(self, content, width, 1, self.visual_style, apply_selection=False, pad=True)
        return strip

    def _row(self, result: Result, width: int, here: bool) -> Content:
        right = f" {len(result.tokens):>6,} {self._reason(result):<15.15}"
        if width >= SPEED_FROM:
            speed = f"{result.tokens_per_second:,.0f}" if result.tokens_per_second else "–"
            right += f" {speed:>6} tok/s"
        room = max(12, width - len(right) - 4)
        prompt_room = max(6, room * 2 // 5)
        text = str(result.problem) if result.problem and not result.tokens else result.text[:READ]
        lit = here and self.has_focus
        return Content.assemble(
            ("›" if here else " ", "$accent"),
            (f"{SIGNS[result.state]} ", COLOURS[result.state]),
            (
                _cut(result.prompt[:READ], prompt_room - 1),
                "bold $accent" if lit else "bold" if here else "$prompt-text",
            ),
            " ",
            (_cut(text, room - prompt_room), "" if result.tokens else "$quiet"),
            (right, "" if here else "$quiet"),
        )

    def _reason(self, result: Result) -> str:
        return FINISHED.get(result.finish_reason) or WORDS.get(result.state, "")


def _cut(text: str, width: int) -> str:
    """A text on one line in exactly so many cells."""
    line = visible_line(text)
    return set_cell_size(line, width) if cells(line) <= width else set_cell_size(line, width - 1) + "…"
