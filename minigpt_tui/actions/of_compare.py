"""What can be done on the Compare screen."""

from __future__ import annotations

from minigpt_tui.actions.action import Action, Where

C_, K_ = Where.COMPARE, Where.COLUMN

ACTIONS: tuple[Action, ...] = (
    Action("compare_stop", "escape", "esc", "stop", "Stop writing; else close what is open, or go back.", C_, "stop"),
    Action("compare_again", "g", "g", "again", "Write all columns again, with a new seed.", C_, "again"),
    Action("compare_again_same", "G", "G", "same again", "Write all again with the same seed.", C_, "again_same"),
    Action("compare_model", "l", "l", "model", "Choose the model of this column.", C_, "choose_model"),
    Action(
        "compare_checkpoints", "c", "c", "checkpoints",
        "A run from its first checkpoint to its last: how it learned to write.", C_, "choose_run",
    ),
    Action(
        "checkpoint_before", "left_square_bracket,shift+left", "[", "earlier checkpoint",
        "Let this column be written by the run's checkpoint before.", C_, "walk(-1)",
    ),
    Action(
        "checkpoint_after", "right_square_bracket,shift+right", "]", "later checkpoint",
        "Let this column be written by the run's checkpoint after it.", C_, "walk(1)",
    ),
    Action(
        "compare_sweep", "e", "e", "sweep", "A grid over the values of one or two settings; or leave it.", C_, "sweep"
    ),
    Action("column_add", "plus,equals_sign", "+", "column", "Add a column like this one, warmer.", C_, "add"),
    Action("column_remove", "minus", "-", "remove", "Take this column away.", C_, "remove"),
    Action("compare_score", "u", "u", "score", "How surprised each model is by column 1's text.", C_, "score"),
    Action("compare_large", "z", "z", "large", "This column alone, or all again.", C_, "large"),
    Action("compare_together", "j", "j", "scroll together", "Scroll all columns at once, or each alone.", C_, "join"),
    Action("compare_play", "o", "o", "open in Play", "Show this text on Play, as a branch.", C_, "open_in_play"),
    Action("compare_copy", "y", "y", "copy", "Copy what is selected, or this column's text.", C_, "copy"),
    Action("compare_save", "w", "w", "save", "Save the comparison: .md to read, .json for programs.", C_, "save"),
    Action("compare_full_speed", "greater_than_sign", ">", "full speed", "With no pace, or back.", C_, "full_speed"),
    Action("compare_slower", "comma", ",", "slower", "A slower pace.", C_, "pace(-1)"),
    Action("compare_faster", "full_stop", ".", "faster", "A faster pace.", C_, "pace(1)"),
    Action("compare_prompt", "a", "a", "prompt", "Go to the prompt.", C_, "focus_prompt"),
    Action("column_before", "left", "←", "column before", "Go to the column before.", K_, "screen.column(-1)", False),
    Action("column_after", "right", "→", "column after", "Go to the next column.", K_, "screen.column(1)", False),
    Action("column_large", "enter", "enter", "large", "This column alone, or all again.", K_, "screen.large", False),
    Action("compare_next", "tab", "tab", "next column", "The columns, the prompt, and round.", C_, "panel(1)", False),
    Action("compare_before", "shift+tab", "⇧tab", "column before", "The other way round.", C_, "panel(-1)", False),
)  # fmt: skip
