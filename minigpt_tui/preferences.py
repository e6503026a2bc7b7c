"""The app as far as the user decides it: keys, colours, movement, the clipboard, all from `config.toml`, changed while
it runs and written at once. It knows nothing of screens but what they say of themselves.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import Any

from textual import constants
from textual.app import App
from textual.filter import LineFilter, Monochrome
from textual.theme import Theme
from textual.worker import Worker

from engine.errors import MiniGPTError
from minigpt_tui.actions import use_keys
from minigpt_tui.config_file import Config, Loaded, load_config, value_of, with_value
from minigpt_tui.kept_stylesheet import KeptStylesheet
from minigpt_tui.themes import DARK, OWN, variable_defaults

_GREY = Monochrome()


class Preferences(App[None]):
    """An app that heeds what was decided.

    Attributes:
        config: What holds now.
        config_problems: What is wrong with the file and with what it names, one sentence each.
        said: The keys that the file says.
        keymap: The keys that hold in place of those that actions ship with.
        waits_for_key: Whether the next key is an answer: then none does what it does elsewhere.
    """

    def __init__(self, loaded: Loaded | None = None) -> None:
        """Heed the file.

        Args:
            loaded: What was read of it; by default it is read now.
        """
        super().__init__()
        self.stylesheet = KeptStylesheet(variables=self.theme_variables)
        loaded = loaded or load_config()
        self.config: Config = loaded.config
        self.config_problems = list(loaded.problems)
        self.said = loaded.said
        self.keymap: dict[str, str] = {}
        self.waits_for_key = False
        self._previewed = ""
        self._unwritten: dict[str, Any] = {}
        self._writer: Worker[None] | None = None
        for theme in OWN:
            self.register_theme(theme)
        self._take_users_themes()
        self._take_keys()
        self._take_theme()
        self._take_animation()

    # What is heeded.

    def _take_users_themes(self) -> None:
        from minigpt_tui.user_themes import theme_files

        if not (files := theme_files()):
            return
        from minigpt_tui.user_themes import read_theme

        for path in files:
            try:
                self.register_theme(read_theme(path))
            except MiniGPTError as error:
                self.config_problems.append(str(error))

    def _take_theme(self) -> None:
        if self.config.theme in self.available_themes:
            self.theme = self.config.theme
            return
        from engine.validation import nearest_hint

        hint = nearest_hint(self.config.theme, self.available_themes)
        self.config_problems.append(f"there is no theme {self.config.theme!r}: {hint}")
        self.theme = DARK.name

    def _take_keys(self) -> None:
        if self.config.keys:
            from minigpt_tui.keymap import resolve  # reads every list of actions: only where keys were chosen

            resolved = resolve(self.config.keymap)
            self.config_problems += resolved.problems
            self.keymap = resolved.keymap
        else:
            self.keymap = {}
        self.set_keymap(self.keymap)
        use_keys(self.keymap)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Nothing is done by a key that is an answer."""
        return not self.waits_for_key and super().check_action(action, parameters)

    def _take_animation(self) -> None:
        self.animation_level = "none" if self.config.animation == "none" else constants.TEXTUAL_ANIMATIONS

    def get_line_filters(self) -> Sequence[LineFilter]:
        """Textual's, and one that leaves shades of grey, where that was decided."""
        filters = super().get_line_filters()
        return [*filters, _GREY] if self.config.color == "none" and not self.no_color else filters

    def get_theme_variable_defaults(self) -> dict[str, str]:
        """Our own names for colours, in themes that do not have them."""
        return variable_defaults(self.current_theme)

    # What is changed.

    def heed_file(self) -> None:
        """Heed what was changed in the file by other hands; a damaged one is left for the next start to tell."""
        loaded = load_config()
        if loaded.damaged or self._unwritten or loaded.config == self.config:
            return
        self.config, self.said, self.config_problems = loaded.config, loaded.said, list(loaded.problems)
        self._take_keys()
        self._take_theme()
        self._take_animation()
        self.refresh_css(animate=False)

    def change_setting(self, key: str, value: Any) -> None:
        """Heed another value from now on, and write it into the file.

        Args:
            key: Its name, with its table before a dot; `keys.ID` for the keys of an action.
            value: None for what holds where nothing is decided.

        Raises:
            InvalidSettingError: The value is of the wrong kind or out of its range.
        """
        if key.startswith("keys."):
            keymap = {**self.config.keymap, key.removeprefix("keys."): value}
            self.config = with_value(
                self.config, "keys", tuple((action, keys) for action, keys in keymap.items() if keys)
            )
            self._take_keys()
        else:
            default = value_of(Config(), key)
            self.config = with_value(self.config, key, default if value is None else value)
        if key == "theme":
            self.theme = self.config.theme
        elif key == "animation":
            self._take_animation()
        elif key in ("color", "keys") or key.startswith("keys."):
            self.refresh_css(animate=False)
        self._write_soon(key, value)

    def preview_theme(self, name: str) -> None:
        """Show a theme without deciding on it.

        Args:
            name: The theme; empty for the one that was decided on.
        """
        self._previewed = name
        self.theme = name or (self.config.theme if self.config.theme in self.available_themes else DARK.name)

    def theme_chosen(self, theme: Theme) -> None:
        """Write down a theme that was chosen in whatever way."""
        if theme.name not in (self.config.theme, self._previewed):
            self.config = with_value(self.config, "theme", theme.name)
            self._write_soon("theme", theme.name)

    def _write_soon(self, key: str, value: Any) -> None:
        self._unwritten[key] = value
        self.said = self.said - {key} if value is None else self.said | {key}
        if self._writer is None or self._writer.is_finished:
            self._writer = self.run_worker(self._write(), group="config")

    async def _write(self) -> None:
        """Write what was changed, beside the loop: a disk may be slow."""
        from minigpt_tui.config_edit import set_value

        while self._unwritten:
            key, value = self._unwritten.popitem()
            try:
                await asyncio.to_thread(set_value, key, value)
            except MiniGPTError as error:
                self.remark(str(error))

    async def written(self) -> None:
        """Wait until all that was changed is in the file."""
        if self._writer is not None:
            await self._writer.wait()

    # The clipboard.

    def copy_to_clipboard(self, text: str) -> None:
        """Copy a text as it was decided and as the terminal can, and say what became of it."""
        from minigpt_tui import clipboard

        self._clipboard = text
        limit, path = self.config.copy_limit, None
        try:
            if not clipboard.through_terminal(text, self.config.clipboard, limit, os.environ):
                path = clipboard.save_copy(text)
            elif self._driver is not None:
                self._driver.write(clipboard.osc52(text, os.environ))
        except clipboard.CopyError as error:
            self.remark(str(error))
            return
        self.remark(clipboard.remark(text, path, limit))

    def remark(self, words: str) -> None:
        """Say something on the screen that is shown."""
        raise NotImplementedError
