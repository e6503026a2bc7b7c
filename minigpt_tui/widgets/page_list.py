"""Lines under headings, each with a name, a value and a few words, one of them chosen. It shows what it is given and
says where the mouse went; what the lines are for, and all keys, are its screen's affair.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from textual.content import Content
from textual.events import Key
from textual.message import Message

from minigpt_tui.visible import visible_line
from minigpt_tui.widgets.row_list import RowList
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


class PageList(RowList[PageLine], inherit_bindings=False):
    """A page of lines."""

    @dataclass
    class Turned(Message):
        """The reader wants the next value of the chosen line up (+1) or down (-1)."""

        direction: int

    @dataclass
    class Wanted(Message):
        """The reader wants to change the chosen line; `typed` is what was typed already."""

        typed: str | None = None

    def show(self, rows: Sequence[PageLine], selected: str = "") -> None:
        """Show lines, with the same one chosen as before where it is there still, or else the first.

        Args:
            rows: What to show.
            selected: The one to choose, in place of the one before.
        """
        self._rows = tuple(rows)
        wanted = selected or self.selected
        keys = [line.key for line in rows if line.key]
        self.selected = wanted if wanted in keys else next(iter(keys), "")
        self._fit()
        self.watch_selected()

    def draw(self, row: PageLine, width: int, *, here: bool) -> Content:
        """One line."""
        if not row.key:
            return Content.styled(row.label, "bold")
        lit = here and self.has_focus
        room = LABEL - 2
        label = row.label if len(row.label) <= room else f"{row.label[: room - 1]}…"
        left = label_text(label, here=here, changed=row.changed, problem=False)
        value = Content(visible_line(row.value))
        most = max(8, width - VALUE - 3)
        value = value.truncate(most, ellipsis=True) if value.cell_length > most else value
        if lit and row.turns:
            left += Content.assemble(("‹ ", "$key"), value.stylize("bold $accent"), (" ›", "$key"))
        else:
            left += Content.assemble("  ", value.stylize("bold") if row.changed or lit else value, "  ")
        left += " " * max(0, VALUE + NOTE - left.cell_length)
        space = width - left.cell_length - 1
        note = Content.styled(row.note, "$quiet")
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

    def action_move(self, rows: int) -> None:
        """Choose a line so many further down; headings do not count."""
        places = [place for place, line in enumerate(self._rows) if line.key]
        if places:
            here = places.index(self.index()) if self.index() in places else 0
            self.choose(places[max(0, min(len(places) - 1, here + rows))])

    def clicked(self, place: int, column: int, times: int) -> None:
        """Choose the line under the mouse; a click beside its value turns it, one on it changes it, as two do."""
        line, was_here = self._rows[place], place == self.index()
        if not line.key:
            return
        self.choose(place)
        end = VALUE + len(line.value)
        if line.turns and VALUE - 2 <= column < VALUE:
            self.post_message(self.Turned(-1))
        elif line.turns and end <= column < end + 3:
            self.post_message(self.Turned(1))
        elif times > 1 or (was_here and VALUE <= column < end):
            self.post_message(self.Wanted())
