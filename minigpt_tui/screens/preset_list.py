"""The presets over the Play screen: one is put into force or edited, the present settings are kept under a name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from engine.config import SamplingParams
from engine.errors import InvalidSettingError
from minigpt_tui.library import presets
from minigpt_tui.library.presets import Preset
from minigpt_tui.screens.library_list import LibraryList
from minigpt_tui.visible import visible_line


class PresetList(LibraryList[Preset, Preset]):
    """Settings that have names."""

    TITLE_TEXT = "Presets"
    KEYS: ClassVar[tuple[str, ...]] = (
        "library_take",
        "library_save",
        "library_edit",
        "library_rename",
        "library_remove",
    )

    def __init__(self, params: SamplingParams) -> None:
        """Make the list.

        Args:
            params: The settings that are in force.
        """
        super().__init__()
        self._params = params

    def read(self) -> Sequence[Preset]:
        """All presets."""
        return presets.read_presets()

    def shipped(self) -> Sequence[Preset]:
        """Those that ship."""
        return presets.SHIPPED

    def in_force(self) -> str:
        """The one that the settings are equal to."""
        return presets.preset_in_force(self.items, self._params)

    def result(self, item: Preset) -> Preset:
        """It, if it can be used."""
        item.applied(self._params)
        return item

    def keep(self, name: str) -> None:
        """Keep the present settings; what is said of a preset of that name stays."""
        about = next((item.about for item in self.items if item.name == name and item.is_own), "")
        presets.save_preset(name, presets.values_to_keep(self._params), about)

    def keep_as(self, item: Preset, name: str) -> None:
        """Keep one under another name."""
        if not item.problem:
            presets.save_preset(name, item.values, item.about)
        else:
            item.applied(self._params)  # says what is wrong

    def drop(self, name: str) -> None:
        """Delete one."""
        presets.remove_preset(name)

    def action_edit(self) -> None:
        """Ask for the settings on a line, then for the sentence; a shipped one is kept as one's own."""
        if (item := self.chosen) is None:
            return

        def take(text: str) -> str:
            try:
                values = presets.parse_line(text)
            except InvalidSettingError as error:
                return visible_line(str(error))
            self._ask_about(item, values)
            return ""

        question = f"settings of {item.name}"
        self._ask.ask(visible_line(question), "such as top_k=20", take, value=item.line)

    def _ask_about(self, item: Preset, values: dict[str, Any]) -> None:
        def take(text: str) -> str:
            self._do(lambda: presets.save_preset(item.name, values, text), item.name)
            return ""

        self._ask.ask(visible_line(f"what {item.name} is for"), "a sentence, or nothing", take, value=item.about)
