"""Lines under headings, each with a name, a value and a few words, one of them chosen. It shows what it is given and
says where the mouse went; what the lines are for, and all keys, are its screen's affair.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from textual.content import Content
from textual.events import Click, Key, Resize
from textual.geometry import Region, Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.visual import Visual

from minigpt_tui.visible import visible_line
from minigpt_tui.widgets.setting_row import LABEL, VALUE, label_text

NOTE = 18
"""Columns from the start of a value to that of its note."""


class PageLine(NamedTuple):
    """One line.

    Attributes:
        key: What it is; empty for a heading.
        label: Its name.
        value: What stands there.
        note: A few words at the right.
        changed: Whether it is other than it ships.
        turns: Whether its value can be stepped.
        typed: Whether a digit begins its value.
    """

    key: str
    label: str
    value: str = ""
    note: str = ""
    changed: bool = False
    turns: bool = False
    typed: bool = False


class PageList(ScrollView, can_focus=True, inherit_bindings=False):
    """A page of lines."""

    DEFAULT_CSS = """
    PageList {
        overflow-x: hidden;
        overflow-y: auto;
        scrollbar-size-vertical: 1;
    }
    """

    lines: reactive[tuple[PageLine, ...]] = reactive(())
    """What is shown, in this order."""

    selected: reactive[str] = reactive("")
    """The key of the line that is chosen."""

    empty_text: reactive[str] = reactive("")
    """What stands here while there are none."""

    @dataclass
    class Selected(Message):
        """The reader has chosen a line."""

        key: str

    @dataclass
    class Turned(Message):
        """The reader wants the next value of the chosen line up (+1) or down (-1)."""

        direction: int

    @dataclass
    class Wanted(Message):
        """The reader wants to change the chosen line; `typed` is what was typed already."""

        typed: str | None = None

    @property
    def chosen(self) -> PageLine | None:
        """The line that is chosen."""
        return next((line for line in self.lines if line.key and line.key == self.selected), None)

    def show(self, lines: tuple[PageLine, ...], selected: str = "") -> None:
        """Show lines, with the same one chosen as before where it is there still.

        Args:
            lines: What to show.
            selected: The one to choose, in place of the one before.
        """
        wanted = selected or self.selected
        self.lines = lines
        keys = [line.key for line in lines if line.key]
        self.selected = wanted if wanted in keys else next(iter(keys), "")
        self._fit()

    def move(self, by: int) -> None:
        """Choose a line so many further down."""
        keys = [line.key for line in self.lines if line.key]
        if keys:
            place = keys.index(self.selected) if self.selected in keys else 0
            self._choose(keys[max(0, min(len(keys) - 1, place + by))])

    def _choose(self, key: str) -> None:
        if key != self.selected:
            self.selected = key
            self.post_message(self.Selected(key))

    def watch_selected(self) -> None:
        """Bring the chosen line into view, and the heading that is right above it."""
        row = next((place for place, line in enumerate(self.lines) if line.key == self.selected), -1)
        if row >= 0:
            above = 1 if row and not self.lines[row - 1].key else 0
            self.scroll_to_region(Region(0, row - above, 1, 1 + above), animate=False, force=True)
        self.refresh()

    def _fit(self) -> None:
        self.virtual_size = Size(self.scrollable_content_region.width, len(self.lines))
        self.watch_selected()

    def on_resize(self, _event: Resize) -> None:
        """Keep the chosen line in view."""
        self._fit()

    def on_focus(self) -> None:
        """Mark the chosen line."""
        self.refresh()

    def on_blur(self) -> None:
        """Unmark it."""
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """One line."""
        width, row = self.scrollable_content_region.width, y + self.scroll_offset.y
        if row < len(self.lines):
            content = self._line(self.lines[row], width)
        elif not self.lines and y == 0:
            content = Content.styled(self.empty_text, "$quiet")
        else:
            return Strip.blank(width, self.rich_style)
        [strip] = Visual.to_strips(self, content, width, 1, self.visual_style, apply_selection=False, pad=True)
        return strip

    def _line(self, line: PageLine, width: int) -> Content:
        if not line.key:
            return Content.styled(line.label, "bold")
        here = line.key == self.selected
        lit = here and self.has_focus
        room = LABEL - 2
        label = line.label if len(line.label) <= room else f"{line.label[: room - 1]}…"
        left = label_text(label, here=here, changed=line.changed, problem=False)
        value = Content(visible_line(line.value))
        most = max(8, width - VALUE - 3)
        value = value.truncate(most, ellipsis=True) if value.cell_length > most else value
        if lit and line.turns:
            left += Content.assemble(("‹ ", "$key"), value.stylize("bold $accent"), (" ›", "$key"))
        else:
            left += Content.assemble("  ", value.stylize("bold") if line.changed or lit else value, "  ")
        left += " " * max(0, VALUE + NOTE - left.cell_length)
        space = width - left.cell_length - 1
        note = Content.styled(line.note, "$quiet")
        if note.cell_length > space:
            note = note.truncate(max(0, space), ellipsis=True) if space > 12 else Content("")
        return left + note

    # What the reader does.

    def on_key(self, event: Key) -> None:
        """A digit begins a value where one can be typed."""
        line = self.chosen
        if line is not None and line.typed and event.character and event.character in "0123456789.-":
            event.stop()
            event.prevent_default()
            self.post_message(self.Wanted(event.character))

    def on_click(self, event: Click) -> None:
        """Choose the line under the mouse; a click beside its value turns it, one on it changes it, as two do."""
        offset = event.get_content_offset(self)
        if offset is None or not 0 <= (row := offset.y + self.scroll_offset.y) < len(self.lines):
            return
        line = self.lines[row]
        if not line.key:
            return
        was_here = line.key == self.selected
        self._choose(line.key)
        end = VALUE + len(line.value)
        if line.turns and VALUE - 2 <= offset.x < VALUE:
            self.post_message(self.Turned(-1))
        elif line.turns and end <= offset.x < end + 3:
            self.post_message(self.Turned(1))
        elif event.chain > 1 or (was_here and VALUE <= offset.x < end):
            self.post_message(self.Wanted())
