"""The kept chats, over the screen: one is opened or deleted. What deleting means is for whoever shows it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import ClassVar

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.screen import ModalScreen

from minigpt_tui.actions import Where, hint
from minigpt_tui.chat.kept import list_chats
from minigpt_tui.visible import visible_line
from minigpt_tui.widgets.ask_line import AskLine
from minigpt_tui.widgets.chat_list import ChatList

AROUND = 6
"""Rows of the screen that are not the list's."""


class ChatShelf(ModalScreen[str]):
    """Answers with the id of the chat that is wanted, or with nothing."""

    DEFAULT_CSS = """
    ChatShelf {
        align: center middle;
        & > #shelf {
            width: 92;
            max-width: 96%;
            height: auto;
            border: round $accent;
            border-title-color: $accent;
            border-title-style: bold;
            border-subtitle-color: $quiet;
            border-subtitle-align: left;
            background: $background;
            padding: 0 1;
        }
        & > AskLine { dock: bottom; }
    }
    """

    AUTO_FOCUS = "#chats"
    PLACES: ClassVar[dict[str, Where]] = {"chats": Where.CHATS}

    def __init__(self, open_key: str, remove: Callable[[str], Awaitable[str]]) -> None:
        """Make the list.

        Args:
            open_key: The chat that is shown on the screen.
            remove: Deletes one, and returns what went wrong.
        """
        super().__init__()
        self._remove = remove
        self._shelf = Vertical(id="shelf")
        self._chats = ChatList(id="chats")
        self._chats.open_key = self._chats.selected = open_key
        self._ask = AskLine(id="ask")

    def compose(self) -> ComposeResult:
        """The list, and a question below it."""
        with self._shelf:
            yield self._chats
        yield self._ask

    async def on_mount(self) -> None:
        """Read what is kept."""
        self._shelf.border_title = "Chats"
        self._shelf.border_subtitle = " · ".join([hint("chats_open"), hint("chats_delete"), hint("chats_close")])
        self._chats.empty_text = "No chat is kept yet."
        await self._refresh_list()

    async def _refresh_list(self) -> None:
        chats = await asyncio.to_thread(list_chats)
        self._chats.styles.height = max(1, min(len(chats), self.app.size.height - AROUND))
        self._chats.show(chats)

    def on_resize(self) -> None:
        """As many as there is room for."""
        self._chats.styles.height = max(1, min(len(self._chats.rows), self.app.size.height - AROUND))

    def on_row_list_open_requested(self, event: ChatList.OpenRequested) -> None:
        """Go on with it."""
        event.stop()
        self.dismiss(event.key)

    def on_ask_line_closed(self) -> None:
        """Go back to the list."""
        self._chats.focus()

    def action_close(self) -> None:
        """Close the question; else the list."""
        if self._ask.is_open:
            self._ask.action_close()
        else:
            self.dismiss("")

    def action_delete(self) -> None:
        """Ask, and delete the chosen chat."""
        if (chosen := self._chats.chosen) is None:
            return
        key = chosen.key

        def take(text: str) -> str:
            if text.strip().lower() not in ("y", "yes"):
                return "y deletes it; esc keeps it"
            self.run_worker(self._delete(key))
            return ""

        self._ask.ask(visible_line(f"delete “{chosen.title[:30]}”?"), "y deletes it; esc keeps it", take)

    async def _delete(self, key: str) -> None:
        if problem := await self._remove(key):
            self._shelf.border_subtitle = visible_line(problem)
        await self._refresh_list()
