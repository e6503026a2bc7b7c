"""Every action of the app, declared once: its id, keys, title and sentence. Bindings, the hints in borders and footer,
the help and the palette are all made from this list. Knows nothing of what an action does.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from textual.binding import Binding

from minigpt_tui.parameters import PARAMETERS


class Where(Enum):
    """Where an action's keys act."""

    EVERYWHERE = "Everywhere"
    PLAY = "Play; letters act outside the prompt"
    PROMPT = "Prompt"
    TEXT = "Text"
    SAMPLING = "Sampling"
    SETTINGS = "Sampling settings, from the text and the side panels"
    TRAIN = "Train"
    RUNS = "Runs"
    FORM = "Start a run"
    FIELD = "A setting of a run"


@dataclass(frozen=True)
class Action:
    """Something that can be done.

    Attributes:
        id: Its name, by which bindings and hints find it; no two have the same.
        keys: Textual's names of its keys, parted by commas; empty when the palette alone has it.
        shown: Its main key as it stands on the screen.
        title: Two or three words.
        sentence: What it does, for the help and the palette.
        where: Where its keys act.
        call: What Textual runs.
        palette: Whether the palette lists it.
    """

    id: str
    keys: str
    shown: str
    title: str
    sentence: str
    where: Where
    call: str
    palette: bool = True

    @property
    def target(self) -> str:
        """`call` with its namespace, so that a click or the palette finds it from anywhere."""
        if "." in self.call.partition("(")[0]:
            return self.call
        return f"{'app' if self.where is Where.EVERYWHERE else 'screen'}.{self.call}"


E_, P_, T_, R_, S_ = Where.EVERYWHERE, Where.PLAY, Where.TEXT, Where.PROMPT, Where.SAMPLING
N_, L_ = Where.TRAIN, Where.RUNS
F_, D_ = Where.FORM, Where.FIELD

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
    Action("focus_prompt", "a,enter", "a", "prompt", "Go to the prompt.", P_, "focus_prompt"),
    Action("focus_text", "v", "v", "text", "Go to the text.", P_, "focus_text"),
    Action("focus_sampling", "u", "u", "sampling", "Go to the sampling settings.", P_, "focus_sampling"),
    Action("scroll_up", "up", "↑", "up", "Scroll up a row; from the bottom the end is followed.", T_, "up", False),
    Action("scroll_down", "down", "↓", "down", "Scroll down a row.", T_, "down", False),
    Action("page_up", "pageup", "pgup", "page up", "Scroll up a page.", T_, "page_up", False),
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
    # Form
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
    Action("show_play", "f2,1", "F2", "play", "The playground; outside text fields 1 too.", E_, "show('play')"),
    Action("show_train", "f4,3", "F4", "train", "The training runs; outside text fields 3 too.", E_, "show('train')"),
    Action("help", "f1", "F1", "help", "The keys of what has the focus, and all others.", E_, "keys_help"),
    Action("help_letter", "question_mark", "?", "help", "The same, outside text fields.", E_, "keys_help", False),
    Action("palette", "ctrl+p", "^p", "palette", "Find any action by its name.", E_, "command_palette", False),
    Action("palette_colon", "colon", ":", "palette", "The same, outside text fields.", E_, "command_palette", False),
    Action("quit", "ctrl+q", "^q", "quit", "Leave; the prompt and the settings come back next time.", E_, "quit"),
    Action(
        "copy_or_quit", "ctrl+c", "^c", "copy", "Copy what is selected; twice with nothing selected quits.", E_,
        "copy_or_quit", False,
    ),
    Action("next_panel", "tab", "tab", "next panel", "Text, prompt, sampling, and round.", P_, "panel(1)", False),
    Action("previous_panel", "shift+tab", "⇧tab", "previous panel", "The other way round.", P_, "panel(-1)", False),
    Action("theme", "", "", "theme", "Choose the colours.", E_, "change_theme"),
    Action("dark_light", "", "", "dark or light", "Change between the dark and the light colours.", E_, "dark_light"),
)  # fmt: skip

BY_ID = {action.id: action for action in ACTIONS}

_PRIORITY = {"quit", "palette", "help", "copy_or_quit"}


def places(screen: object) -> tuple[Where, ...]:
    """Where keys act on a screen, those of what has the focus first.

    Args:
        screen: Any screen. Its class says where as `PLACES`, by the ids of its widgets, with "" for itself; one that
            does not say has no keys of its own.
    """
    declared: dict[str, Where] = getattr(screen, "PLACES", {})
    focused = getattr(getattr(screen, "focused", None), "id", None) or ""
    here = declared.get(focused)
    return tuple(dict.fromkeys([*([here] if here else []), *declared.values()]))


def bindings(*places: Where) -> list[Binding]:
    """The bindings of the actions whose keys act in these places."""
    return [
        Binding(action.keys, action.call, action.title, id=action.id, show=False, priority=action.id in _PRIORITY)
        for action in ACTIONS
        if action.where in places and action.keys
    ]


def hint(action_id: str, title: str | None = None) -> str:
    """`key title` as markup, for a border or the footer; a click runs what the palette could run."""
    action = BY_ID[action_id]
    said = f"[$key]{action.shown}[/] {action.title if title is None else title}"
    runs = action.palette or action.where is Where.EVERYWHERE
    return f'[@click="{action.target}"]{said}[/]' if runs else said


def hints(action_ids: Iterable[str]) -> str:
    """Several hints on one line."""
    return " · ".join(hint(action_id) for action_id in action_ids)
