"""The texts of the form: what can be chosen as one types, and a file of this machine that is sent to another one, where
the run is started.
"""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

from engine.errors import MiniGPTError
from engine.text.library import LibraryText
from engine.text.path_completion import complete
from minigpt_tui.screens.train_form_cost import TrainFormCost
from minigpt_tui.training.run_draft import RunDraft
from minigpt_tui.training.run_starter import RunStarter
from minigpt_tui.training.text_paths import HERE, choices_here, last_part, path_here, put_for, text_choices
from minigpt_tui.visible import visible_line
from minigpt_tui.widgets.choice_list import Choice


class TrainFormTexts(TrainFormCost):
    """The form, with the lists of its texts."""

    def __init__(self, draft: RunDraft, starter: RunStarter) -> None:
        super().__init__(draft, starter)
        self._texts: tuple[LibraryText, ...] = ()

    def _refuse(self, why: str, key: str) -> None:
        """Say what cannot be done, and go to its field; its heir does."""
        raise NotImplementedError

    def _suggest(self, key: str) -> None:
        _ = self.run_worker(partial(self._find_choices, key), group="suggest", exclusive=True)

    async def _find_choices(self, key: str) -> None:
        text, machine = getattr(self.draft, key), self._starter.name
        begun = last_part(text)
        here = path_here(begun) if machine else None
        try:
            if here is not None:
                found, is_begun = choices_here(here, await asyncio.to_thread(complete, here), visible_line(machine))
            else:
                paths = await self._starter.complete(begun)
                found, is_begun = text_choices(text, self._texts, paths, self._there)
        except MiniGPTError:  # without a link there is nothing to choose from; that it is lost is said of the text
            return
        if machine and here is None and HERE.startswith(begun):
            found = (*found, Choice(HERE, HERE, f"a file of this machine, to be sent to {visible_line(machine)}"))
        if self.place == key:
            self._choices.open(key, found, self.value_region(key), 0 if is_begun else None)
            self.show_place()

    def _sends(self, key: str, choice: Choice) -> bool:
        """Whether to take a choice is to send the file that stands in the field already."""
        begun = last_part(self._text_row(key).input.value)
        return bool(self._starter.name) and choice.value == begun and bool(path_here(begun))

    def _send(self, key: str, typed: str) -> None:
        """Send a file of this machine to where the run is started; its path there takes the place of what was typed."""
        path = Path(path_here(typed) or "")
        self._text_row("text").tell(f"sending {visible_line(path.name)}{self._there} …")

        async def send() -> None:
            try:
                name = await self._starter.send(path)
                self._texts = await self._starter.list_texts()  # it is one of them now
            except MiniGPTError as error:
                self._refuse(str(error), key)
                return
            field = self._text_row(key).input
            field.value = put_for(field.value, typed, name)  # says so, and has it looked at
            field.cursor_position = len(field.value)

        _ = self.run_worker(send, group="send", exclusive=True)
