"""What can be done on the Models screen while the engine is on another machine or behind a server."""

from __future__ import annotations

from minigpt_tui.actions.action import Action, Where

M_ = Where.MODELS_ELSEWHERE

ACTIONS: tuple[Action, ...] = (
    Action("there_play", "enter,l", "enter", "play", "Load it there, and write with it.", M_, "play"),
    Action("there_again", "r", "r", "list again", "Ask anew which models there are.", M_, "again"),
    Action("there_back", "escape", "esc", "back", "Dismiss the notice.", M_, "back", False),
    Action("there_above", "up", "↑", "model above", "The model above.", M_, "move(-1)", False),
    Action("there_below", "down", "↓", "model below", "The model below.", M_, "move(1)", False),
    Action("there_up", "pageup", "pgup", "page up", "A page of models up.", M_, "page(-1)", False),
    Action("there_down", "pagedown", "pgdn", "page down", "A page of models down.", M_, "page(1)", False),
    Action("there_first", "home", "home", "first model", "The first model.", M_, "move(-100000)", False),
    Action("there_last", "end", "end", "last model", "The last model.", M_, "move(100000)", False),
)  # fmt: skip
