"""How the History screen looks: the search field over the list, the chosen text in full, the figures, and what stands
in the borders. It shows what it is given, and reads nothing.
"""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Container, Vertical
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Input

from minigpt_tui.actions import Where, bindings, by_id, hint
from minigpt_tui.history.dates import time_text
from minigpt_tui.history.searching import Query
from minigpt_tui.screens.frame import FramedScreen, Key, fitting
from minigpt_tui.settings import Session
from minigpt_tui.visible import visible_line
from minigpt_tui.widgets.history_entry import HistoryEntry
from minigpt_tui.widgets.history_figures import HistoryFigures
from minigpt_tui.widgets.history_list import HistoryList


class SearchField(Input):
    """What is looked for."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings(Where.SEARCH)]

    def action_to_list(self) -> None:
        """Go to what was found."""
        self.screen.query_one(HistoryList).focus()


class HistoryView(FramedScreen):
    """The parts of the screen, brought up to date when its heir says so."""

    CSS_PATH = "history.tcss"
    AUTO_FOCUS = "#entries"
    NAME = "History"
    BACK = "history_back"
    SAFE = "What was written is safe."
    PLACES: ClassVar[dict[str, Where]] = {"search": Where.SEARCH, "entries": Where.ENTRIES, "": Where.HISTORY}

    def __init__(self, session: Session) -> None:
        """Make the parts.

        Args:
            session: What outlives the app.
        """
        super().__init__()
        self._session = session
        self._query = Query()
        self._dates = ""  # as they were typed
        self._framed: dict[Widget, tuple[str, tuple[Key, ...], int]] = {}  # what stands in the borders
        self._is_whole = False  # whether all that is wanted was found
        self._search = SearchField(id="search", compact=True)
        self._list = HistoryList(id="entries")
        self._found = Vertical(self._search, self._list, id="found", classes="panel")
        self._entry = HistoryEntry(id="entry", classes="panel")
        self._figures = HistoryFigures(id="figures", classes="panel")

    def body(self) -> ComposeResult:
        """The list and the chosen text; or the figures."""
        with Container(id="history"):
            yield self._found
            yield self._entry
            yield self._figures

    # What stands in the borders.

    def fit(self) -> None:
        """Titles, keys and what stands where there is nothing."""
        if not self.is_mounted:
            return
        self._search.placeholder = f"{by_id('history_search').shown} finds pieces of a text, note or tag"
        self._list.empty_text = self._nothing()
        self.set_class(self._is_whole and not self._list.count and self._query.is_all, "-empty")
        marked = len(self._list.marked)
        said = f"History · {self._list.count:,}{'' if self._is_whole else '…'}"
        said += f" of {visible_line(self._filters())}" if self._filters() else ""
        said += f" · {marked:,} selected" if marked else ""
        self._frame(self._found, said, self._list_keys())
        entry = self._entry.entry
        title = "Text"
        if entry is not None:
            title = f"{entry.id} · {entry.model} · {time_text(entry.time)}{' · ★' if entry.favourite else ''}"
        self._frame(self._entry, visible_line(title), self._entry_keys())
        self._frame(self._figures, "Statistics", [("history_statistics", "back to the list")])

    def _frame(self, panel: Widget, title: str, keys: list[Key]) -> None:
        """Fill a panel's borders, where they are to be others: that takes a while, and this is done as one types."""
        before, width = self._framed.get(panel, ("", (), 0)), panel.outer_size.width
        self._framed[panel] = title, tuple(keys), width
        if title != before[0]:
            panel.border_title = Content(title)
        if (tuple(keys), width) != before[1:]:
            panel.border_subtitle = fitting(keys, width - 6)

    def _nothing(self) -> str:
        if not self._is_whole:
            return "\n  looking…"
        if self._query.is_all:
            write = hint("show_play", "writes one")
            return f"\n  No text is kept yet: {write}.\n  From the shell: generate --record"
        return f"\n  Nothing was found. {hint('history_back', 'lists all')}."

    def _filters(self) -> str:
        """What narrows the list down, in words."""
        query = self._query
        words = [query.model, self._dates, f"#{query.tag}" if query.tag else "", "★" if query.favourites else ""]
        return " · ".join(word for word in words if word)

    def _list_keys(self) -> list[Key]:
        if not self._list.count and self._query.is_all:
            return ["show_play"]
        keys: list[Key] = [("entry_open", "open"), "history_search"]
        if self.has_class("-narrow"):
            keys += ["history_details", "history_replay", "history_delete", ("history_favourite", "★")]
        keys += ["history_model", "history_date", ("history_favourites", "★"), ("history_tag", "tag")]
        return [*keys, "history_select", ("history_statistics", "figures"), "history_delete", "history_export"]

    def _entry_keys(self) -> list[Key]:
        entry = self._entry.entry
        if entry is None:
            return []
        keys: list[Key] = ["history_replay", ("history_favourite", "★"), "history_note", "history_tags"]
        keys += ["history_copy", ("history_line", "line"), "history_export", "history_delete"]
        return [("history_details", "list"), *keys] if self.has_class("-narrow") else keys

    def status(self) -> tuple[Content, bool]:
        """What is listed."""
        if self.has_class("-statistics"):
            return Content("all that is kept" if self._figures.figures else "counting…"), False
        if not self._is_whole:
            return Content("looking…"), True
        number = self._list.count
        words = "1 text" if number == 1 else f"{number:,} texts"
        return Content(f"{words}{'' if self._query.is_all else ' found'}"), False
