"""Named prompts and settings on the Play screen: their lists, and which preset is in force."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from textual.command import Provider
from textual.content import Content

from minigpt_tui.actions import hints
from minigpt_tui.library.named_tables import LibraryError
from minigpt_tui.library.presets import SHIPPED, Preset, preset_in_force, read_presets
from minigpt_tui.screens.play_score import PlayScore
from minigpt_tui.status_text import sentence
from minigpt_tui.visible import visible_line

if TYPE_CHECKING:
    from minigpt_tui.library.prompts import NamedPrompt


def _library() -> type[Provider]:
    from minigpt_tui.library_palette import LibraryProvider  # when the palette opens

    return LibraryProvider


class PlayLibrary(PlayScore):
    """Prompts and settings that have names."""

    COMMANDS = {_library}  # noqa: RUF012
    _presets: tuple[Preset, ...] = SHIPPED  # until the user's own are read, and as long as they cannot be

    def on_mount(self) -> None:
        """Read the user's own presets once the first screen is painted."""
        self.call_after_refresh(lambda: self.run_worker(self._read_presets(), group="library", exclusive=True))

    async def _read_presets(self) -> None:
        """Know the user's own presets; a damaged file is spoken of where the presets are wanted."""
        try:
            found = await asyncio.to_thread(read_presets)
        except LibraryError:
            return
        self._know(found)

    def _know(self, found: tuple[Preset, ...]) -> None:
        self._presets = found
        self._show_params()

    def _show_params(self) -> None:
        """Name the preset that the settings are equal to."""
        super()._show_params()
        name = preset_in_force(self._presets, self._session.params)
        self._sampling.border_title = Content(visible_line(f"Sampling · {name}" if name else "Sampling"))

    def _show_keys(self) -> None:
        super()._show_keys()
        self._sampling.border_subtitle = hints(["presets", "reset"])

    # Presets.

    def action_presets(self) -> None:
        """Show the presets to choose from."""
        from minigpt_tui.screens.preset_list import PresetList

        shelf = PresetList(self._session.params)

        def take(preset: Preset | None) -> None:
            self._know(shelf.items or self._presets)
            if preset is not None:
                self._put_in_force(preset)

        self.app.push_screen(shelf, take)

    async def action_use_preset(self, name: str) -> None:
        """Put a preset into force.

        Args:
            name: Its name.
        """
        try:
            known = {preset.name: preset for preset in await asyncio.to_thread(read_presets)}
            if name in known:
                known[name].applied(self._session.params)
        except LibraryError as error:
            self.tell("The preset cannot be used", sentence(error), hints(["presets"]))
            return
        if name in known:
            self._put_in_force(known[name])

    def _put_in_force(self, preset: Preset) -> None:
        self._change_params(preset.applied(self._session.params))
        self.say(f"{preset.name}: {preset.words}")

    # Prompts.

    def action_prompts(self) -> None:
        """Show the named prompts to choose from."""
        from minigpt_tui.screens.prompt_list import PromptList

        def take(prompt: NamedPrompt | None) -> None:
            if prompt is not None:
                self.use_prompt(prompt.text)

        self.app.push_screen(PromptList(self._prompt.text), take)

    async def action_take_prompt(self, name: str) -> None:
        """Put a named prompt into the editor.

        Args:
            name: Its name.
        """
        from minigpt_tui.library.prompts import read_prompts

        try:
            known = {prompt.name: prompt for prompt in await asyncio.to_thread(read_prompts)}
        except LibraryError as error:
            self.tell("The prompt cannot be used", sentence(error), hints(["prompts"]))
            return
        if name in known and not known[name].problem:
            self.use_prompt(known[name].text)

    def use_prompt(self, prompt: str) -> None:
        """Put a prompt where it can be sent; ctrl+z brings back what stood there.

        Args:
            prompt: Its text.
        """
        editor = self._prompt
        editor.replace(prompt, (0, 0), editor.document.end)
        editor.move_cursor(editor.document.end)
        editor.focus()
