"""What can be done on the Models screen."""

from __future__ import annotations

from minigpt_tui.actions.action import Action, Where

M_, L_ = Where.MODELS, Where.MODEL_LIST

ACTIONS: tuple[Action, ...] = (
    Action("model_play", "l", "l", "play", "Load it, and write with it.", M_, "play"),
    Action("model_mark", "space", "space", "mark", "Mark it for a comparison, or take the mark away.", M_, "mark"),
    Action("model_compare", "c", "c", "compare", "Show the marked models beside each other.", M_, "compare"),
    Action("model_filter", "slash", "/", "filter", "List those whose names, families or texts have these words.", M_,
           "filter"),
    Action("model_details", "tab,i", "tab", "details", "Go to what is known of it, or back.", M_, "details"),
    Action("model_verify", "v", "v", "verify", "Check every file against the hash that it came with.", M_, "verify"),
    Action("model_path", "p", "p", "copy path", "Copy the path of its folder.", M_, "path"),
    Action("model_rename", "r", "r", "rename", "Give one of your own, or a run, another name.", M_, "rename"),
    Action("model_remove", "D,delete", "D", "delete", "Delete your own, a run or a milestone; asks.", M_, "remove"),
    Action("folder_add", "a", "a", "add a folder", "Have models found in a further folder, by name, everywhere.", M_,
           "add_folder"),
    Action("folder_forget", "A", "A", "forget a folder", "Take its folder off the list; the files stay.", M_,
           "forget_folder"),
    Action("models_back", "escape", "esc", "back", "Stop, close what is open, or go to the list.", M_, "back", False),
    Action("model_open", "enter", "enter", "play", "Load it, and write with it.", L_, "open", False),
    Action("model_unfold", "right,plus", "→", "unfold", "List the checkpoints of the run.", L_, "fold(False)", False),
    Action("model_fold", "left,minus", "←", "fold", "List the run alone.", L_, "fold(True)", False),
    Action("model_above", "up", "↑", "model above", "The model above.", L_, "move(-1)", False),
    Action("model_below", "down", "↓", "model below", "The model below.", L_, "move(1)", False),
    Action("models_up", "pageup", "pgup", "page up", "A page of models up.", L_, "page(-1)", False),
    Action("models_down", "pagedown", "pgdn", "page down", "A page of models down.", L_, "page(1)", False),
    Action("first_model", "home", "home", "first model", "The first model.", L_, "move(-100000)", False),
    Action("last_model", "end", "end", "last model", "The last model.", L_, "move(100000)", False),
)  # fmt: skip
