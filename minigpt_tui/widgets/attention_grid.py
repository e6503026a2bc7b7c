"""What the heads look at from one place: a grid of all of them to choose from, and what the chosen one looks at most.
It shows what it is given and says what the reader chose.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from textual.binding import BindingType
from textual.content import Content
from textual.events import Click
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget

from minigpt_tui.actions import Where, bindings
from minigpt_tui.inspecting import Heads, strongest
from minigpt_tui.text_document import cells
from minigpt_tui.widgets.next_token import bar, token_label
from minigpt_tui.widgets.side_by_side import GAP, WIDE, fitted, in_columns, percent

SHADES = " ░▒▓█"
CELL = 2
MARGIN = 4
"""Cells before the first head: the layer's number."""

MOST_GRID = 40
"""Cells of the grid, where the places stand beside it."""

PLACE_CELLS = 12
MOST_BAR = 24


@dataclass(frozen=True)
class Choice:
    """One head, the mean of a layer (no head), or the mean of all (no layer)."""

    layer: int | None = None
    head: int | None = None

    @property
    def words(self) -> str:
        """It as it is read; layers and heads count from 1."""
        if self.layer is None:
            return "mean of all heads"
        return f"layer {self.layer + 1} · " + ("mean" if self.head is None else f"head {self.head + 1}")


@dataclass(frozen=True)
class Looked:
    """A place that is looked at: what stands there and around it, how far back it is, and its share."""

    text: str
    distance: int
    share: float


