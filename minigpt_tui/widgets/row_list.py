"""A list of rows, one of which is chosen: it scrolls, keeps what is chosen by its key when the rows change, and says
what the reader wants. What stands in a row is for its heirs to draw.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Generic, Protocol, TypeVar

from textual.binding import BindingType
from textual.content import Content
from textual.events import Click, Resize
from textual.geometry import Region, Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.visual import Visual

from minigpt_tui.text_document import cells
from minigpt_tui.visible import visible_line


class Row(Protocol):
    """What can be listed."""

    @property
    def key(self) -> str:
        """By which it is chosen; empty for a heading, which cannot be."""


R = TypeVar("R", bound=Row)


class RowList(ScrollView, Generic[R], can_focus=True):
    """A table without lines. An heir draws a row, and binds keys to the actions."""

    DEFAULT_CSS = """
    RowList {
        overflow-x: hidden;
        overflow-y: auto;
        scrollbar-size-vertical: 1;
    }
    """

    BINDINGS: ClassVar[list[BindingType]] = []

    selected: reactive[str] = reactive("")
    """The key of what was chosen; empty for none."""

    empty_text: reactive[str] = reactive("")
    """What stands here while there is nothing, as markup."""

    @dataclass
    class Selected(Message):
        """The reader has chosen something."""

        key: str

    @dataclass
    class OpenRequested(Message):
        """The reader wants it."""

        key: str

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._rows: tuple[R, ...] = ()

    def draw(self, row: R, width: int, *, here: bool) -> Content:
        """One row.

        Args:
            row: What it is of.
            width: Cells.
            here: Whether it is chosen.
        """
        raise NotImplementedError

    @property
    def rows(self) -> tuple[R, ...]:
        """What is shown, in this order."""
        return self._rows

    def show(self, rows: Sequence[R]) -> None:
        """Show other rows; where the chosen one is gone, the one in its place is chosen."""
        before = self.index()
        self._rows = tuple(rows)
        self._fit()
        if self.index() < 0:
            self._choose(max(0, before), 1)
        self.refresh()

    @property
    def chosen(self) -> R | None:
        """The row that was chosen."""
        place = self.index()
        return self._rows[place] if place >= 0 else None

    def index(self) -> int:
        """The place of the chosen row; -1 when it is not there."""
        return next((place for place, row in enumerate(self._rows) if row.key and row.key == self.selected), -1)

    def watch_selected(self) -> None:
        """Bring the chosen row into view, with the heading above it."""
        if (place := self.index()) >= 0:
            above = place > 0 and not self._rows[place - 1].key
            region = Region(0, place - above, 1, 1 + above)
            self.scroll_to_region(region, animate=False, force=True)
        self.refresh()

    def on_resize(self, event: Resize) -> None:
        """Keep the chosen row in view."""
        self._fit()
        self.watch_selected()

    def _fit(self) -> None:
        self.virtual_size = Size(self.scrollable_content_region.width, len(self._rows))

    def on_focus(self) -> None:
        """Mark the chosen row."""
        self.refresh()

    def on_blur(self) -> None:
        """Unmark it."""
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """One row."""
        width, place = self.scrollable_content_region.width, y + self.scroll_offset.y
        lines = self.empty_text.split("\n")
        if place < len(self._rows):
            row = self._rows[place]
            content = self.draw(row, width, here=bool(row.key) and row.key == self.selected)
        elif not self._rows and y < len(lines):
            content = Content.from_markup(lines[y]).stylize_before("$quiet")
        else:
            return Strip.blank(width, self.rich_style)
        [strip] = Visual.to_strips(self, content, width, 1, self.visual_style, apply_selection=False, pad=True)
        return strip

    # What the reader does.

    def _choose(self, place: int, direction: int) -> None:
        """Choose the row at a place, or the nearest behind it that can be chosen, or else before it."""
        if not self._rows:
            if self.selected:
                self.selected = ""
                self.post_message(self.Selected(""))
            return
        place = max(0, min(len(self._rows) - 1, place))
        order = [*range(place, len(self._rows))], [*range(place, -1, -1)]
        there = next((at for way in order[:: 1 if direction > 0 else -1] for at in way if self._rows[at].key), None)
        if there is not None and self._rows[there].key != self.selected:
            self.selected = self._rows[there].key
            self.post_message(self.Selected(self.selected))

    def action_move(self, rows: int) -> None:
        """Choose a row so much further down."""
        self._choose(self.index() + rows, rows)

    def action_page(self, pages: int) -> None:
        """Choose a row a page further down."""
        self.action_move(pages * max(1, self.size.height - 1))

    def action_open(self) -> None:
        """Say that the chosen one is wanted."""
        if self.index() >= 0:
            self.post_message(self.OpenRequested(self.selected))

    def on_click(self, event: Click) -> None:
        """Choose what is under the mouse; twice wants it."""
        if (offset := event.get_content_offset(self)) is None:
            return
        place = offset.y + self.scroll_offset.y
        if place < len(self._rows) and self._rows[place].key:
            self._choose(place, 1)
            if event.chain > 1:
                self.action_open()


def cut(text: str, width: int) -> str:
    """A text on one line and in so many cells: cut, or filled with spaces."""
    text = visible_line(text)
    if cells(text) > width:
        while text and cells(text) > width - 1:
            text = text[:-1]
        text += "…" if width else ""
    return text + " " * (width - cells(text))
