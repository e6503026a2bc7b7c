"""The named prompts over the Play screen: one is put into the editor, what stands there is kept under a name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from minigpt_tui.actions import by_id
from minigpt_tui.library import prompts
from minigpt_tui.library.named_tables import LibraryError
from minigpt_tui.library.prompts import NamedPrompt
from minigpt_tui.screens.library_list import LibraryList


class PromptList(LibraryList[NamedPrompt, NamedPrompt]):
    """Prompts that have names."""

    TITLE_TEXT = "Prompts"
    KEYS: ClassVar[tuple[str, ...]] = ("library_take", "library_save", "library_rename", "library_remove")

    def __init__(self, typed: str) -> None:
        """Make the list.

        Args:
            typed: What stands in the prompt's editor.
        """
        super().__init__()
        self._typed = typed

    def read(self) -> Sequence[NamedPrompt]:
        """All prompts."""
        return prompts.read_prompts()

    def shipped(self) -> Sequence[NamedPrompt]:
        """Those that ship."""
        return prompts.SHIPPED

    def result(self, item: NamedPrompt) -> NamedPrompt:
        """It, if it can be used."""
        if item.problem:
            raise LibraryError(f"{item.name} cannot be used: {item.problem}", f"mend it in {prompts.prompts_file()}")
        return item

    def nothing_to_keep(self) -> str:
        """Whether something is typed."""
        come, save = by_id("prompts").shown, by_id("library_save").shown
        return "" if self._typed else f"There is no prompt to keep yet: type one first, then {come} and {save} keep it."

    def keep(self, name: str) -> None:
        """Keep what is typed; what is said of a prompt of that name stays."""
        about = next((item.about for item in self.items if item.name == name and item.is_own), "")
        prompts.save_prompt(name, self._typed, about)

    def keep_as(self, item: NamedPrompt, name: str) -> None:
        """Keep one under another name."""
        prompts.save_prompt(name, self.result(item).text, item.about)

    def drop(self, name: str) -> None:
        """Delete one."""
        prompts.remove_prompt(name)

    def action_edit(self) -> None:
        """A prompt is edited where prompts are typed."""
        self.action_take()
