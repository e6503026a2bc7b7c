"""One text of several beside each other: the character where it parts from the first is marked, and what it has in
common with that one stands back. It knows nothing of the engine, nor of the other columns.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.binding import BindingType
from textual.message import Message
from textual.strip import Strip

from minigpt_tui.actions import Where, bindings
from minigpt_tui.comparing.marks import Mark, Marks
from minigpt_tui.text_document import TextDocument
from minigpt_tui.widgets.text_pane import TextPane


class CompareColumn(TextPane):
    """A text with its marks."""

    DEFAULT_CSS = """
    CompareColumn {
        & > .compare-column--same { color: $quiet; }
        & > .compare-column--parting { color: $background; background: $accent; text-style: bold; }
    }
    """

    COMPONENT_CLASSES: ClassVar[set[str]] = {"compare-column--same", "compare-column--parting"}
    BINDINGS: ClassVar[list[BindingType]] = [*bindings(Where.COLUMN)]

    @dataclass
    class Scrolled(Message):
        """The reader has scrolled to this row; `at_end` tells whether the end is followed."""

        column: CompareColumn
        row: int
        at_end: bool

    @dataclass
    class RowWanted(Message):
        """The reader wants to go to the row of cells above or below."""

        direction: int

    def __init__(self, document: TextDocument, *, id: str | None = None) -> None:
        super().__init__(document, id=id)
        self.is_cell = False
        """Whether it is a small one of a grid: its beginning is what is read, and up and down leave it."""
        self._marks = Marks()
        self._led = False  # whether something else than the reader scrolls it

    def show_marks(self, marks: Marks, changed: int) -> None:
        """Mark what sets this text apart.

        Args:
            marks: All of them.
            changed: The offset from which on they are other than before.
        """
        self._marks = marks
        self.show_change(self.document.row_at(changed))

    def show_change(self, first_row: int) -> None:
        """Repaint what changed; a small one stays at its beginning."""
        self._led, self.following = True, self.following and not self.is_cell
        super().show_change(first_row)
        self._led = False

    def show_all(self) -> None:
        """Repaint everything: another text is here, or another size."""
        self._led = True
        super().show_all()
        if self.is_cell:
            self.scroll_to(y=0, animate=False)
            self.following = False
        self._led = False

    def lead_to(self, row: int, *, at_end: bool) -> None:
        """Scroll as another column does."""
        self._led = True
        self.scroll_to(y=self.max_scroll_y if at_end else min(row, self.max_scroll_y), animate=False)
        self._led = False

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Say where the reader has scrolled to."""
        super().watch_scroll_y(old_value, new_value)
        if not self._led and round(old_value) != round(new_value) and (self.has_focus or self.mouse_hover):
            self.post_message(self.Scrolled(self, round(new_value), self.following))

    def action_up(self) -> None:
        """Scroll up a row, or go to the cell above."""
        if self.is_cell:
            self.post_message(self.RowWanted(-1))
        else:
            super().action_up()

    def action_down(self) -> None:
        """Scroll down a row, or go to the cell below."""
        if self.is_cell:
            self.post_message(self.RowWanted(1))
        else:
            super().action_down()

    def render_line(self, y: int) -> Strip:
        """One row of the view with its marks."""
        strip, row = super().render_line(y), y + self.scroll_offset.y
        document = self.document
        if row >= document.row_count or not document.length:
            return strip
        start, is_last = document.row_start(row), row == document.row_count - 1
        end = document.length if is_last else document.row_start(row + 1)
        if not (stretches := self._marks.stretches(start, end, is_last=is_last)):
            return strip
        styles: dict[Mark, Style] = {
            "same": self.get_component_rich_style("compare-column--same", partial=True),
            "parting": self.get_component_rich_style("compare-column--parting", partial=True),
        }
        for first, last, what in stretches:
            shown = self._shown_index(row, first), self._shown_index(row, last)
            strip = Strip(_restyled(strip, *shown, styles[what]), strip.cell_length)
        return strip.apply_offsets(0, row)

    def _shown_index(self, row: int, place: int) -> int:
        """Where a character of a row is among those that are shown, of which a tab is several."""
        start = self.document.row_start(row)
        before = self.document.text_between(start, start + place)
        if "\t" not in before:
            return place
        index = place
        while self.document.offset_of(row, index) < start + place and index < self.document.width:
            index += 1
        return index


def _restyled(strip: Strip, first: int, last: int, style: Style) -> Iterator[Segment]:
    """The segments of a strip, with another style from one character to another."""
    place = 0
    for text, before, control in strip:
        start, end = min(max(first - place, 0), len(text)), min(max(last - place, 0), len(text))
        if start > 0:
            yield Segment(text[:start], before, control)
        if end > start:
            yield Segment(text[start:end], before + style if before else style, control)
        if end < len(text):
            yield Segment(text[max(start, end) :], before, control)
        place += len(text)
