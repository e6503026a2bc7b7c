"""Every text of the Play screen is kept: as a branch of a tree from its first token on, on the disk some seconds later,
and on the screen again at the next start.
"""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING

from textual.timer import Timer
from textual.widgets import TextArea
from textual.worker import Worker

from engine.config import SamplingParams
from engine.errors import MiniGPTError
from engine.worker.protocol import Started
from minigpt_tui.actions import hints
from minigpt_tui.branches import Branch, Branches
from minigpt_tui.history.entry import Entry
from minigpt_tui.screens.play_writing import PlayWriting

if TYPE_CHECKING:
    from minigpt_tui.kept_branches import BranchFile, Kept

SAVE_SECONDS = 3.0
"""A change is on the disk after this time, also while a text is written."""


class PlayKeeping(PlayWriting):
    """The texts so far, and how they outlive the app."""

    _file: BranchFile | None = None
    _save_timer: Timer | None = None
    _restored = False  # until then the file is the last session's alone
    _changed = False  # since the last time that it was written
    _texts_closed = False

    @functools.cached_property
    def branches(self) -> Branches:
        """The tree; its current branch is the one that is shown."""
        return Branches()

    def on_mount(self) -> None:
        """Bring back the last session once the first picture is there."""
        self.call_after_refresh(lambda: self.run_worker(self._restore(), group="restore"))

    # How branches come to be.

    def _begin(self, prompt: str, event: Started, params: SamplingParams) -> None:
        """A new text: it shares its prompt with the one that is shown where that is the same."""
        root = self._root_with(event)
        super()._begin(prompt, event, params)
        if root is None:
            self.branches.begin(self.writing)
        else:
            self.branches.part_from(root, root.position, self.writing.text_start)

    def _root_with(self, event: Started) -> Branch | None:
        """The branch that the shown text begins with, where it has this very prompt."""
        branch = self.branches.current
        if branch is None:
            return None
        root = self.branches.path(branch)[0]
        prompt = "".join(text for text, _ in root.part.texts)[: root.facts.text_start]
        tokens = tuple(memoryview(root.base or b"").cast("i"))
        return root if (tokens, prompt) == (event.prompt_tokens, event.prompt) else None

    def _resume_anew(self, event: Started, params: SamplingParams) -> None:
        """Another model goes on with its own tokens, in a branch of its own."""
        document, before = self.writing.document, self.branches.current
        if (mark := document.trailing_mark()) is not None:
            document.truncate(mark)  # it is the other branch's
        offset = document.length
        super()._resume_anew(event, params)
        if before is not None:
            self.branches.read_anew(before, offset, event.prompt_tokens)

    def _text_begins(self, left_out: str) -> None:
        super()._text_begins(left_out)
        self._branches_change()

    def _text_changes(self, first_row: int) -> None:
        super()._text_changes(first_row)
        self._save_soon()

    def _text_ends(self, error: MiniGPTError | None) -> None:
        self._keep()
        super()._text_ends(error)
        self._branches_change()
        if not self.writing.stepping:
            self._save_now()

    def _end_text(self) -> None:
        super()._end_text()
        self._keep()

    def _keep(self) -> None:
        """Let the branch that is shown hold what is shown."""
        if (branch := self.branches.current) is not None:
            # What could have come is kept when it ends: it is most of a text, and this is done while it is written.
            ended = not self._live.running and not self.writing.stepping
            self.branches.keep(branch, self.writing, alternatives=ended)

    def _branches_change(self) -> None:
        """The tree is another; an heir shows it."""
        self._save_soon()

    def action_clear(self) -> None:
        """Clear the text; it stays among the branches."""
        self._end_text()
        self.branches.current = None
        super().action_clear()
        self._branches_change()

    # On the disk.

    def on_text_area_changed(self, event: TextArea.Changed) -> None:
        """Keep the prompt that is being typed."""
        if event.text_area is self._prompt:
            self._save_soon()

    def on_unmount(self) -> None:
        """Keep what was written, however the app ends."""
        if self._changed and not self._texts_closed:
            self._write_file()

    def _save_soon(self) -> None:
        self._changed = True
        if self._save_timer is None and self._restored:
            self._save_timer = self.set_timer(SAVE_SECONDS, self._save_now)

    def _save_now(self) -> None:
        """Write the tree beside the loop: a disk may be slow."""
        if self._save_timer is not None:
            self._save_timer.stop()
            self._save_timer = None
        if self._restored and not self._texts_closed and self.is_running:
            self._changed = False
            kept, file = self._to_keep()
            # Not a coroutine yet: the app may leave before it begins.
            write = functools.partial(asyncio.to_thread, file.write, kept, file.number())
            _: Worker[None] = self.run_worker(write, group="branches")

    def _to_keep(self) -> tuple[Kept, BranchFile]:
        from minigpt_tui.kept_branches import BranchFile, kept_of  # the first screen does not wait for it

        self._keep()
        if self._file is None:
            self._file = BranchFile()
        text = self._text
        row = min(text.scroll_offset.y, text.document.row_count - 1)
        top = None if text.following else text.document.row_start(row)
        return kept_of(self.branches, top, self._prompt.text), self._file

    def close_texts(self) -> list[Entry]:
        """End what is being written, with what has come of it, and put everything on the disk. The app leaves.

        Returns:
            What belongs into the history and is not on its way there yet.
        """
        entries: list[Entry] = []
        if not self._texts_closed:
            self._ended = entries.append
            self._end_text()
            self._write_file()
            self._texts_closed = True
        return entries

    def _write_file(self) -> None:
        """Write the tree at once: the app leaves."""
        if not self._restored and not len(self.branches):
            return  # the last session's stays
        if not self._restored:
            from minigpt_tui.kept_branches import load_kept

            self.branches.take_in(load_kept()[0].branches)
            self._restored = True
        kept, file = self._to_keep()
        file.write(kept, file.number())

    async def _restore(self) -> None:
        """Bring back what the last session left; what was typed or asked since comes first."""
        from minigpt_tui.kept_branches import load_kept  # the first screen does not wait for it

        kept, problem = await asyncio.to_thread(load_kept)
        typed_or_asked = self._live.running or not self.writing.is_empty
        taken = self.branches.take_in(kept.branches)
        self._restored = True
        if problem:
            self.tell("The last texts", f"{problem} Nothing else is lost.", hints(["help"]), letters=False)
        if kept.draft and not self._prompt.text and not typed_or_asked:
            self._prompt.text = kept.draft
            self._prompt.move_cursor(self._prompt.document.end)
        if kept.shown is not None and not typed_or_asked:
            self._show_branch(taken[kept.shown])
            if kept.top is not None:
                self._text.scroll_to(y=self.writing.document.row_at(kept.top), animate=False)
        self._branches_change()

    def _show_branch(self, branch: Branch) -> None:
        """Show the text of a branch in place of the one that is here."""
        self.branches.show(branch, self.writing)
        self._asked = (self.writing.prompt, self.writing.seed)
        self._show_left_out("")
        self._text.show_all()
        self._figures_stale = True
        self._refresh_figures()
