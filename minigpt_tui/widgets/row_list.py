"""A list of rows that have keys, with headings among them: it keeps what is chosen by its key when the rows change, and
says what the reader wants. What stands in a row is for its heirs to draw.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from textual.content import Content
from textual.message import Message
from textual.reactive import reactive

from minigpt_tui.text_document import cells
from minigpt_tui.visible import visible_line
from minigpt_tui.widgets.line_list import LineList


class Row(Protocol):
    """What can be listed."""

    @property
    def key(self) -> str:
        """By which it is chosen; empty for a heading, which cannot be."""


R = TypeVar("R", bound=Row)


class RowList(LineList, Generic[R]):
    """A table without lines. An heir draws a row, and binds keys to the actions."""

    selected: reactive[str] = reactive("")
    """The key of what was chosen; empty for none."""

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
            self._choose_near(max(0, before), 1)
        self.refresh()

    @property
    def count(self) -> int:
        """How many there are, with the headings."""
        return len(self._rows)

    @property
    def chosen(self) -> R | None:
        """The row that was chosen."""
        place = self.index()
        return self._rows[place] if place >= 0 else None

    def index(self) -> int:
        """The place of the chosen row; -1 when it is not there."""
        return next((place for place, row in enumerate(self._rows) if row.key and row.key == self.selected), -1)

    def first_in_sight(self, place: int) -> int:
        """The heading that is right above a row, or the row."""
        return place - 1 if place > 0 and not self._rows[place - 1].key else place

    def line(self, place: int, width: int) -> Content:
        """One row."""
        row = self._rows[place]
        return self.draw(row, width, here=bool(row.key) and row.key == self.selected)

    # What the reader does.

    def choose(self, place: int) -> None:
        """Choose the row at a place, if it can be."""
        key = self._rows[place].key
        if key and key != self.selected:
            self.selected = key
            self.post_message(self.Selected(key))

    def _choose_near(self, place: int, direction: int) -> None:
        """Choose the row at a place, or the nearest behind it that can be chosen, or else before it."""
        if not self._rows:
            if self.selected:
                self.selected = ""
                self.post_message(self.Selected(""))
            return
        place = max(0, min(len(self._rows) - 1, place))
        order = [*range(place, len(self._rows))], [*range(place, -1, -1)]
        there = next((at for way in order[:: 1 if direction > 0 else -1] for at in way if self._rows[at].key), None)
        if there is not None:
            self.choose(there)

    def action_move(self, rows: int) -> None:
        """Choose a row so much further down."""
        self._choose_near(self.index() + rows, rows)

    def action_open(self) -> None:
        """Say that the chosen one is wanted."""
        if self.index() >= 0:
            self.post_message(self.OpenRequested(self.selected))


def cut(text: str, width: int) -> str:
    """A text on one line and in so many cells: cut, or filled with spaces."""
    text = visible_line(text)
    if cells(text) > width:
        while text and cells(text) > width - 1:
            text = text[:-1]
        text += "…" if width else ""
    return text + " " * (width - cells(text))
