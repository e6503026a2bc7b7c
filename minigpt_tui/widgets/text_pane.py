"""The text as it is written: a view on a `TextDocument` that paints only the rows that changed, follows the end until
the reader scrolls up, and lets text be selected. It knows nothing of the engine.
"""

from __future__ import annotations

from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.binding import BindingType
from textual.cache import LRUCache
from textual.events import Resize
from textual.geometry import Region, Size
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.selection import Selection
from textual.strip import Strip
from textual.widget import Widget

from minigpt_tui.actions import Where, bindings
from minigpt_tui.text_document import Kind, TextDocument, cells

CURSOR = "▌"


class TextPane(ScrollView, can_focus=True):
    """Shows the text and its end."""

    DEFAULT_CSS = """
    TextPane {
        overflow-x: hidden;
        overflow-y: auto;
        scrollbar-gutter: stable;
        scrollbar-size-vertical: 1;
        & > .text-pane--prompt { color: $prompt-text; }
        & > .text-pane--mark { color: $quiet; text-style: italic; }
        & > .text-pane--symbol { color: $quiet; }
        & > .text-pane--cursor { color: $accent; }
        & > .text-pane--empty { color: $quiet; }
    }
    """

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "text-pane--prompt",
        "text-pane--mark",
        "text-pane--symbol",
        "text-pane--cursor",
        "text-pane--empty",
    }

    BINDINGS: ClassVar[list[BindingType]] = [*bindings(Where.TEXT)]

    writing: reactive[bool] = reactive(False, repaint=False)
    """Whether text is being written: a cursor stands at its end."""

    empty_text: reactive[str] = reactive("")
    """What stands in the pane while there is no text."""

    def __init__(self, document: TextDocument, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.document = document
        self.following = True
        self._shown_rows = 1
        self._strips: LRUCache[int, Strip] = LRUCache(150)  # a few screens

    def show_change(self, first_row: int) -> None:
        """Repaint what an append or a truncation changed, and follow the end.

        Args:
            first_row: The first row that is now another.
        """
        for row in [row for row in self._strips.keys() if row >= first_row]:  # noqa: SIM118
            self._strips.discard(row)
        self._update_virtual_size()
        top = self.scroll_offset.y
        if self.following:
            self.scroll_to(y=self.max_scroll_y, animate=False)
        last_row = max(self._shown_rows, self.document.row_count)  # a truncation leaves rows to blank
        self._shown_rows = self.document.row_count
        if self.scroll_offset.y == top:  # else all of it is repainted anyway
            changed = Region(0, first_row - top, self.size.width, last_row - first_row)
            if visible_part := changed.intersection(self.size.region):
                self.refresh(visible_part)

    def show_all(self) -> None:
        """Repaint everything: another text is here."""
        self._strips.clear()
        self._shown_rows = self.document.row_count
        self.following = True
        self._update_virtual_size()
        self.scroll_to(y=self.max_scroll_y, animate=False)
        self.refresh()

    def _update_virtual_size(self) -> None:
        size = Size(self.document.width + 1, self.document.row_count)
        if size != self.virtual_size:
            # Its own watcher would lay out the whole screen anew for each new row; only the scrollbar depends on it.
            self.set_reactive(Widget.virtual_size, size)
            self._scroll_update(size)

    def watch_writing(self) -> None:
        """Draw or remove the cursor."""
        self.show_change(self.document.row_count - 1)

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Stop following when the reader leaves the end, and follow again from there."""
        super().watch_scroll_y(old_value, new_value)
        self.following = round(new_value) >= self.max_scroll_y

    def on_resize(self, event: Resize) -> None:
        """Wrap to the new width; the row on top stays, or the end."""
        width = self.scrollable_content_region.width - 1
        following, top = self.following, self.document.row_start(min(self.scroll_offset.y, self.document.row_count - 1))
        if self.document.resize(width):
            self.screen.clear_selection()
        self._strips.clear()
        self._update_virtual_size()
        row = self.max_scroll_y if following else self.document.row_at(top)
        self.scroll_to(y=row, animate=False)
        self.following = following
        self.refresh()

    def notify_style_update(self) -> None:
        """Colours changed."""
        super().notify_style_update()
        self._strips.clear()

    def render_line(self, y: int) -> Strip:
        """One row of the view."""
        row = y + self.scroll_offset.y
        selection = self.text_selection
        if selection is None and (strip := self._strips.get(row)) is not None:
            return strip
        width, style = self.size.width, self.rich_style
        if not self.document.length and not self.writing:
            return self._empty_line(y, width, style)
        if row >= self.document.row_count:
            strip = Strip.blank(width, style)
        elif selection is not None:
            return self._row_strip(row, width, style, selection.get_span(row))
        else:
            strip = self._row_strip(row, width, style, None)
        self._strips[row] = strip
        return strip

    def _row_strip(self, row: int, width: int, style: Style, span: tuple[int, int] | None) -> Strip:
        styles = {
            Kind.PROMPT: style + self.get_component_rich_style("text-pane--prompt", partial=True),
            Kind.GENERATED: style,
            Kind.MARK: style + self.get_component_rich_style("text-pane--mark", partial=True),
        }
        symbol = self.get_component_rich_style("text-pane--symbol", partial=True)
        segments = [
            Segment(piece.text, styles[piece.kind] + symbol if piece.symbol else styles[piece.kind])
            for piece in self.document.pieces(row)
        ]
        used = sum(cells(segment.text) for segment in segments)
        if self.writing and row == self.document.row_count - 1:
            segments.append(Segment(CURSOR, style + self.get_component_rich_style("text-pane--cursor", partial=True)))
            used += 1
        if span is not None:
            segments = self._selected(segments, *span)
        segments.append(Segment(" " * max(0, width - used), style))
        return Strip(segments).adjust_cell_length(width, style).apply_offsets(0, row)

    def _selected(self, segments: list[Segment], start: int, end: int) -> list[Segment]:
        chosen = self.screen.get_component_rich_style("screen--selection")
        found, place = [], 0
        for text, style, _ in segments:
            first = min(max(start - place, 0), len(text))
            last = len(text) if end < 0 else min(max(end - place, first), len(text))
            for part, part_style in (
                (text[:first], style),
                (text[first:last], style + chosen if style else chosen),
                (text[last:], style),
            ):
                if part:
                    found.append(Segment(part, part_style))
            place += len(text)
        return found

    def _empty_line(self, y: int, width: int, style: Style) -> Strip:
        lines = self.empty_text.split("\n")
        index = y - max(0, (self.size.height - len(lines)) // 2)
        if not 0 <= index < len(lines):
            return Strip.blank(width, style)
        text = lines[index].center(width)[:width]
        return Strip([Segment(text, style + self.get_component_rich_style("text-pane--empty", partial=True))])

    def get_selection(self, selection: Selection) -> tuple[str, str] | None:
        """The selected text as it is: no marks, no line ends where a row was merely full."""
        document = self.document
        start = 0 if selection.start is None else document.offset_of(selection.start.y, selection.start.x)
        end = document.length if selection.end is None else document.offset_of(selection.end.y, selection.end.x)
        return document.text_between(start, end), "\n"

    def action_up(self) -> None:
        """Scroll up a row."""
        self.scroll_relative(y=-1, animate=False)

    def action_down(self) -> None:
        """Scroll down a row."""
        self.scroll_relative(y=1, animate=False)

    def action_page_up(self) -> None:
        """Scroll up a page, but for one row."""
        self.scroll_relative(y=1 - self.size.height, animate=False)

    def action_page_down(self) -> None:
        """Scroll down a page, but for one row."""
        self.scroll_relative(y=self.size.height - 1, animate=False)

    def action_to_start(self) -> None:
        """Go to the start of the text."""
        self.scroll_to(y=0, animate=False)

    def action_to_end(self) -> None:
        """Go to the end, and follow it."""
        self.scroll_to(y=self.max_scroll_y, animate=False)
