"""What was generated, a row each, however many there are: it holds their numbers, asks for the rows that are seen, and
says which one the reader wants. It reads nothing itself.
"""

from __future__ import annotations

import datetime as dt
from array import array
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from textual.binding import BindingType
from textual.content import Content
from textual.geometry import Size
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget

from minigpt_tui.actions import Where, bindings
from minigpt_tui.history.dates import local
from minigpt_tui.history.rows import Row
from minigpt_tui.visible import visible_line
from minigpt_tui.widgets.line_list import LineList

KEPT = 2000
"""Rows that are remembered."""

MODEL_FROM = 56
"""From so many cells on each row says its model."""

MODEL = 14
TIME = 6


class HistoryList(LineList):
    """A table without lines."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings(Where.ENTRIES)]

    selected: reactive[int] = reactive(0)
    """The number of the text that was chosen; 0 for none."""

    marked: reactive[frozenset[int]] = reactive(frozenset())
    """The numbers of those that were selected together."""

    @dataclass
    class Selected(Message):
        """Another text is chosen."""

        number: int

    @dataclass
    class RowsWanted(Message):
        """These are seen, or soon, and are not known."""

        ids: tuple[int, ...]

    class OpenRequested(Message):
        """The reader wants the chosen one."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._ids: array[int] = array("q")
        self._rows: dict[int, Row] = {}
        self._asked: set[int] = set()

    # What is shown.

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._ids)

    @property
    def ids(self) -> array[int]:
        """Their numbers, the latest first."""
        return self._ids

    def show_ids(self, ids: array[int]) -> None:
        """Show others; where the chosen one is gone, the one in its place is chosen.

        Args:
            ids: From the greatest to the least.
        """
        place = max(0, self._place_of(self.selected))
        self._ids = ids
        self._asked.clear()
        self._fit()
        if self.index() < 0:
            self.choose(place)
        self.refresh()

    def extend(self, ids: array[int]) -> None:
        """Show more behind those that are there."""
        self._ids.extend(ids)
        self._fit()

    def take_rows(self, rows: Mapping[int, Row]) -> None:
        """Take what was asked for, or has changed."""
        if len(self._rows) > KEPT:
            self._rows.clear()
        self._rows |= rows
        self._asked -= rows.keys()  # those that are gone are not asked for again
        self.refresh()

    def forget_rows(self) -> None:
        """Rows may have changed: they are asked for anew."""
        self._rows.clear()
        self._asked.clear()
        self.refresh()

    def index(self) -> int:
        """The place of the chosen one; -1 when it is not there."""
        place = self._place_of(self.selected)
        return place if place < len(self._ids) and self._ids[place] == self.selected else -1

    def _place_of(self, number: int) -> int:
        """Where a number is, or would be."""
        return bisect_left(self._ids, -number, key=lambda each: -each)

    def _fit(self) -> None:
        size = Size(self.scrollable_content_region.width, len(self._ids))
        if size != self.virtual_size:
            # Its own watcher would lay out the whole screen anew with each key that is typed; only the scrollbar
            # depends on it.
            self.set_reactive(Widget.virtual_size, size)
            self._scroll_update(size)

    def line(self, place: int, width: int) -> Content:
        """One text."""
        number = self._ids[place]
        row = self._rows.get(number)
        if row is None:
            self._ask_around(place)
        return self._line(number, row, width)

    def _ask_around(self, place: int) -> None:
        """Ask for a row, and for a page on either side."""
        height = max(1, self.size.height)
        near = self._ids[max(0, place - height) : place + 2 * height]
        wanted = tuple(number for number in near if number not in self._rows and number not in self._asked)
        if self._ids[place] in wanted:
            self._asked |= {*wanted}
            self.post_message(self.RowsWanted(wanted))

    def _line(self, number: int, row: Row | None, width: int) -> Content:
        here = number == self.selected
        lit = here and self.has_focus
        start = ("›" if here else " ", "$accent"), ("+" if number in self.marked else " ", "$accent")
        if row is None:
            return Content.assemble(*start, ("  …", "$quiet"))
        beginning, length = visible_line(row.beginning), row.prompt_length
        if not row.beginning.isprintable():  # its white space was joined: the prompt is measured in the same way
            length = len(visible_line(row.beginning[: row.prompt_length]))
        model = ""
        if width >= MODEL_FROM:
            name = visible_line(row.model).rpartition("/")[2]
            model = f" {name if len(name) <= MODEL else name[: MODEL - 1] + '…':<{MODEL}}"
        room = width - 4 - TIME - 2 - len(model)
        text = Content.assemble(
            (beginning[:length], "$prompt-text"),
            (beginning[length:], f"bold {'$accent' if lit else ''}" if here else ""),
        )
        if text.cell_length > room:
            text = text.truncate(max(1, room), ellipsis=True)
        return Content.assemble(
            *start,
            ("★" if row.favourite else " ", "$accent"),
            ("✎" if row.has_note or row.tags else " ", "$quiet"),
            (f"{when(row.time):>{TIME}}  ", "$quiet"),
            text,
            " " * (room - text.cell_length),
            (model, "$quiet"),
        )

    # What the reader does.

    def choose(self, place: int) -> None:
        """Choose the text at a place, or the nearest there is."""
        number = self._ids[max(0, min(len(self._ids) - 1, place))] if self._ids else 0
        if number != self.selected:
            self.selected = number
            self.post_message(self.Selected(number))

    def action_open(self) -> None:
        """Say that the chosen one is wanted."""
        if self.selected:
            self.post_message(self.OpenRequested())


def when(seconds: float, now: dt.datetime | None = None) -> str:
    """A moment in six cells: 17:12 today, 21 Nov this year, else 2025."""
    moment, now = local(seconds), (now or dt.datetime.now()).astimezone()
    if moment.date() == now.date():
        return f"{moment:%H:%M}"
    return f"{moment.day} {moment:%b}" if moment.year == now.year else str(moment.year)
