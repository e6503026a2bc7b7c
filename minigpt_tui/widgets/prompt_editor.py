"""Where the prompt is typed: enter sends it, up and down on the outer rows recall earlier prompts. What is too long to
be edited letter by letter stands there as one sign that says its size. It knows nothing of what a prompt is for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.events import Key, Paste
from textual.message import Message
from textual.widgets import TextArea

from minigpt_tui.actions import Where, bindings, by_id
from minigpt_tui.visible import visible_line

MOST_EDITED = 10_000
"""Characters in the editor from which on a longer piece is folded: each key would wrap all of it anew."""

FOLD_START = 24
"""So many of its first characters stand in the sign of what is folded."""


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
        self._folds: dict[str, str] = {}  # what signs in the editor stand for
        super().__init__(
            id=id, soft_wrap=True, show_line_numbers=False, tab_behavior="focus", highlight_cursor_line=False
        )
        for key in ("f6", "f7"):  # a text area selects with them; here they lead to other screens
            self._bindings.key_to_bindings.pop(key, None)
        self._earlier = earlier
        self._place: int | None = None  # in the earlier prompts; None while the reader's own draft is shown
        self._draft = ""

    def set_earlier(self, earlier: list[str]) -> None:
        """Take another list of earlier prompts, and stand after its last."""
        self._earlier, self._place = earlier, None

    @property
    def text(self) -> str:
        """The prompt in full."""
        text = self.document.text
        for sign, folded in self._folds.items():
            text = text.replace(sign, folded)
        return text

    @text.setter
    def text(self, value: str) -> None:
        self.load_text(value)

    def load_text(self, text: str) -> None:
        """Take another prompt; a long one is folded."""
        super().load_text(text if len(text) <= MOST_EDITED else self._fold(text))

    def _fold(self, text: str) -> str:
        """A sign that stands for a text."""
        start = visible_line(text[:FOLD_START])
        sign = f"⟨{len(text):,} characters: {start}…⟩"
        while self._folds.get(sign, text) != text:  # another of that size that begins so
            sign = f"{sign[:-1]} ⟩"
        self._folds[sign] = text
        return sign

    def check_consume_key(self, key: str, character: str | None = None) -> bool:
        """No action is hidden while one types: letters never reach them, and one on ctrl+g of its reader's acts."""
        return False

    async def _on_paste(self, event: Paste) -> None:
        """A long text is folded, so that keys act at once."""
        if self._insert_folded(event.text):
            event.prevent_default()

    def action_paste(self) -> None:
        """Paste what was cut or copied here; a long text is folded."""
        if not self._insert_folded(self.app.clipboard):
            super().action_paste()

    def _insert_folded(self, text: str) -> bool:
        """Insert the sign of a text that is too long to be edited; false where it is not."""
        if len(self.document.text) + len(text) <= MOST_EDITED:
            return False
        self.replace(self._fold(text), *self.selection, maintain_selection_offset=False)
        self.scroll_cursor_visible()
        return True

    async def _on_key(self, event: Key) -> None:
        # A text area types a newline itself before any binding sees the key.
        if event.key == "enter" and "enter" in by_id("generate").keys.split(","):
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
