"""What can be done on every screen."""

from __future__ import annotations

from minigpt_tui.actions.action import Action, Where

E_ = Where.EVERYWHERE

ACTIONS: tuple[Action, ...] = (
    Action("show_play", "f2,1", "F2", "play", "The playground.", E_, "show('play')"),
    Action("show_compare", "f3,2", "F3", "compare", "Texts side by side.", E_, "show('compare')"),
    Action("show_train", "f4,3", "F4", "train", "The training runs.", E_, "show('train')"),
    Action("show_history", "f5,4", "F5", "history", "All that was written.", E_, "show('history')"),
    Action("show_models", "f6,5", "F6", "models", "The models of this machine.", E_, "show('models')"),
    Action("show_chat", "f7,6", "F7", "chat", "Talk with a model in turns.", E_, "show('chat')"),
    Action("show_batch", "f8,7", "F8", "batch", "Many prompts at once.", E_, "show('batch')"),
    Action("show_settings", "f9,8", "F9", "settings", "Settings, keys and colours.", E_, "show('settings')"),
    Action("help", "f1", "F1", "help", "The keys of what has the focus, and all others.", E_, "keys_help"),
    Action("help_letter", "question_mark", "?", "help", "The same, outside text fields.", E_, "keys_help", False),
    Action("palette", "ctrl+p", "^p", "palette", "Find any action by its name.", E_, "command_palette", False),
    Action("palette_colon", "colon", ":", "palette", "The same, outside text fields.", E_, "command_palette", False),
    Action("quit", "ctrl+q", "^q", "quit", "Leave; texts, prompt and settings come back next time.", E_, "quit"),
    Action(
        "copy_or_quit", "ctrl+c", "^c", "copy", "Copy what is selected; twice with nothing selected quits.", E_,
        "copy_or_quit", False,
    ),
    Action("theme", "", "", "theme", "Choose the colours.", E_, "change_theme"),
    Action("dark_light", "", "", "dark or light", "Change between the dark and the light colours.", E_, "dark_light"),
)  # fmt: skip
