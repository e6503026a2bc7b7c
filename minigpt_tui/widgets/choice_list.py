"""A list that opens below a field: what can be chosen there, each with a few words. It never takes the focus: whoever
has it turns the list. It knows nothing of what its choices are.
"""

from __future__ import annotations

from dataclasses import dataclass

from textual.content import Content
from textual.events import Click, MouseScrollDown, MouseScrollUp
from textual.geometry import Region
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget

MOST_ROWS = 8


@dataclass(frozen=True)
class Choice:
    """One line of the list.

    Attributes:
        value: What is chosen with it.
        title: How it is called.
        about: A few words on it.
    """

    value: str
    title: str
    about: str = ""


class ChoiceList(Widget, can_focus=False):
    """Choices, one of them marked, or none."""

    DEFAULT_CSS = """
    ChoiceList {
        position: absolute;
        layer: over;
        display: none;
        border: round $accent;
        border-subtitle-color: $quiet;
        background: $background;
        padding: 0 1;
    }
    """

    choices: reactive[tuple[Choice, ...]] = reactive(())
    """What is listed."""

    marked: reactive[int | None] = reactive(None)
    """The place of the one that enter takes."""

    @dataclass
    class Chosen(Message):
        """One was chosen."""

        choice: Choice

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._top = 0
        self._owner = ""

    @property
    def is_open(self) -> bool:
        """Whether it is shown."""
        return bool(self.display)

    @property
    def owner(self) -> str:
        """Whose list it is; empty while it is closed."""
        return self._owner if self.is_open else ""

    def open(
        self, owner: str, choices: tuple[Choice, ...], below: Region, marked: int | None, subtitle: str = ""
    ) -> None:
        """Show choices below a field, or above it where there is more room.

        Args:
            owner: Whose list it is.
            choices: What can be chosen; with none the list stays closed.
            below: Where on the screen the field's value is.
            marked: The place of the choice that stands now.
            subtitle: The keys, as markup.
        """
        if not choices:
            self.close()
            return
        self._owner, self._top = owner, 0
        self.border_subtitle = subtitle
        self.choices, self.marked = choices, marked
        screen = self.screen.size
        rows = min(len(choices), MOST_ROWS)
        under, over = screen.height - below.bottom - 2, below.y - 2
        is_under = under >= min(rows, 3) or under >= over
        rows = max(1, min(rows, under if is_under else over))
        wide = max(len(choice.title) for choice in choices) + 2 + max(len(choice.about) for choice in choices)
        width = max(24, min(wide + 6, screen.width - 4))
        self.styles.width, self.styles.height = width, rows + 2
        left = max(0, min(below.x - 2, screen.width - width - 1))
        self.styles.offset = (left, below.bottom if is_under else below.y - rows - 2)
        self.display = True
        self._keep_in_sight()

    def close(self) -> None:
        """Hide it."""
        self.display = False

    def move(self, direction: int) -> None:
        """Mark the next one; from none the first, or the last."""
        count = len(self.choices)
        start = -1 if direction > 0 else count
        self.marked = ((start if self.marked is None else self.marked) + direction) % count
        self._keep_in_sight()

    def chosen(self) -> Choice | None:
        """The one that is marked."""
        return self.choices[self.marked] if self.marked is not None else None

    def render(self) -> Content:
        """The lines that there is room for."""
        shown = self.choices[self._top : self._top + self._rows]
        width = max((len(choice.title) for choice in self.choices), default=0)
        return Content("\n").join([self._line(choice, width, self._top + row) for row, choice in enumerate(shown)])

    @property
    def _rows(self) -> int:
        height = self.styles.height
        return max(1, int(height.value) - 2) if height is not None else 1

    def _line(self, choice: Choice, width: int, place: int) -> Content:
        here = place == self.marked
        line = Content.assemble(
            ("› " if here else "  ", "$accent"),
            (choice.title.ljust(width), "bold $accent" if here else ""),
            "  ",
            (choice.about, "$quiet"),
        )
        return line.truncate(self.size.width, ellipsis=True) if line.cell_length > self.size.width else line

    def _keep_in_sight(self) -> None:
        if self.marked is not None:
            self._top = min(max(self._top, self.marked - self._rows + 1), self.marked)
        self._top = max(0, min(self._top, len(self.choices) - self._rows))
        self.refresh()

    def on_click(self, event: Click) -> None:
        """Choose what is clicked."""
        offset = event.get_content_offset(self)
        if offset is not None and 0 <= self._top + offset.y < len(self.choices):
            event.stop()
            self.post_message(self.Chosen(self.choices[self._top + offset.y]))

    def on_mouse_scroll_down(self, event: MouseScrollDown) -> None:
        """Scroll down."""
        event.stop()
        self._top = max(0, min(self._top + 1, len(self.choices) - self._rows))
        self.refresh()

    def on_mouse_scroll_up(self, event: MouseScrollUp) -> None:
        """Scroll up."""
        event.stop()
        self._top = max(0, self._top - 1)
        self.refresh()
