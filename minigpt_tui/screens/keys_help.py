"""The help: the keys of what has the focus first, then those of its screen, then all others, made from `actions.py`."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from minigpt_tui.actions import Action, Where, actions_of, all_actions
from minigpt_tui.actions.action import shown_key
from minigpt_tui.screens.modal import Modal

KEY_WIDTH, TITLE_WIDTH = 8, 19
WIDTH = 92


class KeysHelp(Modal[None]):
    """A list of keys over the screen."""

    DEFAULT_CSS = """
    KeysHelp {
        & > .sheet { width: 92; max-width: 94%; max-height: 90%; padding: 1 2; scrollbar-size-vertical: 1; }
        & Static { width: 1fr; }
    }
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,question_mark,f1,enter", "dismiss", show=False, priority=True),
    ]

    def __init__(self, first: Sequence[Where]) -> None:
        """Make the help.

        Args:
            first: The places whose keys come first.
        """
        super().__init__()
        self._first = first

    def compose(self) -> ComposeResult:
        """One text that scrolls."""
        with VerticalScroll(classes="sheet") as scroll:
            scroll.border_title = "Keys"
            scroll.border_subtitle = "[$key]↑↓[/] scroll · [$key]esc[/] close"
            yield Static()

    def on_resize(self) -> None:
        """Wrap the sentences to the room there is."""
        width = min(WIDTH, int(self.app.size.width * 0.94)) - 8
        self.query_one(Static).update(help_text(self._first, width))


def help_text(first: Sequence[Where], width: int) -> Content:
    """All keys with their sentences, those of `first` on top, then those that act everywhere.

    Args:
        first: The places whose keys come first.
        width: Cells in a line.
    """
    used = {action.where for action in all_actions()}
    order = [place for place in dict.fromkeys([*first, Where.EVERYWHERE, *Where]) if place in used]
    return Content("\n\n").join([_section(place, width) for place in order])


def _section(place: Where, width: int) -> Content:
    lines = [Content.styled(place.value, "bold $accent")]
    lines += [_line(action, width) for action in actions_of(place) if action.shown]
    return Content("\n").join(lines)


def _keys(action: Action) -> str:
    """All its keys, or the main one where there is no room for more."""
    others = [shown_key(key) for key in action.keys.split(",")[1:]]
    keys = " ".join([action.shown, *others])
    return keys if len(keys) < KEY_WIDTH else action.shown


def _line(action: Action, width: int) -> Content:
    indent = KEY_WIDTH + TITLE_WIDTH
    sentence = textwrap.wrap(action.sentence, max(20, width - indent))
    return Content.assemble(
        (_keys(action).ljust(KEY_WIDTH), "$key"),
        action.title.ljust(TITLE_WIDTH),
        (("\n" + " " * indent).join(sentence), "$quiet"),
    )
