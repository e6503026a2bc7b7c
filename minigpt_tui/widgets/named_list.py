"""What has a name: presets, or prompts, one row each with a few words. It shows what it is given."""

from __future__ import annotations

from typing import Protocol

from textual.content import Content

from minigpt_tui.text_document import cells
from minigpt_tui.widgets.row_list import RowList, cut

NAME_CELLS = 20


class Named(Protocol):
    """What the list shows of something with a name."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def words(self) -> str:
        """What it is, in a few words."""

    @property
    def about(self) -> str:
        """What it is for, as a sentence."""

    @property
    def is_own(self) -> bool:
        """Whether it is the user's."""

    @property
    def is_shipped(self) -> bool:
        """Whether one of that name ships."""

    @property
    def problem(self) -> str:
        """What is wrong with it."""


class NamedRow:
    """A row of the list."""

    def __init__(self, item: Named) -> None:
        self.item, self.key = item, item.name


class NamedList(RowList[NamedRow]):
    """Names with a few words each."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.in_force = ""

    def draw(self, row: NamedRow, width: int, *, here: bool) -> Content:
        """Name, words, and whose it is."""
        item = row.item
        whose = " yours" if item.is_own else "      "
        name = cut(item.name, min(NAME_CELLS, max(cells(each.key) for each in self.rows)))
        room = max(0, width - cells(name) - len(whose) - 6)
        return Content.assemble(
            ("› " if here else "  ", "$accent"),
            (
                "✗ " if item.problem else "• " if row.key == self.in_force else "  ",
                "$text-error" if item.problem else "$accent",
            ),
            (name, "bold $accent" if here else ""),
            "  ",
            (cut(item.words, room), "$text-error" if item.problem else "" if here else "$quiet"),
            (whose, "$quiet"),
        )
