"""Rows, one of which is chosen: how they are painted and scroll, and how keys and mouse choose one. What the rows are,
and by what one is known, is for its heirs to say.
"""

from __future__ import annotations

from textual.content import Content
from textual.events import Click, Resize
from textual.geometry import Region, Size
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.visual import Visual


class LineList(ScrollView, can_focus=True):
    """A table without lines. An heir has a reactive `selected`, and binds keys to the actions."""

    DEFAULT_CSS = """
    LineList {
        overflow-x: hidden;
        overflow-y: auto;
        scrollbar-size-vertical: 1;
    }
    """

    empty_text: reactive[str] = reactive("")
    """What stands here while there is nothing, as markup."""

    # What an heir says.

    @property
    def count(self) -> int:
        """How many rows there are."""
        raise NotImplementedError

    def index(self) -> int:
        """The place of the chosen row; -1 when it is not there."""
        raise NotImplementedError

    def line(self, place: int, width: int) -> Content:
        """What stands in a row.

        Args:
            place: Of the row.
            width: Cells.
        """
        raise NotImplementedError

    def choose(self, place: int) -> None:
        """Choose the row at a place, or the nearest there is."""
        raise NotImplementedError

    def action_open(self) -> None:
        """Say that the chosen row is wanted, where that means something."""

    def first_in_sight(self, place: int) -> int:
        """The row above which nothing need be seen of the row at a place: itself, or its heading."""
        return place

    def empty_lines(self) -> list[str]:
        """What stands here while there is nothing, as markup, line by line."""
        return self.empty_text.split("\n")

    # How they are painted.

    def _fit(self) -> None:
        self.virtual_size = Size(self.scrollable_content_region.width, self.count)

    def watch_selected(self) -> None:
        """Bring the chosen row into view."""
        if (place := self.index()) >= 0:
            first = self.first_in_sight(place)
            self.scroll_to_region(Region(0, first, 1, place - first + 1), animate=False, force=True)
        self.refresh()

    def on_resize(self, _event: Resize) -> None:
        """Keep the chosen row in view."""
        self._fit()
        self.watch_selected()

    def on_focus(self) -> None:
        """Mark the chosen row."""
        self.refresh()

    def on_blur(self) -> None:
        """Unmark it."""
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """One row."""
        width, place = self.scrollable_content_region.width, y + self.scroll_offset.y
        if place < self.count:
            content = self.line(place, width)
        elif not self.count and y < len(lines := self.empty_lines()):
            content = Content.from_markup(lines[y]).stylize_before("$quiet")
        else:
            return Strip.blank(width, self.rich_style)
        [strip] = Visual.to_strips(self, content, width, 1, self.visual_style, apply_selection=False, pad=True)
        return strip

    # What the reader does.

    def action_move(self, rows: int) -> None:
        """Choose a row so many further down."""
        self.choose(self.index() + rows)

    def action_page(self, pages: int) -> None:
        """Choose a row a page further down."""
        self.action_move(pages * max(1, self.size.height - 1))

    def on_click(self, event: Click) -> None:
        """Something under the mouse is wanted."""
        offset = event.get_content_offset(self)
        if offset is not None and (place := offset.y + self.scroll_offset.y) < self.count:
            self.clicked(place, offset.x, event.chain)

    def clicked(self, place: int, column: int, times: int) -> None:
        """Choose the row under the mouse; twice wants it.

        Args:
            place: Of the row.
            column: Of the cell in it.
            times: So many clicks were made there in a row.
        """
        self.choose(place)
        if times > 1 and self.index() == place:
            self.action_open()
