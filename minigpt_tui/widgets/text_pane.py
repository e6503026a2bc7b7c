"""The text as it is written: a view on a `TextDocument` that paints only the rows that changed, follows the end until
the reader scrolls up, and lets text be selected. It may be coloured, and have a cursor that others move. It knows
nothing of the engine, nor of what the colours mean.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.binding import BindingType
from textual.cache import LRUCache
from textual.events import Click, Resize
from textual.geometry import Offset, Region, Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.selection import Selection
from textual.strip import Strip
from textual.widget import Widget

from minigpt_tui.actions import Where, bindings
from minigpt_tui.text_document import Kind, TextDocument, cells
from minigpt_tui.widgets.selected_cells import with_selection

CURSOR = "▌"
LINE_END = "↵"
"""Stands for a newline where each token is looked at."""


@dataclass(frozen=True)
class Colouring:
    """How the text is coloured.

    Attributes:
        stretches: Tells for two offsets of the document which stretches between them are coloured: start, end, and the
            place of their style; in order.
        styles: What is laid over the plain text.
    """

    stretches: Callable[[int, int], list[tuple[int, int, int]]]
    styles: tuple[Style, ...]


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
        & > .text-pane--place { color: $background; background: $accent; text-style: bold; }
        & > .text-pane--empty { color: $quiet; }
    }
    """

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "text-pane--prompt",
        "text-pane--mark",
        "text-pane--symbol",
        "text-pane--cursor",
        "text-pane--place",
        "text-pane--empty",
    }

    BINDINGS: ClassVar[list[BindingType]] = [*bindings(Where.TEXT)]

    writing: reactive[bool] = reactive(False, repaint=False)
    """Whether text is being written: a cursor stands at its end."""

    empty_text: reactive[str] = reactive("")
    """What stands in the pane while there is no text."""

    @dataclass
    class Clicked(Message):
        """The reader clicked on the text, at this offset of the document."""

        offset: int

    class Replaced(Message):
        """Another text is here."""

    def __init__(self, document: TextDocument, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._colouring: Colouring | None = None
        self._place: tuple[int, int] | None = None
        self.document = document
        self.following = True
        self._selected_rows = (0, 0)  # where a selection by keys began, and where it is
        self._shown_rows = 1
        self._strips: LRUCache[int, Strip] = LRUCache(150)  # a few screens

    @property
    def colouring(self) -> Colouring | None:
        """How the text is coloured; None where it is as plain as it was written."""
        return self._colouring

    @colouring.setter
    def colouring(self, colouring: Colouring | None) -> None:
        self._colouring = colouring
        self._strips.clear()
        self.refresh()

    @property
    def place(self) -> tuple[int, int] | None:
        """Between which offsets of the document the cursor stands; None where there is none."""
        return self._place

    def set_place(self, place: tuple[int, int] | None, *, seen: bool = True) -> None:
        """Move the cursor; while there is one, the keys that scroll are left to whoever moves it.

        Args:
            place: Between which offsets it stands; the end of the text, where both are that.
            seen: Whether to scroll to it.
        """
        before, self._place = self._place, place
        for start, end in {*(found for found in (before, place) if found is not None)}:
            first, last = self.document.row_at(start), self.document.row_at(max(start, end - 1))
            for row in range(first, last + 1):
                self._strips.discard(row)
            self.refresh(Region(0, first - self.scroll_offset.y, self.size.width, last + 1 - first))
        if place is None:
            self.following = self.scroll_offset.y >= self.max_scroll_y
        elif seen:
            row = self.document.row_at(place[0])
            top, height = self.scroll_offset.y, max(1, self.size.height)
            if not top <= row < top + height:
                self.scroll_to(y=row if row < top else row - height + 1, animate=False, immediate=True)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Where there is a cursor, the keys that scroll move it."""
        return self._place is None or not hasattr(TextPane, f"action_{action}")

    def on_click(self, event: Click) -> None:
        """Say where."""
        offset = event.get_content_offset(self)
        if offset is not None and self.document.length:
            row = offset.y + self.scroll_offset.y
            behind = row >= self.document.row_count
            place = self.document.length if behind else self.document.offset_in_cells(row, offset.x)
            self.post_message(self.Clicked(place))

    def show_change(self, first_row: int) -> None:
        """Repaint what an append or a truncation changed, and follow the end.

        Args:
            first_row: The first row that is now another.
        """
        for row in [row for row in self._strips.keys() if row >= first_row]:  # noqa: SIM118
            self._strips.discard(row)
        self._update_virtual_size()
        top = self.scroll_offset.y
        if self.following and self._place is None:  # the cursor stays in sight
            self.scroll_to(y=self.max_scroll_y, animate=False)
        last_row = max(self._shown_rows, self.document.row_count)  # a truncation leaves rows to blank
        self._shown_rows = self.document.row_count
        if self.scroll_offset.y == top:  # else all of it is repainted anyway
            changed = Region(0, first_row - top, self.size.width, last_row - first_row)
            if visible_part := changed.intersection(self.size.region):
                self.refresh(visible_part)

    def show_all(self) -> None:
        """Repaint everything: another text is here."""
        if self._place is not None and self._place[1] > self.document.length:
            self._place = self.document.length, self.document.length  # until it is moved
        self.post_message(self.Replaced())
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
        if self._colouring is None and self._place is None:
            segments = [
                Segment(piece.text, styles[piece.kind] + symbol if piece.symbol else styles[piece.kind])
                for piece in self.document.pieces(row)
            ]
        else:
            segments = self._coloured(row, styles, symbol)
        used = sum(cells(segment.text) for segment in segments)
        if self.writing and row == self.document.row_count - 1:
            segments.append(Segment(CURSOR, style + self.get_component_rich_style("text-pane--cursor", partial=True)))
            used += 1
        if span is not None:
            segments = with_selection(segments, span, self.screen.get_component_rich_style("screen--selection"))
        segments.append(Segment(" " * max(0, width - used), style))
        return Strip(segments).adjust_cell_length(width, style).apply_offsets(0, row)

    def _coloured(self, row: int, styles: dict[Kind, Style], symbol: Style) -> list[Segment]:
        document, place, plain = self.document, self._place, styles[Kind.GENERATED]
        here = self.get_component_rich_style("text-pane--place", partial=True)
        if self.app.no_color or here.bgcolor is None or here.bgcolor.is_default:
            here = Style(reverse=True, bold=True)
        start = document.row_start(row)
        is_last = row == document.row_count - 1
        end = document.length if is_last else document.row_start(row + 1)
        colouring = self._colouring
        stretches = colouring.stretches(start, end) if colouring else []
        begins = [stretch[0] for stretch in stretches]
        cuts = sorted({*begins, *(stretch[1] for stretch in stretches), *(place or ())})

        def styled(offset: int, length: int, style: Style) -> Style:
            found = bisect_right(begins, offset) - 1
            if colouring is not None and found >= 0 and offset < stretches[found][1]:
                style = style + colouring.styles[stretches[found][2]]
            at_place = place is not None and place[0] < offset + length and offset < max(place[1], place[0] + 1)
            return style + here if at_place else style

        segments = []
        offset = start
        for offset, piece in document.placed(row, cuts):
            style = styles[Kind.MARK] if piece.kind is Kind.MARK else plain
            if piece.kind is not Kind.MARK:
                style = styled(offset, 1 if piece.text.isspace() else len(piece.text), style)
            segments.append(Segment(piece.text, style + symbol if piece.symbol else style))
        if document.ends_line(row):
            segments.append(Segment(LINE_END, styled(end - 1, 1, plain + symbol)))
        elif is_last and place is not None and place[0] >= document.length:
            segments.append(Segment(" ", plain + here))
        return segments

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

    def action_select_all(self) -> None:
        """Select the whole text."""
        self.text_select_all()

    def action_select_rows(self, direction: int) -> None:
        """Select a row more or a row less, from the first row in view, or upwards from the last."""
        rows, top = self.document.row_count, self.scroll_offset.y
        if self.text_selection is None:
            begin = top if direction > 0 else min(rows, top + self.size.height)
            self._selected_rows = (begin, begin)
        anchor, head = self._selected_rows
        head = max(0, min(rows, head + direction))
        self._selected_rows = (anchor, head)
        if anchor == head:
            self.screen.clear_selection()
            return
        first, last = sorted((anchor, head))
        end = None if last >= rows else Offset(0, last)
        self.screen.selections = {self: Selection(Offset(0, first), end)}
        self.scroll_to_region(Region(0, head - 1 if direction > 0 else head, 1, 1), animate=False, force=True)

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
