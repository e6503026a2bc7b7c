"""The screen of settings: what `config.toml` decides, the keys of all actions, and the themes, a page for each. What is
changed holds at once and is written at once; the app does both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal, cast

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.content import Content
from textual.widgets import Static

from engine.errors import InvalidSettingError
from minigpt_tui.actions import Where, bindings, by_id
from minigpt_tui.config_file import config_path, options, value_of
from minigpt_tui.keymap import Clash, clashes, readable_keys, shown_keys
from minigpt_tui.preferences import Preferences
from minigpt_tui.screens import settings_pages as pages
from minigpt_tui.screens.frame import FramedScreen, fitting
from minigpt_tui.screens.settings_key import KeyQuestion
from minigpt_tui.settings import Session
from minigpt_tui.themes import OWN
from minigpt_tui.visible import visible_line
from minigpt_tui.widgets.ask_line import if_yes
from minigpt_tui.widgets.page_list import PageList

Page = Literal["settings", "keys", "themes"]
PAGES: tuple[Page, ...] = ("settings", "keys", "themes")


class SettingsScreen(FramedScreen):
    """Three pages of lines, and below them what the chosen one means."""

    CSS_PATH = "settings.tcss"
    NAME = "Settings"
    BACK = "settings_back"
    AUTO_FOCUS = "#page"
    PLACES: ClassVar[dict[str, Where]] = {"": Where.SETTINGS_SCREEN}
    BINDINGS: ClassVar[list[BindingType]] = [*bindings(Where.SETTINGS_SCREEN)]

    def __init__(self, session: Session) -> None:
        """Make the screen.

        Args:
            session: What the last session left; the bell is changed in it.
        """
        super().__init__()
        self._session = session
        self._page: Page = "settings"
        self._word = ""  # what a line has to hold to be shown
        self._list = PageList(id="page", classes="panel")
        self._about = Static(id="about", classes="panel", markup=False)

    def body(self) -> ComposeResult:
        """The page, and what the chosen line means."""
        yield self._list
        yield self._about

    @property
    def _app(self) -> Preferences:
        return cast(Preferences, self.app)

    def status(self) -> tuple[Content, bool]:
        """Where all this is written."""
        return Content(f"{len(self._app.said)} decided in {visible_line(str(config_path()))}"), False

    def fit(self) -> None:
        """Show the page anew."""
        self._show_page()

    # What is shown.

    def _show_page(self, selected: str = "") -> None:
        app = self._app
        if self._page == "settings":
            lines = pages.setting_lines(app.config, self._word, list(app.available_themes))
        elif self._page == "keys":
            lines = pages.key_lines(app.keymap, self._word)
        else:
            lines = pages.theme_lines(self._themes(), app.config.theme, self._word)
        self._list.empty_text = Content(f"nothing here has {self._word!r} in it").markup
        self._list.show(lines, selected)
        titles = [
            Content.styled(page.title(), "bold underline" if page == self._page else "$quiet not bold")
            for page in PAGES
        ]
        self._list.border_title = Content(" · ").join(titles) + (f" · with {self._word!r}" if self._word else "")
        self._show_keys()
        self._show_about()
        self.show_status()

    def _themes(self) -> dict[str, str]:
        """All themes, ours first, then one's own, then Textual's."""
        from textual.theme import BUILTIN_THEMES

        words = {"minigpt-contrast": "high contrast", "minigpt-colourblind": "for all kinds of colour vision"}

        def rank(name: str) -> int:
            return 0 if name in ours else 2 if name in BUILTIN_THEMES else 1

        ours = {theme.name for theme in OWN}
        found = {}
        for name in sorted(self.app.available_themes, key=rank):
            theme = self.app.available_themes[name]
            kind = "the terminal's own colours" if theme.ansi else "dark" if theme.dark else "light"
            found[name] = ", ".join(filter(None, [kind, words.get(name, ""), ("", "your own", "")[rank(name)]]))
        return found

    def _show_keys(self) -> None:
        here: dict[Page, list[str | tuple[str, str]]] = {
            "settings": [
                "keys_page", "themes_page", "setting_change", "setting_reset", "settings_reset", "setting_find",
            ],
            "keys": [
                "settings_page", "themes_page", ("setting_change", "another key"), "key_add", "setting_reset",
                "settings_reset", "setting_find",
            ],
            "themes": ["settings_page", "keys_page", ("setting_change", "take it"), "setting_reset", "setting_find"],
        }  # fmt: skip
        self._list.border_subtitle = fitting(here[self._page], self._list.outer_size.width - 6)

    def _show_about(self) -> None:
        line = self._list.chosen
        if line is None:
            self._about.border_title = ""
            self._about.update("")
            return
        self._about.border_title = Content(visible_line(line.label))
        if self._page == "settings":
            sentence, quiet = pages.about_setting(options()[line.key], self._app.said)
        elif self._page == "keys":
            action = by_id(line.key)
            given = f"in config.toml: keys.{action.id}" if line.changed else "the key that it ships with"
            sentence, quiet = action.sentence, f"{shown_keys(action.keys)}, {given}. Acts: {action.where.value}."
        else:
            self._about.update(_sample())
            return
        self._about.update(Content.assemble(visible_line(sentence), "\n", (visible_line(quiet), "$quiet")))

    def on_row_list_selected(self, event: PageList.Selected) -> None:
        """Say what it means; a theme is shown as it is."""
        event.stop()
        if self._page == "themes":
            self._app.preview_theme(event.key)
        self._show_about()

    def on_page_list_turned(self, event: PageList.Turned) -> None:
        """The same as by key."""
        event.stop()
        self.action_turn(event.direction)

    def on_page_list_wanted(self, event: PageList.Wanted) -> None:
        """The same as by key."""
        event.stop()
        self._change(event.typed)

    def on_screen_resume(self) -> None:
        """The file may have been edited meanwhile."""
        self._app.heed_file()

    def on_screen_suspend(self) -> None:
        """A theme that was only looked at is let go."""
        self._app.preview_theme("")

    # Settings.

    def _set(self, key: str, value: object) -> str:
        """Let a setting have a value; what is wrong with it, or nothing."""
        try:
            self._app.change_setting(key, value)
        except InvalidSettingError as error:
            return visible_line(error.hint or error.message)
        if key == "bell" and isinstance(value, bool):
            self._session.bell = value
        self._show_page()
        return ""

    def action_turn(self, direction: int) -> None:
        """The next value."""
        line = self._list.chosen
        if self._page != "settings" or line is None:
            return
        option = options()[line.key]
        value = value_of(self._app.config, line.key)
        following = pages.stepped(option, value, direction, list(self.app.available_themes))
        if not line.turns:
            self._change()
        elif following != value:
            self._set(line.key, following)

    def action_change(self) -> None:
        """Type a value, press a key, or take a theme."""
        self._change()

    def _change(self, typed: str | None = None) -> None:
        line = self._list.chosen
        if line is None:
            return
        if self._page == "themes":
            self._set("theme", line.key)
            self.say(f"{line.key} is the theme now")
            return
        if self._page == "keys":
            self._ask_key(line.key, add=False)
            return
        option = options()[line.key]
        if option.field.choices or option.field.type is bool or option.key in ("bell", "theme"):
            self.action_turn(1)
            return

        def take(text: str) -> str:
            try:
                value = pages.typed(option, text)
            except InvalidSettingError as error:
                return visible_line(error.hint or error.message)
            return self._set(option.key, value)

        value = pages.written(value_of(self._app.config, option.key))
        remark = option.range_text or ("several: a, b" if option.key == "model_folders" else "empty for the default")
        self._open(option.title, remark, take, value, typed)

    def action_reset(self) -> None:
        """Set the chosen line back."""
        line = self._list.chosen
        if line is None:
            return
        if self._page == "settings":
            self._set(line.key, None)
        elif self._page == "themes":
            self._set("theme", None)
            self._show_page(self._app.config.theme)
        elif line.changed:
            self._take_keys({line.key: ""}, f"{line.label} is back on {shown_keys(_shipped_keys(line.key))}")

    def action_reset_all(self) -> None:
        """Set all of the page back, once that was confirmed."""
        if self._page == "settings":
            keys = [key for key in self._app.said if key in options()]
        elif self._page == "keys":
            keys = [f"keys.{action}" for action in self._app.config.keymap]
        else:
            keys = ["theme"] if "theme" in self._app.said else []
        if not keys:
            self.say("all of it is as it ships")
            return

        def back() -> None:
            for key in keys:
                self._app.change_setting(key, None)
            self._show_page()
            self.say("set back")

        count = f"{len(keys)} of them" if len(keys) > 1 else "it"
        self._confirm("set all back?", f"y sets {count} back; esc keeps all", back)

    # Keys.

    def action_add_key(self) -> None:
        """Give the chosen action one more key."""
        if self._page == "keys" and self._list.chosen is not None:
            self._ask_key(self._list.chosen.key, add=True)

    def _ask_key(self, action_id: str, *, add: bool) -> None:
        action = by_id(action_id)

        def answer(key: str | None) -> None:
            self._app.waits_for_key = False
            if key:
                self._give_key(action_id, key, add=add)

        self._app.waits_for_key = True
        self.app.push_screen(KeyQuestion(action.title, action.sentence), answer)

    def _give_key(self, action_id: str, pressed: str, *, add: bool) -> None:
        """Let an action have a key, in place of its first or beside those that it has."""
        action = by_id(action_id)
        others = action.keys.split(",") if add else action.keys.split(",")[1:]
        try:
            key = readable_keys(action, pressed)
        except InvalidSettingError as error:
            self.tell("That key cannot be taken", f"{error}. The keys are as they were.")
            return
        keys = ",".join(dict.fromkeys([*others, key] if add else [key, *others]))
        if keys == action.keys:
            self.say(f"{action.title} has that key already")
            return
        found = clashes(action_id, {**self._app.keymap, action_id: keys})
        if not found:
            self._take_keys({action_id: keys}, f"{action.title} is {shown_keys(keys)} now")
            return
        self._ask_to_swap(found[0], keys)

    def _ask_to_swap(self, clash: Clash, keys: str) -> None:
        mine, other = by_id(clash.action.id), by_id(clash.other.id)
        try:
            both = pages.swapped(mine, clash.key, other, keys)
            for action_id, theirs in both.items():
                readable_keys(by_id(action_id), theirs)
                if still := clashes(action_id, {**self._app.keymap, **both}):
                    raise InvalidSettingError(still[0].words, "take another")
        except InvalidSettingError as error:
            self.tell("That key is taken", f"{clash.words}. They cannot change places: {error}.")
            return

        def swap() -> None:
            self._take_keys(both, f"{mine.title} is {shown_keys(keys)}, {other.title} {shown_keys(both[other.id])}")

        question = f"{clash.words}."
        self._confirm(question, f"y swaps; {other.title!r} gets {shown_keys(both[other.id])}", swap)

    def _take_keys(self, given: dict[str, str], remark: str) -> None:
        """Let actions have other keys; an empty text is for those that they ship with."""
        after = {**self._app.keymap, **given}
        after = {action: keys for action, keys in after.items() if keys}
        for action_id in given:
            if found := clashes(action_id, after):
                self.tell("That key is taken", f"{found[0].words}. Give that another first.")
                return
        for action_id, keys in given.items():
            self._app.change_setting(f"keys.{action_id}", keys if keys and keys != _shipped_keys(action_id) else None)
        self._show_page()
        self.say(remark)

    # Moving about.

    def action_page(self, page: Page) -> None:
        """Go to a page."""
        self._app.preview_theme("")
        self._page, self._word = page, ""
        self._show_page(self._app.config.theme if page == "themes" else "")
        self._list.focus()

    def action_turn_page(self, direction: int) -> None:
        """Go to the page after, or before."""
        self.action_page(PAGES[(PAGES.index(self._page) + direction) % len(PAGES)])

    def action_move(self, by: int) -> None:
        """Choose another line."""
        self._list.action_move(by)

    def action_leap(self, direction: int) -> None:
        """Choose a line a screen further."""
        self._list.action_page(direction)

    def action_find(self) -> None:
        """Show only the lines with a word."""

        def take(text: str) -> str:
            self._word = text.strip()
            self._show_page()
            return ""

        self._open("find", "empty shows all", take, self._word)

    def action_back(self) -> None:
        """Close what is open; else show all lines; else let go of a theme that was only looked at."""
        if self.close_open():
            return
        if self._word:
            self._word = ""
            self._show_page()
        self._app.preview_theme("")
        if self._page == "themes":
            self._show_page(self._app.config.theme)

    def _confirm(self, question: str, remark: str, act: Callable[[], None]) -> None:
        self._open(question, remark, if_yes(act, remark))


def _shipped_keys(action_id: str) -> str:
    from minigpt_tui.actions import shipped

    return next(action.keys for action in shipped() if action.id == action_id)


def _sample() -> Content:
    """What is seen of a theme, beside the whole screen."""
    return Content.assemble(
        ("ROMEO: ", "$prompt-text"), "what light ", ("through yonder ", "$quiet"), ("⟨window⟩", "italic $quiet"), "\n",
        ("enter", "$key"), (" generate · ", "$quiet"), ("━━━━━━━━", "$accent"), ("━━━━", "$bar"), ("────", "$line"),
        ("  train ", "$curve-1"), ("val ", "$curve-2"), ("third ", "$curve-3"), ("fourth ", "$curve-4"),
        ("error", "$text-error"),
    )  # fmt: skip
