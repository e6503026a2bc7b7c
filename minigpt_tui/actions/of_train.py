"""What can be done on the Train screen and in its form."""

from __future__ import annotations

from minigpt_tui.actions.action import Action, Where

N_, L_, F_, D_ = Where.TRAIN, Where.RUNS, Where.FORM, Where.FIELD

ACTIONS: tuple[Action, ...] = (
    Action("run_start", "a", "a", "start", "Start a run: choose a text and settings.", N_, "start"),
    Action("run_another", "n,A", "n", "another like it", "Start a run with its settings, or others.", N_, "another"),
    Action("run_pause", "space", "space", "pause, resume", "Pause; or go on from where it is.", N_, "pause"),
    Action("run_save", "w", "w", "save now", "Have a checkpoint saved at the next step.", N_, "save"),
    Action("run_stop", "x", "x", "stop", "Save and stop; it can be resumed.", N_, "stop"),
    Action("run_extend", "e", "e", "extend", "Give a run that has ended more steps.", N_, "extend"),
    Action("run_play", "y", "y", "play it", "Choose one of its checkpoints and write with it.", N_, "play"),
    Action("run_mark", "v", "v", "overlay", "Lay its curve over those of other runs, or take it away.", N_, "mark"),
    Action("chart_log", "l", "l", "log scale", "A logarithmic scale of losses, or a linear one.", N_, "log_scale"),
    Action("chart_zoom", "z", "z", "zoom", "The last half of the curves, the last tenth, or all.", N_, "zoom"),
    Action("chart_axis", "t", "t", "steps or time", "Losses by step, or by time of training.", N_, "axis"),
    Action("sample_before", "left_square_bracket,left", "[", "sample before", "The sample before.", N_, "sample(-1)"),
    Action("sample_after", "right_square_bracket,right", "]", "sample after", "The sample after.", N_, "sample(1)"),
    Action("run_lower", "i", "i", "log", "Samples or the log; on a low terminal the chart in turn.", N_, "lower"),
    Action("run_rename", "r", "r", "rename", "Give a run that has ended another name.", N_, "rename"),
    Action("run_remove", "D,delete", "D", "delete", "Delete it with its checkpoints; asks first.", N_, "remove"),
    Action("run_prune", "k,P", "k", "prune", "Delete checkpoints but the best and the last; asks.", N_, "prune"),
    Action("bell", "b", "b", "bell", "Ring when a run ends or crashes, or be quiet.", N_, "bell"),
    Action("run_back", "escape", "esc", "back", "Close what is open; then go to the list of runs.", N_, "back", False),
    Action("run_above", "up", "↑", "run above", "The run above.", L_, "move(-1)", False),
    Action("run_below", "down", "↓", "run below", "The run below.", L_, "move(1)", False),
    Action("runs_up", "pageup", "pgup", "page up", "A page of runs up.", L_, "page(-1)", False),
    Action("runs_down", "pagedown", "pgdn", "page down", "A page of runs down.", L_, "page(1)", False),
    Action("first_run", "home", "home", "first run", "The first run.", L_, "move(-100000)", False),
    Action("last_run", "end", "end", "last run", "The last run.", L_, "move(100000)", False),
    Action("run_open", "enter", "enter", "open", "Go to what is read of it, to scroll there.", L_, "open", False),
    Action("form_start", "ctrl+s", "ctrl+s", "start", "Start the run that the form describes.", F_, "start"),
    Action("form_more", "ctrl+o", "ctrl+o", "all settings", "Show all settings, or the usual ones.", F_, "more"),
    Action("form_preset", "ctrl+r", "ctrl+r", "as the preset", "Set all settings back to the preset's.", F_, "preset"),
    Action("form_leave", "escape", "esc", "leave", "Close the list; else leave. What was typed is kept.", F_, "leave"),
    Action("form_enter", "enter", "enter", "choose", "Open a list, take from it, or go on.", F_, "enter", False),
    Action("field_below", "down", "↓", "field below", "The next field, or the next choice.", F_, "move(1)", False),
    Action("field_above", "up", "↑", "field above", "The field before, or the choice before.", F_, "move(-1)", False),
    Action("form_next", "tab", "tab", "next", "Take the marked choice, or go to the next field.", F_, "next", False),
    Action("form_back", "shift+tab", "⇧tab", "back", "The field before.", F_, "previous", False),
    Action("field_lower", "left,minus", "←", "lower", "The value before, or a lower one.", D_, "turn(-1)", False),
    Action("field_raise", "right,plus,space", "→", "raise", "The next value, or a higher one.", D_, "turn(1)", False),
    Action("field_erase", "backspace,delete", "⌫", "preset's", "Erase, or the preset's value.", D_, "erase", False),
)  # fmt: skip
