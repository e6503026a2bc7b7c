"""Where the prompt is typed: enter sends it, up and down on the outer rows recall earlier prompts. It knows nothing of
what a prompt is for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.events import Key
from textual.message import Message
from textual.widgets import TextArea

from minigpt_tui.actions import Where, bindings


class PromptEditor(TextArea):
    """A text area of one to a few lines."""

    DEFAULT_CSS = """
    PromptEditor {
        height: auto;
        min-height: 3;
        max-height: 9;
        scrollbar-size-vertical: 1;
        scrollbar-size-horizontal: 0;
        & .text-area--cursor-line { background: transparent; }
    }
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        *bindings(Where.PROMPT),
        Binding("shift+enter,alt+enter", "new_line", show=False),  # where the terminal tells them from enter
    ]

    @dataclass
    class Sent(Message):
        """The reader wants this prompt written on."""

        prompt: str

    def __init__(self, earlier: list[str], *, id: str | None = None) -> None:
        """Make the editor.

        Args:
            earlier: Earlier prompts, the oldest first. The list is read each time, so that its owner may change it.
            id: The widget's id.
        """
        super().__init__(
            id=id, soft_wrap=True, show_line_numbers=False, tab_behavior="focus", highlight_cursor_line=False
        )
        self._earlier = earlier
        self._place: int | None = None  # in the earlier prompts; None while the reader's own draft is shown
        self._draft = ""

    def set_earlier(self, earlier: list[str]) -> None:
        """Take another list of earlier prompts, and stand after its last."""
        self._earlier, self._place = earlier, None

    async def _on_key(self, event: Key) -> None:
        # A text area types a newline itself before any binding sees the key.
        if event.key == "enter":
            event.stop()
            event.prevent_default()
            self.action_generate()
            return
        await super()._on_key(event)

    def action_generate(self) -> None:
        """Send the prompt."""
        self.post_message(self.Sent(self.text))

    def action_new_line(self) -> None:
        """Begin a new line."""
        self.replace("\n", *self.selection, maintain_selection_offset=False)
        self.scroll_cursor_visible()

    def action_up(self) -> None:
        """Move up; on the first row recall the prompt before."""
        if self.navigator.is_first_wrapped_line(self.cursor_location):
            self._recall(-1)
        else:
            self.action_cursor_up()

    def action_down(self) -> None:
        """Move down; on the last row recall the prompt after."""
        if self.navigator.is_last_wrapped_line(self.cursor_location):
            self._recall(1)
        else:
            self.action_cursor_down()

    def _recall(self, direction: int) -> None:
        if self._place is None:
            if direction > 0 or not self._earlier:
                return
            self._draft, self._place = self.text, len(self._earlier)
            if self._draft == self._earlier[-1]:  # just sent: what came before it is wanted
                self._place -= 1
        place = self._place + direction
        if place < 0:
            return
        self._place = place if place < len(self._earlier) else None
        self.text = self._draft if self._place is None else self._earlier[self._place]
        self.move_cursor(self.document.end)
