"""The History screen: every text that was kept, found as one types, shown in full, and taken elsewhere. Whatever waits
for the disk waits in a thread; of searches the latest counts.
"""

from __future__ import annotations

import asyncio
import contextlib
from array import array
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import ClassVar, TypeVar

from textual.binding import BindingType
from textual.events import ScreenResume
from textual.widgets import Input

from minigpt_tui.actions import Where, bindings
from minigpt_tui.history.entry import Entry
from minigpt_tui.history.errors import DamagedHistoryError, EntryNotFoundError, HistoryError, SearchStoppedError
from minigpt_tui.history.rows import Row
from minigpt_tui.history.searching import Query
from minigpt_tui.history.statistics import gather
from minigpt_tui.history.store import Store
from minigpt_tui.screens.history_changes import HistoryChanges
from minigpt_tui.settings import Session
from minigpt_tui.status_text import sentence
from minigpt_tui.threads import in_daemon
from minigpt_tui.widgets.history_list import HistoryList

FIRST_ROWS = 80
"""Rows that come with the first of what was found."""

LOOK_SECONDS = 1.0
"""Between looks at whether another process has kept something."""

T = TypeVar("T")


class HistoryScreen(HistoryChanges):
    """Find, read, mark, replay and export what was generated."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings(Where.HISTORY)]

    def __init__(self, session: Session) -> None:
        """Make the screen.

        Args:
            session: What outlives the app.
        """
        super().__init__(session)
        self._store: Store | None = None
        self._finder: Store | None = None  # a connection of its own, so that a search can be stopped
        self._opening = asyncio.Lock()
        self._searches = 0
        self._latest = -1

    def on_mount(self) -> None:
        """Begin to read."""
        self.look()
        self.set_interval(LOOK_SECONDS, self._look_for_new)

    async def on_unmount(self) -> None:
        """Let go of the file."""
        for store in (self._store, self._finder):
            if store is not None:
                store.stop()
                await asyncio.to_thread(store.close)

    def on_screen_resume(self, event: ScreenResume) -> None:
        """Something may have been written in between, or keys have changed."""
        self._framed.clear()
        self._look_for_new()

    # The file.

    async def _stores(self) -> tuple[Store, Store]:
        """The history, opened when it is first wanted: once for all, and once for searching.

        Raises:
            HistoryError: It cannot be opened.
        """
        async with self._opening:
            if self._store is not None and self._finder is not None:
                return self._store, self._finder
            store, finder = await in_daemon(lambda: (Store(), Store()))
            self._store, self._finder = store, finder
            if store.problem:
                self.tell("About the history", store.problem)
            return store, finder

    async def with_store(self, work: Callable[[Store], T]) -> T | None:
        """Do something with the history in a thread; what goes wrong is told, and None comes back."""
        store: Store | None = None
        try:
            store, _ = await self._stores()
            return await in_daemon(lambda: work(store))
        except DamagedHistoryError as error:
            await self._set_aside(store, error)
        except HistoryError as error:
            self._tell_error(error)
        return None

    async def _set_aside(self, store: Store | None, error: HistoryError) -> None:
        """The file turned out to be damaged: keep it, and begin a fresh one."""
        if store is None or store not in (self._store, self._finder):  # it could not be opened, or is set aside
            if store is None:
                self._tell_error(error)
            return
        both, self._store, self._finder = (self._store, self._finder), None, None
        for each in both:
            if each is not None:
                with contextlib.suppress(HistoryError):
                    await in_daemon(each.set_aside)
        self.tell("The history was damaged", "Its file is kept under another name, and a fresh one is begun.")
        self._list.forget_rows()
        self.look()

    def _tell_error(self, error: HistoryError) -> None:
        self._is_whole = True
        self.tell("The history", f"{sentence(error)} What was kept before is untouched.")
        self.fit()

    def do(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do something beside the screen, after what was asked for before."""

        async def in_turn() -> None:
            async with self._turns:
                await work()

        self.run_worker(in_turn(), group="changes")

    # Finding.

    def look(self) -> None:
        """Look for what is wanted now."""
        self._searches += 1
        if self._finder is not None:
            self._finder.stop()
        self.run_worker(self._find(self._query, self._searches), group="search", exclusive=True)

    async def _find(self, query: Query, number: int) -> None:
        """Show what is found: the first of it at once, the rest as it comes."""
        finder: Store | None = None
        try:
            _, finder = await self._stores()
            # All that the first picture needs in one go: each way to a thread and back takes its time.
            parts, ids, rows, latest = await in_daemon(partial(_begin, finder, query))
            # Where the chosen text is further down than this, all is found first, so that it stays chosen.
            waits = self._list.index() >= len(ids) > 0
            if number == self._searches and not waits:
                self._list.take_rows(rows)
                self._show_found(ids)
            while number == self._searches and (part := await in_daemon(lambda: next(parts, None))):
                (ids if waits else self._list).extend(part)
            if number != self._searches:
                return
            if waits:
                self._show_found(ids)
            self._latest, self._is_whole = latest, True
            self._entry.words = query.words
            self._refit()
        except SearchStoppedError:
            return
        except DamagedHistoryError as error:
            await self._set_aside(finder, error)
        except HistoryError as error:
            self._tell_error(error)

    def _show_found(self, ids: array[int]) -> None:
        self._list.show_ids(ids)
        self._refit()
        if self._list.selected != (self._entry.entry.id if self._entry.entry else 0):
            self.show_chosen()

    def _look_for_new(self) -> None:
        """List what was kept since then, also by another process."""
        if self.is_current and self._store is not None and self._is_whole:
            self.run_worker(self._find_new(), group="new", exclusive=True)

    async def _find_new(self) -> None:
        latest = await self.with_store(lambda store: store.latest() if store.is_in_place else None)
        if latest is None and self._store is not None:  # another process began a fresh one
            stale, self._store, self._finder = (self._store, self._finder), None, None
            for each in stale:
                if each is not None:
                    await in_daemon(each.close)
            self._list.forget_rows()
        if latest != self._latest:
            self.look()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Find as one types."""
        if event.input is self._search:
            event.stop()
            self.narrow(words=event.value)

    def on_history_list_rows_wanted(self, event: HistoryList.RowsWanted) -> None:
        """Read the rows that are seen."""
        event.stop()

        async def read() -> None:
            rows = await self.with_store(lambda store: store.rows(event.ids))
            self._list.take_rows(rows or {})

        self.run_worker(read(), group="rows")

    def on_history_list_selected(self, event: HistoryList.Selected) -> None:
        """Show another text."""
        event.stop()
        self.show_chosen()

    def show_chosen(self) -> None:
        """Read the chosen text; the latest wish counts."""
        self.run_worker(self._read_chosen(), group="entry", exclusive=True)

    async def _read_chosen(self) -> None:
        number = self._list.selected
        if not number:
            self._entry.entry = None
            self.fit()
            return

        def read(store: Store) -> Entry | None:
            try:
                return store.entry(number)
            except EntryNotFoundError:
                return None

        entry = await self.with_store(read)
        if number == self._list.selected:
            self._entry.entry = entry
            self.fit()

    # Statistics.

    def action_statistics(self) -> None:
        """Show the figures, or the list again."""
        self.toggle_class("-statistics")
        if self.has_class("-statistics"):
            self._figures.figures = None
            self._figures.focus()
            self.run_worker(self._count(), group="figures", exclusive=True)
        else:
            self._list.focus()
        self.call_after_refresh(self._refit)

    async def _count(self) -> None:
        self._figures.figures = await self.with_store(gather)
        self.show_status()

    # Moving about.

    def action_search(self) -> None:
        """Go to the search field."""
        self.remove_class("-statistics", "-details")
        self._search.focus()

    def action_details(self) -> None:
        """Go to the text, or back to the list."""
        if self.has_class("-statistics") or not self._list.selected:
            return
        to_text = self.focused is self._list or self.focused is self._search
        self.set_class(to_text, "-details")
        self.call_after_refresh(self._entry.focus_text if to_text else self._list.focus)
        self.call_after_refresh(self._refit)

    def action_back(self) -> None:
        """Close what is open; else leave the figures or the text; else list all again."""
        if self.close_open():
            return
        if self.has_class("-statistics"):
            self.action_statistics()
        elif self.has_class("-details") or (self.focused is not self._list and self.focused is not self._search):
            self.remove_class("-details")
            self.call_after_refresh(self._list.focus)
            self.call_after_refresh(self._refit)
        elif self._list.marked:
            self._list.marked = frozenset()
            self.fit()
        else:
            self._list.focus()
            self.list_all()


def _begin(finder: Store, query: Query) -> tuple[Iterator[array[int]], array[int], dict[int, Row], int]:
    """Begin a search.

    Returns:
        What is still to come of it, what was found at once, the rows of its first page, the latest text's number.
    """
    parts = finder.find(query)
    latest = finder.latest()
    ids = next(parts, array("q"))
    return parts, ids, finder.rows(ids[:FIRST_ROWS]) if ids else {}, latest
