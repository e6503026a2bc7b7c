"""One text of a form on one line: its name and an input; below it, where wanted, what was found. It says what is typed
and knows nothing of what that means.
"""

from __future__ import annotations

from dataclasses import dataclass

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.events import DescendantBlur, DescendantFocus
from textual.message import Message
from textual.reactive import reactive
from textual.widgets import Input, Static

from minigpt_tui.widgets.setting_row import VALUE, label_text


class TextRow(Vertical):
    """A line of text to type."""

    DEFAULT_CSS = f"""
    TextRow {{
        height: auto;
        width: 1fr;
        & > Horizontal {{ height: 1; }}
        & .label {{ width: {VALUE}; }}
        & Input, & Input:focus {{
            width: 1fr; height: 1; border: none; padding: 0; background: transparent; background-tint: transparent;
        }}
        & Input > .input--placeholder {{ color: $quiet; }}
        & > .found {{ height: 1; padding: 0 0 0 {VALUE}; color: $quiet; }}
        &.-wrong > .found {{ color: $text-error; }}
    }}
    """

    changed: reactive[bool] = reactive(False)
    """Whether it is other than the preset's."""

    problem: reactive[str] = reactive("")
    """What is wrong with what was typed."""

    @dataclass
    class Typed(Message):
        """The reader typed this."""

        row: TextRow
        text: str

    def __init__(self, key: str, label: str, *, placeholder: str = "", tells: bool = False) -> None:
        """Make a row.

        Args:
            key: The name of what is typed here.
            label: Its name for a reader.
            placeholder: What stands for an empty text.
            tells: Whether there is a line for what was found.
        """
        super().__init__(id=f"field-{key}")
        self.key, self.label = key, label
        self._label = Static(classes="label", markup=False)
        self.input = Input(placeholder=placeholder, select_on_focus=False, compact=True, id=f"input-{key}")
        self._found = Static(classes="found", markup=False) if tells else None

    def compose(self) -> ComposeResult:
        """Name, input, and what was found."""
        with Horizontal():
            yield self._label
            yield self.input
        if self._found is not None:
            yield self._found

    def on_mount(self) -> None:
        """Show the name."""
        self._show_label()

    def show(self, text: str) -> None:
        """Let a text stand here, as if it had been there."""
        if self.input.value != text:
            with self.input.prevent(Input.Changed):
                self.input.value = text

    def tell(self, words: str, *, wrong: bool = False) -> None:
        """Say what was found, where there is a line for it."""
        self.set_class(wrong, "-wrong")
        if self._found is not None:
            self._found.update(Content(words))

    def watch_problem(self) -> None:
        """Mark it as wrong."""
        self._show_label()

    def watch_changed(self) -> None:
        """Mark it as changed."""
        self._show_label()

    def on_descendant_focus(self, _event: DescendantFocus) -> None:
        """Show where one is."""
        self._show_label()

    def on_descendant_blur(self, _event: DescendantBlur) -> None:
        """Show that one is elsewhere."""
        self._show_label()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Say what was typed."""
        event.stop()
        self.post_message(self.Typed(self, event.value))

    def _show_label(self) -> None:
        here = self.input.has_focus
        self._label.update(label_text(self.label, here=here, changed=self.changed, problem=bool(self.problem)))
