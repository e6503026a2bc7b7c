"""What can be done with the branches of a text."""

from __future__ import annotations

from minigpt_tui.actions.action import Action, Where

P_, B_ = Where.PLAY, Where.BRANCHES

ACTIONS: tuple[Action, ...] = (
    Action(
        "fork", "f", "f", "fork", "Another branch from the end, or the cursor, with the settings of now and the same "
        "seed: it differs where they do.", P_, "fork(False)",
    ),
    Action("fork_anew", "F", "F", "fork anew", "Another branch from there, with a new seed.", P_, "fork(True)"),
    Action("step", "j", "j", "step", "Write one token, as the text would go on; again for the next.", P_, "step_token"),
    Action("branches", "b", "b", "branches", "Show the tree of all texts, or hide it.", P_, "branches"),
    Action("parent_branch", "B", "B", "back", "Go to the branch that this one parts from.", P_, "parent_branch"),
    Action("next_branch", "V", "V", "next branch", "Go to the next one that parts from the same.", P_, "next_branch"),
    Action("branch_above", "up", "↑", "above", "Show the branch above.", B_, "move(-1)", False),
    Action("branch_below", "down", "↓", "below", "Show the branch below.", B_, "move(1)", False),
    Action("branch_page_up", "pageup", "pgup", "page up", "A page up.", B_, "page(-1)", False),
    Action("branch_page_down", "pagedown,space", "pgdn", "page down", "A page down.", B_, "page(1)", False),
    Action("branch_first", "home", "home", "first", "The first.", B_, "move(-100000)", False),
    Action("branch_last", "end", "end", "last", "The last.", B_, "move(100000)", False),
    Action("branch_open", "enter", "enter", "its text", "Go to its text.", B_, "open", False),
    Action("branch_delete", "D,delete", "D", "delete", "Delete this branch; those that part from it stay.", B_,
           "screen.delete_branch"),
    Action("branch_undo", "u", "u", "undo", "Bring back the branch that was deleted last.", B_, "screen.undo_branch"),
    Action("branch_close", "escape,b", "esc", "close", "Hide the tree.", B_, "screen.branches", False),
)  # fmt: skip
