"""What the model expected at one place of the text: what was chosen there, how surprising it was, and what else could
have come, before and after the filters. It shows what it is given and says what the reader wants; it asks nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from textwrap import wrap

from textual.content import Content
from textual.events import Click, MouseScrollDown, MouseScrollUp
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget

from engine.inference.stream import Alternative
from minigpt_tui.inspecting import Figures, bits
from minigpt_tui.text_document import cells
from minigpt_tui.widgets.next_token import LABEL_CELLS, percent_text, shown_token, token_label
from minigpt_tui.widgets.side_by_side import WIDE, fitted, in_columns, percent

FACTS = 30
"""Cells of the facts, where the distribution stands beside them."""

LIKELIEST = 12
"""The labels are as wide as these need."""

MOST_BAR = 40
HALVES = {(True, True): "█", (True, False): "▀", (False, True): "▄", (False, False): " "}


@dataclass(frozen=True)
class Place:
    """One place of a text.

    Attributes:
        position: Counted from the start of the prompt.
        origin: Where its token comes from, in words.
        piece: The token that stands there; None at the end of the text.
        token: Its id.
        figures: What is known of it; None where nothing is.
        drawn: Its probability after the filters; None where it is not known.
        alternatives: What could have come, the likeliest first.
        entropy: In nats; None where it is not known.
        settings: The settings that held there, in words.
        remark: What else is to say, such as why there is nothing to show.
    """

    position: int
    origin: str = ""
    piece: str | None = None
    token: int | None = None
    figures: Figures | None = None
    drawn: float | None = None
    alternatives: tuple[Alternative, ...] = ()
    entropy: float | None = None
    settings: str = ""
    remark: str = ""


def double_bar(before: float, after: float, width: int) -> str:
    """A bar within a bar: its upper half is filled to the share before the filters, its lower half to that after."""
    upper, lower = round(before * width), round(after * width)
    return "".join(HALVES[cell < upper, cell < lower] for cell in range(width))


class AtCursor(Widget):
    """Facts, and a row for each token that could have come."""

    DEFAULT_CSS = """
    AtCursor { height: 1fr; }
    """

    place: reactive[Place | None] = reactive(None)
    """What is shown."""

    marked: reactive[int] = reactive(0)
    """Which of the alternatives enter takes."""

    @dataclass
    class Marked(Message):
        """The reader wants to mark this alternative."""

        index: int

    class Taken(Message):
        """The reader takes the marked alternative."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._top = 0
        self._list_at = (0, 0)  # row and column where the list begins

    def watch_place(self) -> None:
        """Begin at the top."""
        self._keep_in_sight()

    def watch_marked(self) -> None:
        """Keep it in sight."""
        self._keep_in_sight()

    def render(self) -> Content:
        """The facts, and below or beside them the distribution."""
        place, width = self.place, self.size.width
        if place is None:
            return Content.styled("Move the cursor into the text.", "$quiet")
        facts = self._facts(place, FACTS if width >= WIDE else width)
        if width >= WIDE:
            self._list_at = 0, FACTS + 3
            lines = in_columns(facts, self._rows(place, width - FACTS - 3, self.size.height), FACTS, width)
        else:
            facts = [fitted(line, width) for line in facts[: max(2, self.size.height - 4)]]
            self._list_at = len(facts), 0
            lines = facts + self._rows(place, width, self.size.height - len(facts))
        return Content("\n").join(lines)

    def _facts(self, place: Place, width: int) -> list[Content]:
        label = "the next token" if place.piece is None else shown_token(place.piece)
        lines = [Content.assemble((label, "bold $accent"), (f"  {place.origin} {place.position:,}", "$quiet"))]
        if place.figures is not None:
            probability, rank = math.exp(place.figures.logprob), place.figures.rank
            said = f"{percent(probability)} · " + (f"rank {rank:,} · " if rank else "")
            lines.append(Content(f"{said}{bits(-place.figures.logprob):.2f} bits"))
        if place.drawn is not None:
            cut = place.drawn == 0
            after = "cut by the filters" if cut else f"{percent(place.drawn)} after the filters"
            lines.append(Content.styled(after, "$text-warning" if cut else ""))
        if place.entropy is not None:
            lines.append(Content.styled(f"entropy {bits(place.entropy):.2f} bits", "$quiet"))
        if place.settings:
            lines.append(Content.styled(place.settings, "$quiet"))
        if place.remark:
            lines += [Content(line) for line in wrap(place.remark, max(10, width))]
        return lines

    def _rows(self, place: Place, width: int, height: int) -> list[Content]:
        """As much of the list as there is room for, below a line that names its columns."""
        found = place.alternatives
        if not found or height < 2:
            return []
        label = max(4, *(cells(shown_token(alternative.text)) for alternative in found[:LIKELIEST]))
        label = min(label, LABEL_CELLS, width // 4)
        room = max(3, min(MOST_BAR, width - label - 2 - 14))
        title = " " * (2 + label + 1) + f"{'▀ before':>{max(0, room - 2) + 7}}{'▄ after':>8}"
        lines = [fitted(Content.styled(title, "$quiet"), width)]
        for index in range(self._top, min(len(found), self._top + height - 1)):
            alternative = found[index]
            before, after = math.exp(alternative.logprob), alternative.drawn
            own, here, cut = alternative.token == place.token, index == self.marked, after == 0
            sign = "›" if here else "●" if own else " "
            name = "bold $accent" if here else "bold" if own else "$quiet" if cut else ""
            lines.append(
                Content.assemble(
                    (sign, "$accent"),
                    ("●" if own and here else " ", "$accent"),
                    (token_label(alternative.text, label), name),
                    " ",
                    (double_bar(before, after, room), "$line" if cut else "$bar"),
                    (percent_text(before), "$quiet"),
                    (" " + ("   cut" if cut else percent_text(after)), "$quiet" if cut else ""),
                )
            )
        return lines

    @property
    def _room(self) -> int:
        """Rows of the list."""
        height: int = self.size.height
        width = FACTS if self.size.width >= WIDE else self.size.width
        facts = len(self._facts(self.place, width)) if self.place is not None and self.size.width < WIDE else 0
        return max(1, height - min(facts, max(2, height - 4)) - 1)

    def _keep_in_sight(self) -> None:
        count = len(self.place.alternatives) if self.place else 0
        top = min(max(self._top, self.marked - self._room + 1), self.marked)
        self._top = max(0, min(top, count - self._room))
        self.refresh()

    def on_resize(self) -> None:
        """Keep what is marked in sight."""
        self._keep_in_sight()

    def on_click(self, event: Click) -> None:
        """Mark what is clicked; what is marked already is taken."""
        offset = event.get_content_offset(self)
        if offset is None or self.place is None or offset.x < self._list_at[1]:
            return
        index = self._top + offset.y - self._list_at[0] - 1
        if offset.y > self._list_at[0] and 0 <= index < len(self.place.alternatives):
            event.stop()
            self.post_message(self.Taken() if index == self.marked else self.Marked(index))

    def on_mouse_scroll_down(self, event: MouseScrollDown) -> None:
        """Scroll the list down."""
        self._scroll(event, 1)

    def on_mouse_scroll_up(self, event: MouseScrollUp) -> None:
        """Scroll the list up."""
        self._scroll(event, -1)

    def _scroll(self, event: MouseScrollDown | MouseScrollUp, direction: int) -> None:
        event.stop()
        count = len(self.place.alternatives) if self.place else 0
        self._top = max(0, min(self._top + direction, count - self._room))
        self.refresh()
