"""What can be done on the Play screen."""

from __future__ import annotations

from minigpt_tui.actions.action import Action, Where
from minigpt_tui.parameters import PARAMETERS

P_, T_, R_, S_ = Where.PLAY, Where.TEXT, Where.PROMPT, Where.SAMPLING

ACTIONS: tuple[Action, ...] = (
    Action("generate", "enter", "enter", "generate", "Write on from the prompt.", R_, "generate"),
    Action("new_line", "ctrl+j", "ctrl+j", "new line", "Begin a new line in the prompt.", R_, "new_line", False),
    Action(
        "earlier_prompt", "up", "↑", "earlier prompt", "On the first line: the prompt before this.", R_, "up", False
    ),
    Action("later_prompt", "down", "↓", "later prompt", "On the last line: the prompt after this.", R_, "down", False),
    Action("stop", "escape", "esc", "stop", "Stop writing; what was written stays. Else leave this place.", P_, "stop"),
    Action("continue", "c", "c", "continue", "Write on from where the text ends.", P_, "continue_text"),
    Action("again", "g", "g", "again", "Write again from the same prompt, with a new seed.", P_, "again"),
    Action("again_same", "G", "G", "same again", "Write again with the same seed.", P_, "again_same"),
    Action("from_nothing", "z", "z", "from nothing", "Write with no prompt at all.", P_, "from_nothing"),
    Action("full_speed", "greater_than_sign", ">", "full speed", "As fast as it can, or back.", P_, "full_speed"),
    Action("slower", "comma", ",", "slower", "A slower pace.", P_, "pace(-1)"),
    Action("faster", "full_stop", ".", "faster", "A faster pace.", P_, "pace(1)"),
    Action("endless", "e", "e", "endless", "Write without an end, or to a length again.", P_, "endless"),
    Action("copy", "y", "y", "copy", "Copy what is selected, or the whole text (through OSC 52).", P_, "copy"),
    Action("save", "w", "w", "save", "Save the text to a file.", P_, "save"),
    Action("clear", "x", "x", "clear", "Clear the text.", P_, "clear"),
    Action("choose_model", "l", "l", "model", "Choose the model that writes.", P_, "choose_model"),
    Action("next_token", "d", "d", "next token", "Show or hide the panel of likely next tokens.", P_, "next_token"),
    Action("next_step", "ctrl+n", "^n", "next step", "At a first start: what can be done next.", P_, "next_step"),
    Action("focus_prompt", "a,enter", "a", "prompt", "Go to the prompt.", P_, "focus_prompt"),
    Action("focus_text", "v", "v", "text", "Go to the text.", P_, "focus_text"),
    Action("focus_sampling", "u", "u", "sampling", "Go to the sampling settings.", P_, "focus_sampling"),
    Action("scroll_up", "up", "↑", "up", "Scroll up a row; from the bottom the end is followed.", T_, "up", False),
    Action("scroll_down", "down", "↓", "down", "Scroll down a row.", T_, "down", False),
    Action("page_up", "pageup", "pgup", "page up", "Scroll up a page.", T_, "page_up", False),
    Action("select_all", "ctrl+a", "^a", "select all", "Select the whole text, to copy it.", T_, "select_all", False),
    Action("select_down", "shift+down", "⇧↓", "select", "Select a row more, downwards.", T_, "select_rows(1)", False),
    Action("select_up", "shift+up", "⇧↑", "select", "Select a row more, upwards.", T_, "select_rows(-1)", False),
    Action("page_down", "pagedown,space", "pgdn", "page down", "Scroll down a page.", T_, "page_down", False),
    Action("to_start", "home", "home", "start", "Go to the start of the text.", T_, "to_start", False),
    Action("to_end", "end", "end", "end", "Go to the end, and follow it.", T_, "to_end", False),
    Action("row_up", "up", "↑", "row up", "The setting above.", S_, "row(-1)", False),
    Action("row_down", "down", "↓", "row down", "The setting below.", S_, "row(1)", False),
    Action("lower", "left,minus", "←", "lower", "Lower this setting.", S_, "turn(-1)", False),
    Action("raise", "right,plus", "→", "raise", "Raise this setting.", S_, "turn(1)", False),
    Action("edit", "enter", "enter", "type a value", "Type its value; a digit begins too.", S_, "edit", False),
    Action("reset_row", "backspace,delete", "⌫", "reset this", "Set this one back.", S_, "reset_row", False),
    Action("reset", "0", "0", "reset", "Set all of sampling back.", Where.SETTINGS, "reset_sampling"),
    *(
        Action(
            f"{verb}_{parameter.field}",
            key,
            key,
            f"{word} {parameter.name}",
            f"{word.capitalize()} {parameter.name}: {parameter.help}.",
            Where.SETTINGS,
            f"step('{parameter.field}', {direction})",
        )
        for parameter in PARAMETERS
        if parameter.ladder
        for verb, word, key, direction in (
            ("lower", "lower", parameter.lower_key, -1),
            ("raise", "raise", parameter.raise_key, 1),
        )
    ),
    Action("new_seed", "s", "s", "new seed", "Draw a new seed for the next text.", Where.SETTINGS, "new_seed"),
    Action("type_seed", "S", "S", "type a seed", "Type the seed of the next text.", Where.SETTINGS, "ask('seed')"),
    Action("edit_stop", "slash", "/", "stop strings", "Type what ends a text.", Where.SETTINGS, "ask('stop')"),
    Action("next_panel", "tab", "tab", "next panel", "Text, prompt, sampling, and round.", P_, "panel(1)", False),
    Action("previous_panel", "shift+tab", "⇧tab", "previous panel", "The other way round.", P_, "panel(-1)", False),
)  # fmt: skip
