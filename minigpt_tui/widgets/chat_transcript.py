"""What was said, turn by turn: names, words, remarks, and a quiet line where the model stops seeing it. One turn is
chosen; the end is followed until the reader scrolls up. It knows nothing of the engine, nor of files.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from rich.segment import Segment
from rich.style import Style
from textual.binding import BindingType
from textual.events import Click, Resize
from textual.geometry import Region, Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.selection import Selection
from textual.strip import Strip
from textual.widget import Widget

from minigpt_tui.actions import Where, bindings
from minigpt_tui.text_document import Kind, TextDocument, cells
from minigpt_tui.visible import visible_line
from minigpt_tui.widgets.selected_cells import with_selection

CURSOR = "▌"
INDENT = 2
"""Cells before the words, in which the sign of the chosen turn stands."""


class Block(NamedTuple):
    """A turn as it is shown.

    Attributes:
        key: What it is chosen by.
        name: Who speaks.
        text: The words.
        own: Whether the reader speaks.
        note: A few words at the right of the name.
        remarks: Lines below the words.
        live: Whether it is being written.
    """

    key: int
    name: str
    text: str
    own: bool
    note: str = ""
    remarks: tuple[str, ...] = ()
    live: bool = False


class Sight(NamedTuple):
    """Where the model begins to see.

    Attributes:
        block: The place of the first turn that it sees.
        offset: How many characters of its words it does not see.
        words: What stands on the line there.
    """

    block: int
    offset: int
    words: str


class _Row(NamedTuple):
    """What stands on one row: of which block, and which of its rows; -1 is the name, -2 the edge."""

    place: int
    row: int


NAME, EDGE = -1, -2


class ChatTranscript(ScrollView, can_focus=True):
    """The turns of a conversation."""

    DEFAULT_CSS = """
    ChatTranscript {
        overflow-x: hidden;
        overflow-y: auto;
        scrollbar-gutter: stable;
        scrollbar-size-vertical: 1;
        & > .chat-transcript--own { color: $prompt-text; }
        & > .chat-transcript--quiet { color: $quiet; }
        & > .chat-transcript--mark { color: $accent; }
    }
    """

    COMPONENT_CLASSES: ClassVar[set[str]] = {f"chat-transcript--{part}" for part in ("own", "quiet", "mark")}

    BINDINGS: ClassVar[list[BindingType]] = [*bindings(Where.TURN)]

    empty_text: reactive[str] = reactive("")
    """What stands here while nothing is said."""

    chosen: reactive[int] = reactive(-1)
    """The place of the turn that keys act on; -1 where there is none."""

    @dataclass
    class Chosen(Message):
        """The reader went to a turn."""

        key: int

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.following = True
        self.blocks: tuple[Block, ...] = ()
        self._sight: Sight | None = None
        self._documents: list[TextDocument] = []
        self._tops: list[int] = []  # the row of each block's name
        self._count = 0

    # What is shown.

    def show(self, blocks: Sequence[Block], sight: Sight | None) -> None:
        """Show these turns.

        Args:
            blocks: In order.
            sight: Where the model begins to see; None where it sees all, or that is not known.
        """
        before, chosen, first = self.blocks, self.key, self._first_change(tuple(blocks), sight)
        self.blocks, self._sight = tuple(blocks), sight
        kept = {block.key: document for block, document in zip(before, self._documents, strict=True)}
        self._documents = [self._document(block, kept.get(block.key)) for block in self.blocks]
        keys = [block.key for block in self.blocks]
        if chosen in keys and (len(keys) == len(before) or self.chosen < len(before) - 1):
            self.set_reactive(ChatTranscript.chosen, keys.index(chosen))
        else:
            self.set_reactive(ChatTranscript.chosen, len(keys) - 1)
        self._arrange(first)

    def show_last(self, block: Block) -> bool:
        """Show the last turn as it is now; False where it is not the last one that is shown.

        Args:
            block: It, as it grows.
        """
        if not self.blocks or self.blocks[-1].key != block.key:
            return False
        first = self._end_of_words(len(self.blocks) - 1, block)
        self.blocks = (*self.blocks[:-1], block)
        self._documents[-1] = self._document(block, self._documents[-1])
        self._arrange(first, len(self.blocks) - 1)
        return True

    def _first_change(self, blocks: tuple[Block, ...], sight: Sight | None) -> int:
        """The first row that is another when these turns are shown: most often it is the end of the last one."""
        if sight != self._sight or len(blocks) != len(self.blocks):
            return 0
        place = next((n for n, (old, new) in enumerate(zip(self.blocks, blocks, strict=True)) if old != new), None)
        if place is None:
            return self._count
        return self._end_of_words(place, blocks[place])

    def _end_of_words(self, place: int, new: Block) -> int:
        """The first row that is another when a block has grown; that of its name where it is another altogether."""
        old = self.blocks[place]
        if old._replace(text=new.text) != new or not new.text.startswith(old.text):
            return self._tops[place]
        return self._tops[place] + self._height(place) - len(old.remarks) - 1

    @property
    def key(self) -> int | None:
        """What the chosen turn is chosen by."""
        return self.blocks[self.chosen].key if 0 <= self.chosen < len(self.blocks) else None

    def choose(self, key: int) -> None:
        """Go to a turn."""
        keys = [block.key for block in self.blocks]
        if key in keys:
            self.chosen = keys.index(key)

    def _document(self, block: Block, document: TextDocument | None) -> TextDocument:
        """Its words, wrapped; what is still the same is not wrapped anew."""
        text = block.text.rstrip("\n")
        if document is None:
            document = TextDocument(self._width)
        shown = document.text()
        if not text.startswith(shown):
            document.clear()
            shown = ""
        document.append(text[len(shown) :], Kind.PROMPT if block.own else Kind.GENERATED)
        return document

    @property
    def _width(self) -> int:
        return self.scrollable_content_region.width - INDENT - 1

    def _arrange(self, first: int = 0, block: int = 0) -> None:
        """Find the row of each turn, follow the end, and repaint what changed.

        Args:
            first: The first row that is another.
            block: The first turn whose height is another.
        """
        top, count = self.scroll_offset.y, self._count
        row = self._tops[block] if block else 0
        del self._tops[block:]
        for place in range(block, len(self.blocks)):
            self._tops.append(row)
            row += self._height(place) + 1
        self._count = max(0, row - 1)
        size = Size(self.scrollable_content_region.width, self._count)
        if size != self.virtual_size:
            # Its own watcher would lay out the whole screen anew for each new row; only the scrollbar depends on it.
            self.set_reactive(Widget.virtual_size, size)
            self._scroll_update(size)
        if self.following:
            self.scroll_to(y=self.max_scroll_y, animate=False)
        if not first:
            self.refresh()
        elif self.scroll_offset.y == top:  # else all of it is repainted anyway
            changed = Region(0, first - top, self.size.width, max(count, self._count) - first)
            if seen := changed.intersection(self.size.region):
                self.refresh(seen)

    def _edge_row(self, place: int) -> int | None:
        """The row of its words before which the edge stands in a block: NAME for before its name, None for nowhere."""
        sight = self._sight
        if sight is None or sight.block != place:
            return None
        document = self._documents[place]
        return NAME if sight.offset <= 0 else document.row_at(min(sight.offset, document.length))

    def _height(self, place: int) -> int:
        """The rows of a block, without the empty one below it."""
        block, document = self.blocks[place], self._documents[place]
        return 1 + document.row_count + len(block.remarks) + (self._edge_row(place) is not None)

    def _row_of(self, place: int, inner: int) -> int:
        """What stands on a row of a block: NAME, EDGE, or a row of its words and, behind them, its remarks."""
        edge = self._edge_row(place)
        if edge is None or inner <= edge:
            return inner - 1
        return EDGE if inner == edge + 1 else inner - 2

    # How it scrolls.

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Stop following when the reader leaves the end, and follow again from there."""
        super().watch_scroll_y(old_value, new_value)
        self.following = round(new_value) >= self.max_scroll_y

    def on_resize(self, event: Resize) -> None:
        """Wrap to the new width; the turn on top stays, or the end."""
        following = self.following
        top = self._at(self.scroll_offset.y)
        changed = [document.resize(self._width) for document in self._documents]
        if any(changed):
            self.screen.clear_selection()
        self._arrange()
        if not following and top is not None:
            self.scroll_to(y=self._tops[top.place], animate=False)
        self.following = following

    def watch_chosen(self) -> None:
        """Bring the turn into view: its end where it is short, its beginning where it is long."""
        if not 0 <= self.chosen < len(self.blocks):
            return
        first, rows = self._tops[self.chosen], self._height(self.chosen)
        top, height = self.scroll_offset.y, max(1, self.size.height)
        if first < top or rows > height:
            self.scroll_to(y=first, animate=False)
        elif first + rows > top + height:
            self.scroll_to(y=first + rows - height, animate=False)
        self.refresh()
        self.post_message(self.Chosen(self.blocks[self.chosen].key))

    def on_focus(self) -> None:
        """Mark the chosen turn."""
        self.refresh()

    def on_blur(self) -> None:
        """Unmark it."""
        self.refresh()

    # Drawing.

    def _at(self, row: int) -> _Row | None:
        """What stands on a row; None for nothing."""
        if not 0 <= row < self._count:
            return None
        place = bisect_right(self._tops, row) - 1
        inner = row - self._tops[place]
        return _Row(place, self._row_of(place, inner)) if inner < self._height(place) else None

    def render_line(self, y: int) -> Strip:
        """One row of the view."""
        width, style = self.size.width, self.rich_style
        row = y + self.scroll_offset.y
        if not self.blocks:
            return self._empty_line(y, width, style)
        found = self._at(row)
        segments = self._segments(found, width, style) if found is not None else []
        used = sum(cells(segment.text) for segment in segments)
        if (selection := self.text_selection) is not None and (span := selection.get_span(row)) is not None:
            segments = with_selection(segments, span, self.screen.get_component_rich_style("screen--selection"))
        segments.append(Segment(" " * max(0, width - used), style))
        return Strip(segments).adjust_cell_length(width, style).apply_offsets(0, row)

    def _segments(self, found: _Row, width: int, style: Style) -> list[Segment]:
        block, document = self.blocks[found.place], self._documents[found.place]
        quiet = style + self.get_component_rich_style("chat-transcript--quiet", partial=True)
        if found.row == EDGE:
            return [Segment(self._edge_words(width), quiet)]
        hidden = self._sight is not None and found.place < self._sight.block
        own = style + self.get_component_rich_style("chat-transcript--own", partial=True)
        if found.row == NAME:
            here = self.has_focus and found.place == self.chosen
            mark = style + self.get_component_rich_style("chat-transcript--mark", partial=True)
            note = f" {visible_line(block.note)} " if block.note else ""
            name = _cut(visible_line(block.name), max(4, width - INDENT - cells(note) - 2))
            gap = " " * max(1, width - INDENT - cells(name) - cells(note) - 1)
            speaker = quiet if hidden else mark if here else own if block.own else style
            return [
                Segment("› " if here else "  ", mark),
                Segment(name, speaker + Style(bold=True)),
                Segment(gap, style),
                Segment(note, quiet),
            ]
        indent = Segment(" " * INDENT, style)
        if found.row >= document.row_count:
            remark = visible_line(block.remarks[found.row - document.row_count])
            return [indent, Segment(_cut(remark, max(4, width - INDENT - 1)), quiet + Style(italic=True))]
        segments = [indent]
        plain = own if block.own else style
        edge = self._sight.offset if self._sight is not None and found.place == self._sight.block else 0
        for offset, piece in document.placed(found.row, (edge,) if edge else ()):
            colour = quiet if hidden or offset < edge or piece.symbol else plain
            segments.append(Segment(piece.text, colour))
        if block.live and found.row == document.row_count - 1:
            mark = style + self.get_component_rich_style("chat-transcript--mark", partial=True)
            segments.append(Segment(CURSOR, mark))
        return segments

    def _edge_words(self, width: int) -> str:
        words = f"── {self._sight.words if self._sight else ''} "
        room = max(0, width - INDENT - 1)
        return " " * INDENT + _cut(words, room) + "─" * max(0, room - cells(words))

    def _empty_line(self, y: int, width: int, style: Style) -> Strip:
        lines = self.empty_text.split("\n")
        first = max(0, (self.size.height - len(lines)) // 2)
        text = lines[y - first] if first <= y < first + len(lines) else ""
        left = max(0, (width - cells(text)) // 2)
        quiet = self.get_component_rich_style("chat-transcript--quiet", partial=True)
        return Strip([Segment(" " * left + text, style + quiet)]).adjust_cell_length(width, style)

    def get_selection(self, selection: Selection) -> tuple[str, str] | None:
        """The words between two places of the screen, without what was wrapped."""
        style, lines = self.rich_style, []
        for row in range(self._count):
            if (span := selection.get_span(row)) is None:
                continue
            found = self._at(row)
            segments = self._segments(found, self.size.width, style) if found is not None else []
            text = "".join(segment.text for segment in segments)
            text = text[span[0] : None if span[1] < 0 else span[1]]
            if span[0] < INDENT:
                text = text.removeprefix(" " * (INDENT - span[0]))
            wrapped = found is not None and 0 <= found.row < self._documents[found.place].row_count - 1
            goes_on = wrapped and found is not None and not self._documents[found.place].ends_line(found.row)
            lines.append(text if goes_on else text.rstrip() + "\n")
        return ("".join(lines).rstrip("\n"), "\n") if lines else None

    # What the reader does.

    def action_move(self, turns: int) -> None:
        """Go to another turn."""
        if self.blocks:
            self.chosen = max(0, min(len(self.blocks) - 1, self.chosen + turns))

    def action_page(self, pages: int) -> None:
        """Scroll a page, but for one row."""
        self.scroll_relative(y=pages * max(1, self.size.height - 1), animate=False)

    def on_click(self, event: Click) -> None:
        """Go to the turn under the mouse."""
        offset = event.get_content_offset(self)
        if offset is not None and (found := self._at(offset.y + self.scroll_offset.y)) is not None:
            self.chosen = found.place


def _cut(text: str, width: int) -> str:
    """A text in at most so many cells."""
    if cells(text) <= width:
        return text
    while text and cells(text) > width - 1:
        text = text[:-1]
    return text + "…"
