"""What can be done in a chat."""

from __future__ import annotations

from minigpt_tui.actions.action import Action, Where

C_, T_, L_, F_ = Where.CHAT, Where.TURN, Where.CHATS, Where.CHAT_FORM

ACTIONS: tuple[Action, ...] = (
    Action("chat_stop", "escape", "esc", "stop", "Stop the answer; what was said stays. Else leave this.", C_, "stop"),
    Action("chat_write", "a,enter", "a", "your turn", "Go to where you write.", C_, "write"),
    Action(
        "chat_again", "g", "g", "again", "Answer again here, with a new seed; the answer before is kept.", C_, "again"
    ),
    Action("chat_again_same", "G", "G", "same again", "Answer again with the same seed.", C_, "again_same"),
    Action("chat_continue", "c", "c", "continue", "Write on where the last answer was cut.", C_, "continue_answer"),
    Action(
        "chat_edit", "e", "e", "edit", "Say this otherwise: what followed stays, as another branch.", C_, "edit_turn"
    ),
    Action(
        "chat_version_before", "left_square_bracket", "[", "other branch",
        "Go back to what was said here before, and what followed.", C_, "version(-1)",
    ),
    Action(
        "chat_version_after", "right_square_bracket", "]", "next branch", "Go to what was said here after that.", C_,
        "version(1)",
    ),
    Action("chat_template", "f", "f", "template", "How turns are written down, and who speaks.", C_, "template"),
    Action("chat_swap", "u", "u", "swap", "You and the model change names.", C_, "swap"),
    Action("chat_system", "i", "i", "system", "What the model is told before all turns.", C_, "edit_system"),
    Action("chat_copy", "y", "y", "copy", "Copy what is selected, or this turn.", C_, "copy"),
    Action("chat_copy_all", "Y", "Y", "copy all", "Copy the whole chat.", C_, "copy_all"),
    Action("chat_save", "w", "w", "save", "Save the chat: .md to read, .json for programs.", C_, "save"),
    Action("chat_play", "o", "o", "open in Play", "Write on from the whole chat on Play.", C_, "open_in_play"),
    Action("chat_new", "x", "x", "new chat", "Begin another chat; this one is kept.", C_, "new"),
    Action("chat_list", "b", "b", "chats", "The kept chats.", C_, "chats"),
    Action("chat_model", "l", "l", "model", "Choose the model that answers.", C_, "choose_model"),
    Action("chat_full_speed", "greater_than_sign", ">", "full speed", "With no pace, or back.", C_, "full_speed"),
    Action("chat_slower", "comma", ",", "slower", "A slower pace.", C_, "pace(-1)"),
    Action("chat_faster", "full_stop", ".", "faster", "A faster pace.", C_, "pace(1)"),
    Action("chat_next", "tab", "tab", "next panel", "The chat, your turn, and round.", C_, "panel(1)", False),
    Action("chat_before", "shift+tab", "⇧tab", "panel before", "The other way round.", C_, "panel(-1)", False),
    Action("turn_before", "up", "↑", "turn before", "Go to the turn before.", T_, "move(-1)", False),
    Action("turn_after", "down", "↓", "turn after", "Go to the next turn.", T_, "move(1)", False),
    Action("turn_page_up", "pageup", "pgup", "page up", "Scroll up a page.", T_, "page(-1)", False),
    Action("turn_page_down", "pagedown,space", "pgdn", "page down", "Scroll down a page.", T_, "page(1)", False),
    Action("turn_first", "home", "home", "first turn", "Go to the first turn.", T_, "move(-100000)", False),
    Action("turn_last", "end", "end", "last turn", "Go to the last turn.", T_, "move(100000)", False),
    Action("chats_up", "up", "↑", "up", "The chat above.", L_, "move(-1)", False),
    Action("chats_down", "down", "↓", "down", "The chat below.", L_, "move(1)", False),
    Action("chats_page_up", "pageup", "pgup", "page up", "A page up.", L_, "page(-1)", False),
    Action("chats_page_down", "pagedown,space", "pgdn", "page down", "A page down.", L_, "page(1)", False),
    Action("chats_open", "enter", "enter", "open", "Go on with this chat.", L_, "open", False),
    Action("chats_delete", "D,delete", "D", "delete", "Delete this chat; it asks.", L_, "screen.delete", False),
    Action("chats_close", "escape,b", "esc", "close", "Leave the list.", L_, "screen.close", False),
    Action("script_before", "up", "↑", "before", "The template or the name before.", F_, "turn(-1)", False),
    Action("script_after", "down", "↓", "after", "The next template or name.", F_, "turn(1)", False),
    Action("script_take", "enter", "enter", "take it", "Write turns down like this.", F_, "take", False),
    Action("script_leave", "escape", "esc", "leave", "Leave it as it was.", F_, "leave", False),
)  # fmt: skip
