"""What can be done on the Batch screen."""

from __future__ import annotations

from minigpt_tui.actions.action import Action, Where

B_ = Where.BATCH

ACTIONS: tuple[Action, ...] = (
    Action("batch_run", "ctrl+g,g", "^g", "write all", "Write on from all prompts; also g.", B_, "run"),
    Action("batch_stop", "escape", "esc", "stop", "Stop; what is written stays. Else close what is open.", B_, "stop"),
    Action("batch_file", "f", "f", "file", "Take the prompts of a file: one per line, or .jsonl.", B_, "file"),
    Action("batch_save", "w", "w", "save", "Save the results: .jsonl, or .csv for tables.", B_, "save"),
    Action("batch_model", "l", "l", "model", "Choose the model that writes.", B_, "choose_model"),
    Action("batch_play", "o", "o", "open in Play", "Show this text on Play, as a branch.", B_, "open_in_play"),
    Action("batch_copy", "y", "y", "copy", "Copy what is selected, or this text.", B_, "copy"),
    Action("batch_prompts", "a", "a", "prompts", "Go to the prompts.", B_, "focus_prompts"),
    Action("batch_up", "up", "↑", "up", "The result above.", B_, "move(-1)", False),
    Action("batch_down", "down", "↓", "down", "The result below.", B_, "move(1)", False),
    Action("batch_page_up", "pageup", "pgup", "page up", "A page of results up.", B_, "page(-1)", False),
    Action("batch_page_down", "pagedown,space", "pgdn", "page down", "A page of results down.", B_, "page(1)", False),
    Action("batch_first", "home", "home", "first", "The first result.", B_, "move(-1000000)", False),
    Action("batch_last", "end", "end", "last", "The last result.", B_, "move(1000000)", False),
    Action("batch_next", "tab", "tab", "next panel", "Prompts, results, the text, and round.", B_, "panel(1)", False),
    Action("batch_before", "shift+tab", "⇧tab", "panel before", "The other way round.", B_, "panel(-1)", False),
)  # fmt: skip
