"""The list of what has a name, over the screen: one is taken, or kept, renamed and deleted. What is listed, and what
taking one means, is for its heirs to say; what waits for a disk waits in a thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar, Generic, TypeVar

from textual.binding import BindingType
from textual.content import Content
from textual.widgets import Static

from engine.errors import MiniGPTError
from minigpt_tui.actions import Where, bindings, by_id
from minigpt_tui.library.named_tables import LibraryError, check_name
from minigpt_tui.screens.frame import fitting
from minigpt_tui.screens.shelf import Shelf
from minigpt_tui.status_text import sentence
from minigpt_tui.visible import visible_line
from minigpt_tui.widgets.named_list import Named, NamedList, NamedRow

N = TypeVar("N", bound=Named)
T = TypeVar("T")


class LibraryList(Shelf[T], Generic[N, T]):
    """What has a name, with a sentence on the one that is chosen."""

    DEFAULT_CSS = """
    LibraryList {
        & > #shelf {
            link-color: $quiet;
            link-style: none;
            link-background: transparent;
            link-color-hover: $accent;
            link-style-hover: none;
            link-background-hover: transparent;
        }
        & #about { height: 2; margin: 1 0 0 0; color: $quiet; }
        & #wrong { height: auto; max-height: 4; color: $text-error; display: none; }
        & #wrong.-open { display: block; margin: 1 0 0 0; }
    }
    """

    AUTO_FOCUS = "#names"
    PLACES: ClassVar[dict[str, Where]] = {"names": Where.LIBRARY}
    BINDINGS: ClassVar[list[BindingType]] = [*bindings(Where.LIBRARY)]
    AROUND = 9

    TITLE_TEXT: ClassVar[str] = ""
    KEYS: ClassVar[tuple[str, ...]] = ()

    def __init__(self) -> None:
        self._names = NamedList(id="names")
        self._about = Static(id="about", markup=False)
        self._wrong = Static(id="wrong", markup=False)
        super().__init__(self._names, self._about, self._wrong)
        self.items: tuple[N, ...] = ()

    # What an heir says.

    def read(self) -> Sequence[N]:
        """All there is; called in a thread.

        Raises:
            LibraryError: The user's file is damaged.
        """
        raise NotImplementedError

    def shipped(self) -> Sequence[N]:
        """What there is where the user's file is damaged."""
        raise NotImplementedError

    def in_force(self) -> str:
        """The name of the one that holds now; empty for none."""
        return ""

    def result(self, item: N) -> T:
        """What taking one means.

        Raises:
            LibraryError: There is something wrong with it.
        """
        raise NotImplementedError

    def keep(self, name: str) -> None:
        """Keep what is there now under a name; called in a thread."""
        raise NotImplementedError

    def keep_as(self, item: N, name: str) -> None:
        """Keep one under another name; called in a thread."""
        raise NotImplementedError

    def drop(self, name: str) -> None:
        """Delete one of the user's own; called in a thread."""
        raise NotImplementedError

    def nothing_to_keep(self) -> str:
        """Why there is nothing to keep; empty where there is."""
        return ""

    # The list.

    def on_mount(self) -> None:
        """Read what there is."""
        self._shelf.border_title = self.TITLE_TEXT
        self.run_worker(self._refresh_items())

    async def _refresh_items(self, choose: str = "") -> None:
        try:
            self.items = tuple(await asyncio.to_thread(self.read))
            wrong = ""
        except LibraryError as error:
            self.items, wrong = tuple(self.shipped()), sentence(error)
        self._say_wrong(wrong)
        self._names.in_force = self.in_force()
        if choose := choose or ("" if self._names.rows else self._names.in_force):
            self._names.selected = choose
        self._names.show([NamedRow(item) for item in self.items])
        self.fit_rows()
        self.call_after_refresh(self._show_keys)
        self._show_about()

    def on_resize(self) -> None:
        """As many keys as there is room for."""
        self.call_after_refresh(self._show_keys)

    def _show_keys(self) -> None:
        take, *others = self.KEYS
        self._shelf.border_subtitle = fitting([take, "library_close", *others], self._shelf.outer_size.width - 6)

    def _say_wrong(self, text: str) -> None:
        self._wrong.update(Content(visible_line(text)))
        self._wrong.set_class(bool(text), "-open")

    @property
    def chosen(self) -> N | None:
        """The one that is chosen."""
        return next((item for item in self.items if item.name == self._names.selected), None)

    def _show_about(self) -> None:
        item = self.chosen
        self._about.update(Content(visible_line(item.about) if item is not None else ""))

    def on_row_list_selected(self) -> None:
        """Say what another one is for."""
        self._show_about()

    def on_row_list_open_requested(self) -> None:
        """A click, twice."""
        self.action_take()

    # Actions.

    def action_move(self, rows: int) -> None:
        """Choose one so many rows further down."""
        self._names.action_move(rows)

    def action_page(self, pages: int) -> None:
        """Choose one a page further down."""
        self._names.action_page(pages)

    def action_take(self) -> None:
        """Close the list with the one that is chosen."""
        if (item := self.chosen) is None:
            return
        try:
            taken = self.result(item)
        except LibraryError as error:
            self._say_wrong(sentence(error))
        else:
            self.dismiss(taken)

    def action_save(self) -> None:
        """Ask for a name, and keep what is there now under it."""
        if nothing := self.nothing_to_keep():
            self._say_wrong(nothing)
            return
        self._ask_name("save as", "enter saves, esc leaves", "", lambda name: partial(self.keep, name))

    def action_rename(self) -> None:
        """Ask for another name."""
        if (item := self._own("renamed")) is None:
            return

        def rename(name: str) -> Callable[[], object]:
            def do() -> None:
                self.keep_as(item, name)
                self.drop(item.name)

            return do if name != item.name else lambda: None

        self._ask_name(f"another name for {item.name}", "enter renames it, esc leaves it", item.name, rename)

    def action_remove(self) -> None:
        """Ask, and delete one of the user's own."""
        if (item := self._own("deleted")) is None:
            return

        back = "; the one that ships comes back" if item.is_shipped else ""
        self._ask_to_delete(item.name, lambda: self._do(partial(self.drop, item.name), ""), back)

    def _own(self, what: str) -> N | None:
        """The chosen one, if it is the user's; else it is said why it cannot be."""
        item = self.chosen
        if item is not None and not item.is_own:
            key = by_id("library_save").shown
            self._say_wrong(f"{item.name} ships with minigpt-tui and cannot be {what}; {key} keeps one of your own.")
            return None
        return item

    def _ask_name(self, question: str, remark: str, value: str, work: Callable[[str], Callable[[], object]]) -> None:
        """Ask for a name; one that is taken is asked for twice."""
        taken = {item.name for item in self.items if item.is_own} - {value}
        asked_about = ""

        def take(text: str) -> str:
            nonlocal asked_about
            name = text.strip()
            try:
                check_name(name)
            except LibraryError as error:
                return visible_line(f"{error.message}; {error.hint}")
            if name in taken and asked_about != name:
                asked_about = name
                return "enter again replaces the one of that name"
            self._do(work(name), name)
            return ""

        self._ask.ask(visible_line(question), remark, take, value=value)

    def _do(self, work: Callable[[], Any], choose: str) -> None:
        """Change the file beside the screen, and read it again; what goes wrong is said.

        Args:
            work: What to do.
            choose: What is chosen then; empty for what is in its place.
        """

        async def do() -> None:
            try:
                await asyncio.to_thread(work)
            except MiniGPTError as error:
                self._say_wrong(sentence(error))
            else:
                await self._refresh_items(choose)

        self.run_worker(do())
