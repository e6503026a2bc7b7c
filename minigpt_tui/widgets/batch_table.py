"""The results of a batch, one row each: state, prompt, text, tokens, how it ended, speed. It shows what it is given and
says which one the reader has chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import set_cell_size
from textual.content import Content
from textual.message import Message
from textual.reactive import reactive

from minigpt_tui.batch.results import Result
from minigpt_tui.status_text import FINISHED
from minigpt_tui.text_document import cells
from minigpt_tui.visible import visible_line
from minigpt_tui.widgets.line_list import LineList

SIGNS = {"waiting": "·", "left": "·", "writing": "●", "ended": "✓", "failed": "✗"}
COLOURS = {"waiting": "$quiet", "left": "$quiet", "writing": "$accent", "ended": "$success", "failed": "$text-error"}
WORDS = {"waiting": "waiting", "left": "not begun", "writing": "writing", "failed": "not written"}

SPEED_FROM = 70
"""From so many cells on the speed stands there too."""

READ = 400
"""So many characters of a text are looked at for its row."""


class BatchTable(LineList):
    """A table without lines."""

    selected: reactive[int] = reactive(0)
    """The row of the one that was chosen."""

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
        self._fit()
        self.scroll_home(animate=False)
        self.refresh()

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.results)

    def index(self) -> int:
        """The row of the one that was chosen; -1 while there are none."""
        return self.selected if self.results else -1

    def choose(self, place: int) -> None:
        """Choose the result at a place, or the nearest there is."""
        place = max(0, min(len(self.results) - 1, place))
        if self.results and place != self.selected:
            self.selected = place
            self.post_message(self.Selected(place))

    def line(self, place: int, width: int) -> Content:
        """One result."""
        result, here = self.results[place], place == self.selected
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
