"""A question over the screen of settings: which key shall it be? Every key is an answer but escape, which leaves it,
also those that would do something everywhere else.
"""

from __future__ import annotations

from textual.app import ComposeResult
from textual.content import Content
from textual.events import Key
from textual.widgets import Static

from minigpt_tui.screens.modal import Modal


class KeyQuestion(Modal[str], inherit_bindings=False):
    """Answers with the key that was pressed, or with nothing."""

    DEFAULT_CSS = """
    KeyQuestion {
        & > .sheet { width: auto; min-width: 44; max-width: 90%; padding: 1 3; text-align: center; }
    }
    """

    def __init__(self, title: str, sentence: str) -> None:
        """Make the question.

        Args:
            title: What the action is called.
            sentence: What it does.
        """
        super().__init__()
        self._title, self._sentence = title, sentence

    def compose(self) -> ComposeResult:
        """One panel."""
        words = Content.assemble(("Press the key", "bold"), "\n", (self._sentence, "$quiet"))
        panel = Static(words, id="key-question", classes="sheet")
        panel.border_title = Content(self._title)
        panel.border_subtitle = "[$key]esc[/] leaves it as it is"
        yield panel

    def on_key(self, event: Key) -> None:
        """That is the answer."""
        event.stop()
        event.prevent_default()
        self.dismiss("" if event.key == "escape" else event.key)
