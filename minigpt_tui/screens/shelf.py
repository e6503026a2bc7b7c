"""A list over the screen, with a question below it. What is listed, and what becomes of it, is for its heirs to say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.events import Resize
from textual.widget import Widget

from minigpt_tui.screens.modal import Modal
from minigpt_tui.visible import visible_line
from minigpt_tui.widgets.ask_line import AskLine, if_yes
from minigpt_tui.widgets.row_list import RowList

T = TypeVar("T")


class Shelf(Modal[T]):
    """Answers with what was taken, or with nothing."""

    DEFAULT_CSS = """
    Shelf {
        & > .sheet { width: 92; max-width: 96%; border-subtitle-align: left; padding: 0 1; }
        & > AskLine { dock: bottom; }
    }
    """

    AROUND: ClassVar[int] = 6
    """Rows of the screen that are not the list's."""

    def __init__(self, rows: RowList[Any], *below: Widget) -> None:
        """Make the panel.

        Args:
            rows: The list.
            below: What stands below it.
        """
        super().__init__()
        self._rows = rows
        self._shelf = Vertical(rows, *below, id="shelf", classes="sheet")
        self._ask = AskLine(id="ask")

    def compose(self) -> ComposeResult:
        """The list, and a question below it."""
        yield self._shelf
        yield self._ask

    @on(Resize)
    def fit_rows(self) -> None:
        """As many rows as there is room for."""
        self._rows.styles.height = max(1, min(self._rows.count, self.app.size.height - self.AROUND))

    def on_ask_line_closed(self) -> None:
        """Go back to the list."""
        self._rows.focus()

    def action_close(self) -> None:
        """Close the question; else the list."""
        if self._ask.is_open:
            self._ask.action_close()
        else:
            self.dismiss(None)

    def _ask_to_delete(self, name: str, delete: Callable[[], object], back: str = "") -> None:
        """Ask, and delete something where the answer is yes.

        Args:
            name: Of what would go.
            delete: Deletes it.
            back: What comes back in its place, in words.
        """
        remark = f"y deletes it{back}; esc keeps it"
        self._ask.ask(visible_line(f"delete {name}?"), remark, if_yes(delete, "y deletes it; esc keeps it"))
