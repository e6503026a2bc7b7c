"""What can be done with named prompts and settings."""

from __future__ import annotations

from minigpt_tui.actions.action import Action, Where

P_, Y_ = Where.PLAY, Where.LIBRARY

ACTIONS: tuple[Action, ...] = (
    Action("presets", "o", "o", "presets", "Settings with names: take one, or keep the present ones.", P_, "presets"),
    Action("prompts", "O", "O", "prompts", "Prompts with names: take one, or keep what is typed.", P_, "prompts"),
    Action("library_take", "enter", "enter", "take", "Put it into force, or into the prompt.", Y_, "take"),
    Action("library_save", "s", "s", "save", "Keep the present settings, or what is typed, under a name.", Y_, "save"),
    Action("library_edit", "e", "e", "edit", "Change the settings of a preset, and what it is for.", Y_, "edit"),
    Action("library_rename", "r", "r", "rename", "Give one of your own another name.", Y_, "rename"),
    Action("library_remove", "D,delete", "D", "delete", "Delete one of your own; asks first.", Y_, "remove"),
    Action("library_above", "up", "↑", "above", "The one above.", Y_, "move(-1)", False),
    Action("library_below", "down", "↓", "below", "The one below.", Y_, "move(1)", False),
    Action("library_up", "pageup", "pgup", "page up", "A page up.", Y_, "page(-1)", False),
    Action("library_down", "pagedown,space", "pgdn", "page down", "A page down.", Y_, "page(1)", False),
    Action("library_first", "home", "home", "first", "The first.", Y_, "move(-100000)", False),
    Action("library_last", "end", "end", "last", "The last.", Y_, "move(100000)", False),
    Action("library_close", "escape,q", "esc", "close", "Close the question, or the list.", Y_, "close", False),
)  # fmt: skip
