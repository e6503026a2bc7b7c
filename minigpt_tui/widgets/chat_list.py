"""The kept chats, one row each: first words, how many turns, how long ago. It shows what it is given."""

from __future__ import annotations

import time
from typing import ClassVar

from textual.binding import BindingType
from textual.content import Content

from minigpt_tui.actions import Where, bindings
from minigpt_tui.chat.kept import Listed
from minigpt_tui.text_document import cells
from minigpt_tui.widgets.row_list import RowList, cut


class ChatList(RowList[Listed]):
    """What was said before."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings(Where.CHATS)]

    open_key = ""
    """The one that is shown on the screen."""

    def draw(self, row: Listed, width: int, *, here: bool) -> Content:
        """First words, turns and age."""
        turns = f"{row.turns:,} turn{'' if row.turns == 1 else 's'}" if row.changed else ""
        right = f"{turns:>11} {age(row.changed):>5} "
        room = max(4, width - cells(right) - 4)
        return Content.assemble(
            ("› " if here else "  ", "$accent"),
            ("• " if row.key == self.open_key else "  ", "$accent"),
            (cut(row.title or "a system message alone", room), "bold $accent" if here else ""),
            (right, "" if here else "$quiet"),
        )


def age(changed: float) -> str:
    """How long ago something was, in a few characters."""
    if not changed:
        return ""
    seconds = max(0.0, time.time() - changed)
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds / size:.0f}{unit}"
    return "now"
