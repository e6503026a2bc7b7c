"""What can be done on the screen of settings."""

from __future__ import annotations

from minigpt_tui.actions.action import Action, Where

S_ = Where.SETTINGS_SCREEN

ACTIONS: tuple[Action, ...] = (
    Action("settings_page", "s", "s", "settings", "Go to the settings.", S_, "page('settings')"),
    Action("keys_page", "k", "k", "keys", "Go to the keys: each action can have another.", S_, "page('keys')"),
    Action("themes_page", "t", "t", "themes", "Go to the themes: each shows itself.", S_, "page('themes')"),
    Action("page_after", "tab,right_square_bracket", "tab", "next page", "The page after.", S_, "turn_page(1)", False),
    Action(
        "page_before", "shift+tab,left_square_bracket", "⇧tab", "page before", "The page before.", S_, "turn_page(-1)",
        False,
    ),
    Action("line_above", "up", "↑", "above", "The line above.", S_, "move(-1)", False),
    Action("line_below", "down", "↓", "below", "The line below.", S_, "move(1)", False),
    Action("lines_up", "pageup", "pgup", "page up", "A screen of lines up.", S_, "leap(-1)", False),
    Action("lines_down", "pagedown", "pgdn", "page down", "A screen of lines down.", S_, "leap(1)", False),
    Action("first_line", "home", "home", "first line", "The first line.", S_, "move(-100000)", False),
    Action("last_line", "end", "end", "last line", "The last line.", S_, "move(100000)", False),
    Action("setting_lower", "left,minus", "←", "lower", "The value before, or a lower one.", S_, "turn(-1)", False),
    Action("setting_raise", "right,plus,space", "→", "raise", "The next value, or a higher one.", S_, "turn(1)", False),
    Action("setting_change", "enter", "enter", "change", "Type a value, press a key, or take a theme.", S_, "change"),
    Action("key_add", "a", "a", "one more key", "Give the action one more key.", S_, "add_key"),
    Action("setting_reset", "backspace,delete", "⌫", "set back", "Set this one back.", S_, "reset", False),
    Action("settings_reset", "R", "R", "set all back", "Set all of this page back; asks first.", S_, "reset_all"),
    Action("setting_find", "slash", "/", "find", "Show only the lines with a word.", S_, "find"),
    Action("settings_back", "escape", "esc", "back", "Close what is open; else show all lines.", S_, "back", False),
)  # fmt: skip