class AttentionGrid(Widget, can_focus=True):
    """Layers as rows, heads as columns; before them the means."""

    DEFAULT_CSS = """
    AttentionGrid { height: auto; }
    """

    BINDINGS: ClassVar[list[BindingType]] = [*bindings(Where.HEADS)]

    heads: reactive[Heads | None] = reactive(None, layout=True)
    """What the heads look at; None while it is not known."""

    choice: reactive[Choice] = reactive(Choice)
    """Which of them is chosen."""

    looked_at: reactive[tuple[Looked, ...]] = reactive(())
    """The places that the chosen one looks at most."""

    remark: reactive[str] = reactive("")
    """What the window holds, or why there is nothing to show."""

    @dataclass
    class Chosen(Message):
        """The reader chose another."""

        choice: Choice

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._top = self._left = 0  # the first layer and head that are shown
        self._first_row = 1

    def get_content_height(self, *_: object) -> int:
        """The grid, a line above it, and some places below."""
        return min(16, 3 + (self.heads.n_layer if self.heads else 3)) + 5

    def render(self) -> Content:
        """The grid and the places, below or beside each other."""
        width, height = self.size.width, self.size.height
        if self.heads is None:
            return Content.styled(self.remark or "…", "$quiet")
        said = Content.assemble((self.choice.words, "bold $accent"))
        detail = Content.styled(self._detail(), "$quiet")
        remark = Content.styled(self.remark, "$quiet")
        if width >= WIDE:
            half = min(width // 2, MOST_GRID)
            left = [said, detail, remark, *self._grid(half, height - 3)]
            self._first_row = 4
            return Content("\n").join(in_columns(left, self._places(width - half - GAP, height), half, width))
        rows = max(1, min(self.heads.n_layer, height - 5))
        grid = self._grid(width, rows + 1)
        self._first_row = 3
        lines = [said, detail, *grid, remark, *self._places(width, height - len(grid) - 3)]
        return Content("\n").join([fitted(line, width) for line in lines])

    def _detail(self) -> str:
        assert self.heads is not None  # noqa: S101 - the caller has seen to it
        shares = self.heads.of(self.choice.layer, self.choice.head)
        return f"most {percent(max(shares))} · mean {self.heads.distance(shares):.1f} back"

    def _grid(self, width: int, height: int) -> list[Content]:
        """The line of the head numbers and as many layers as there is room for, with the chosen one among them."""
        heads = self.heads
        assert heads is not None  # noqa: S101 - the caller has seen to it
        columns = max(1, min(heads.n_head, (width - MARGIN - CELL - 1) // CELL))
        rows = max(1, min(heads.n_layer, height - 1))
        layer, head = self.choice.layer or 0, self.choice.head or 0
        self._top = max(0, min(max(self._top, layer - rows + 1), layer, heads.n_layer - rows))
        self._left = max(0, min(max(self._left, head - columns + 1), head, heads.n_head - columns))
        shown = range(self._left, self._left + columns)
        numbers = "".join(f"{(number + 1) % 100:>{CELL}}" for number in shown)
        top = Content.assemble(
            self._label("all", self.choice.layer is None),
            (" ø ", "$quiet"),
            (numbers, "$quiet"),
        )
        lines = [top]
        for row in range(self._top, self._top + rows):
            means = self.choice == Choice(row)
            parts = [self._label(f"{row + 1}", False), self._cell(max(heads.of(row, None)), means), Content(" ")]
            parts += [self._cell(heads.peak(row, column), self.choice == Choice(row, column)) for column in shown]
            lines.append(Content("").join(parts))
        return lines

    def _label(self, name: str, here: bool) -> Content:
        return Content.assemble(
            ("›" if here else " ", "$accent"), (name.rjust(MARGIN - 1), "bold $accent" if here else "$quiet")
        )

    def _cell(self, peak: float, here: bool) -> Content:
        """A head: the darker, the more of its look goes to one place."""
        shade = SHADES[min(len(SHADES) - 1, max(1, round(peak * (len(SHADES) - 1))))]
        return Content.assemble(("›" if here else " ", "bold $accent"), (shade, "$accent" if here else "$bar"))

    def _places(self, width: int, height: int) -> list[Content]:
        found = self.looked_at[: max(0, height)]
        if not found:
            return []
        label = min(PLACE_CELLS, max(cells(place.text) for place in found))
        room = max(3, min(MOST_BAR, width - label - 7 - 1 - 11))
        largest = max(found[0].share, 1e-9)
        return [
            Content.assemble(
                token_label(place.text, label),
                " ",
                (bar(place.share / largest, room), "$bar"),
                (f"{percent(place.share):>7}", ""),
                (f"{place.distance:>5,} back", "$quiet"),
            )
            for place in found
        ]

    # What the reader does.

    def on_focus(self) -> None:
        """Show where one is."""
        self.refresh()

    def on_blur(self) -> None:
        """Show that one is elsewhere."""
        self.refresh()

    def action_head(self, direction: int) -> None:
        """The next head of the layer; before the first is their mean."""
        heads, choice = self.heads, self.choice
        if heads is None or choice.layer is None:
            return
        place = (0 if choice.head is None else choice.head + 1) + direction
        place %= heads.n_head + 1
        self.post_message(self.Chosen(Choice(choice.layer, place - 1 if place else None)))

    def action_layer(self, direction: int) -> None:
        """The next layer; before the first is the mean of all."""
        heads, choice = self.heads, self.choice
        if heads is None:
            return
        place = (0 if choice.layer is None else choice.layer + 1) + direction
        place %= heads.n_layer + 1
        self.post_message(self.Chosen(Choice(place - 1, choice.head) if place else Choice()))

    def action_mean(self) -> None:
        """The mean of the layer, and then of all."""
        layer = self.choice.layer if self.choice.head is not None else None
        self.post_message(self.Chosen(Choice(layer)))

    def on_click(self, event: Click) -> None:
        """Choose what is clicked."""
        offset, heads = event.get_content_offset(self), self.heads
        if offset is None or heads is None:
            return
        row, column = offset.y - self._first_row, offset.x - MARGIN
        if row == -1:
            self.post_message(self.Chosen(Choice()))
        elif 0 <= self._top + row < heads.n_layer and row >= 0:
            event.stop()
            head = self._left + (column - CELL - 1) // CELL
            if column < CELL + 1:
                self.post_message(self.Chosen(Choice(self._top + row)))
            elif head < heads.n_head:
                self.post_message(self.Chosen(Choice(self._top + row, head)))


def looks(heads: Heads, choice: Choice, text: Callable[[int], str], count: int) -> tuple[Looked, ...]:
    """The places that are looked at most.

    Args:
        heads: What the heads look at.
        choice: Which of them.
        text: Tells what stands at a place that they see.
        count: How many places to tell.
    """
    shares = heads.of(choice.layer, choice.head)
    most = strongest(shares, count)
    return tuple(Looked(text(place), heads.length - place, share) for place, share in most if share > 0)
