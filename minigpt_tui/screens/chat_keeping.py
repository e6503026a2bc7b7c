"""What the Chat screen keeps: each chat is written to the disk while it goes on, beside the screen, and is there again
at the next start. It knows nothing of how an answer comes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from textual.timer import Timer

from minigpt_tui.actions import by_id
from minigpt_tui.chat.kept import ChatFiles, Found, load_desk, open_chat
from minigpt_tui.chat.turns import Chat, new_chat
from minigpt_tui.model_choice import ModelChoice
from minigpt_tui.screens.chat_view import ChatView
from minigpt_tui.settings import Session
from minigpt_tui.wishes import SessionChanged

KEEP_SECONDS = 1.0
"""What is being said is on the disk after this time."""


class ChatKeeping(ChatView):
    """Chats that outlive the app."""

    def __init__(self, session: Session, choice: Callable[[], ModelChoice]) -> None:
        """Make the parts; what was kept is read when they are there."""
        super().__init__(session, choice)
        self._files = ChatFiles()
        self._keep_timer: Timer | None = None
        self._session_timer: Timer | None = None
        self._is_read = False  # before that nothing is written: the disk knows better

    async def restore(self) -> None:
        """Show what the last session left."""
        found: Found = await asyncio.to_thread(load_desk)
        if found.chat is not None and self.chat.is_empty:
            self.chat = found.chat
        self.desk = found.desk
        self._is_read = True
        if not self._editor.text:
            self._editor.text = found.desk.draft
            self._editor.move_cursor(self._editor.document.end)
        self.recall_own()
        self.show_chat(anew=True)
        if found.problem:
            self.tell("A chat was set aside", f"{found.problem} Nothing else is lost.", ["chat_list"])

    def recall_own(self) -> None:
        """Let the editor offer what the reader said in this chat."""
        self._editor.set_earlier([turn.text for turn in self.chat.turns if turn.is_own])

    # Writing.

    def keep_soon(self) -> None:
        """Have the chat kept within a second."""
        if self._keep_timer is None and self.is_mounted:
            self._keep_timer = self.set_timer(KEEP_SECONDS, self.keep_now)

    def keep_now(self) -> None:
        """Have the chat kept, beside the screen."""
        self._end_timer()
        if not self._is_read:
            return
        for snapshot in self._snapshots():
            self.run_worker(self._write_beside(*snapshot), group="keep")

    async def _write_beside(self, path: Path, data: bytes, number: int) -> None:
        if not await asyncio.to_thread(self._files.write, path, data, number):
            self.say(f"the chat cannot be kept on this disk now; {by_id('chat_save').shown} saves it elsewhere")

    async def keep_all(self) -> None:
        """Keep everything, and wait until it is on the disk."""
        for snapshot in self._snapshots():
            await asyncio.to_thread(self._files.write, *snapshot)

    def keep_at_the_end(self) -> None:
        """Keep everything before the screen goes."""
        self._end_timer()
        if self._is_read:
            for snapshot in self._snapshots():
                self._files.write(*snapshot)

    def _snapshots(self) -> list[tuple[Path, bytes, int]]:
        self.desk.open = "" if self.chat.is_empty else self.chat.id
        self.desk.draft = _kept(self._editor.text) if self.typing == "turn" else self._draft
        chats = [] if self.chat.is_empty else [self._files.snapshot(self.chat)]
        return [*chats, self._files.snapshot(self.desk)]

    _draft = ""
    """The next turn, while something else stands in the editor."""

    def _end_timer(self) -> None:
        if self._keep_timer is not None:
            self._keep_timer.stop()
            self._keep_timer = None

    def session_changed(self) -> None:
        """Have the settings kept, once the reader has stopped turning them."""
        if self._session_timer is not None:
            self._session_timer.stop()
        self._session_timer = self.set_timer(KEEP_SECONDS / 2, lambda: self.post_message(SessionChanged()))

    # Chats.

    def end_answer(self) -> None:
        """End what is being written, with what has come of it."""
        raise NotImplementedError

    def take_chat(self, chat: Chat) -> None:
        """Show another chat; the one before is kept, with what has come of its last answer."""
        self.end_answer()
        self.keep_now()
        self.chat = chat
        self.recall_own()
        self.show_chat(anew=True)
        self.keep_now()
        self.show_status()

    def begin_chat(self) -> None:
        """Begin another chat, with the same template."""
        self.take_chat(new_chat())

    async def open_kept(self, id: str) -> None:
        """Go on with one of the kept chats."""
        chat, problem = await asyncio.to_thread(open_chat, id)
        if chat is None:
            self.tell("That chat cannot be opened", f"{problem} Nothing else is lost.", ["chat_list"])
        else:
            self.take_chat(chat)
            self.say(f"{len(chat.turns):,} turns · {by_id('chat_list').shown} has the others")

    async def remove_kept(self, id: str) -> str:
        """Delete one of the kept chats; returns what went wrong."""
        if id == self.chat.id:
            self.end_answer()  # what it has still to write is older than its removal
            self.chat = new_chat()
            self.recall_own()
            self.show_chat(anew=True)
        try:
            await asyncio.to_thread(self._files.remove, id)
        except OSError as error:
            return f"it cannot be deleted ({error.strerror})"
        self.keep_now()
        return ""


def _kept(text: str) -> str:
    """A text without half characters, which cannot be kept."""
    return text.encode("utf-8", "replace").decode()
