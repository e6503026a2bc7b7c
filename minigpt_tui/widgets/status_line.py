"""The last line: what is going on at the left, the global keys at the right."""

from __future__ import annotations

from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

from minigpt_tui.actions import hint

GLOBAL_KEYS = {100: ("help", "palette", "quit"), 72: ("help", "quit"), 0: ("help",)}
"""The keys that are shown from so many columns on; the help names all."""


class StatusLine(Widget):
    """Shows the state in words."""

    DEFAULT_CSS = """
    StatusLine {
        height: 1;
        padding: 0 2;
        color: $quiet;
        link-color: $quiet;
        link-style: none;
        link-background: transparent;
        link-color-hover: $accent;
        link-style-hover: none;
        link-background-hover: transparent;
    }
    """

    state: reactive[Content] = reactive(Content)
    """What is going on."""

    running: reactive[bool] = reactive(False)
    """Whether something is under way."""

    def render(self) -> Content:
        """State at the left; at the right the keys, if there is room."""
        ids = next(ids for columns, ids in GLOBAL_KEYS.items() if self.size.width + 4 >= columns)
        keys = Content("  ").join([Content.from_markup(hint(action_id)) for action_id in ids])
        left = Content.assemble(("● " if self.running else "○ ", "$accent" if self.running else "$quiet"))
        left += self.state
        room = self.size.width - keys.cell_length - 2
        if left.cell_length > room:
            left = left.truncate(max(0, room), ellipsis=True)
        return left + " " * max(2, self.size.width - left.cell_length - keys.cell_length) + keys
