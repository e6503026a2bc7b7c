"""The kept chats, over the screen: one is opened or deleted. What deleting means is for whoever shows it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import ClassVar

from minigpt_tui.actions import Where, hint
from minigpt_tui.chat.kept import list_chats
from minigpt_tui.screens.shelf import Shelf
from minigpt_tui.visible import visible_line
from minigpt_tui.widgets.chat_list import ChatList


class ChatShelf(Shelf[str]):
    """Answers with the id of the chat that is wanted, or with nothing."""

    AUTO_FOCUS = "#chats"
    PLACES: ClassVar[dict[str, Where]] = {"chats": Where.CHATS}

    def __init__(self, open_key: str, remove: Callable[[str], Awaitable[str]]) -> None:
        """Make the list.

        Args:
            open_key: The chat that is shown on the screen.
            remove: Deletes one, and returns what went wrong.
        """
        self._chats = ChatList(id="chats")
        super().__init__(self._chats)
        self._remove = remove
        self._chats.open_key = self._chats.selected = open_key

    async def on_mount(self) -> None:
        """Read what is kept."""
        self._shelf.border_title = "Chats"
        self._shelf.border_subtitle = " · ".join([hint("chats_open"), hint("chats_delete"), hint("chats_close")])
        self._chats.empty_text = "No chat is kept yet."
        await self._refresh_list()

    async def _refresh_list(self) -> None:
        self._chats.show(await asyncio.to_thread(list_chats))
        self.fit_rows()

    def on_row_list_open_requested(self, event: ChatList.OpenRequested) -> None:
        """Go on with it."""
        event.stop()
        self.dismiss(event.key)

    def action_delete(self) -> None:
        """Ask, and delete the chosen chat."""
        if (chosen := self._chats.chosen) is not None:
            key = chosen.key
            self._ask_to_delete(f"“{chosen.title[:30]}”", lambda: self.run_worker(self._delete(key)))

    async def _delete(self, key: str) -> None:
        if problem := await self._remove(key):
            self._shelf.border_subtitle = visible_line(problem)
        await self._refresh_list()
