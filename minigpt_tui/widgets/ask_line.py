"""One line at the bottom that asks for a value: a number, a seed, a path. It takes the status line's place while it is
open, says what is wrong with an answer, closes when the focus leaves it, and knows nothing of what the answer is for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.events import DescendantBlur
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Input, Static

Answer = Callable[[str], str]
"""Takes the typed text and returns what is wrong with it; empty when it was taken."""


class AskLine(Horizontal):
    """A question, an input, and a hint or what was wrong."""

    DEFAULT_CSS = """
    AskLine {
        height: auto;
        display: none;
        background: $ask-background;
        &.-open { display: block; }
        & > .question { width: auto; max-width: 40%; padding: 0 1; color: $accent; text-style: bold; }
        & > Input, & > Input:focus {
            width: 1fr; height: 1; border: none; padding: 0; background: $ask-background;
            background-tint: transparent;
        }
        & > .remark { width: auto; max-width: 55%; height: auto; max-height: 2; padding: 0 1; color: $quiet; }
        &.-wrong > .remark { color: $text-error; text-style: bold; }
    }
    """

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "close", show=False)]

    class Closed(Message):
        """The line has closed; the focus goes back to where it was, or stays where it has gone (None)."""

        def __init__(self, back_to: Widget | None) -> None:
            super().__init__()
            self.back_to = back_to

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._answer: Answer = lambda _: ""
        self._remark = ""
        self._refused = ("", "")  # an answer, and what was wrong with it
        self._back_to: Widget | None = None

    def compose(self) -> ComposeResult:
        """Question, input, remark."""
        yield Static(classes="question", markup=False)
        yield Input(select_on_focus=False, compact=True)
        yield Static(classes="remark", markup=False)

    @property
    def is_open(self) -> bool:
        """Whether it is asking."""
        return self.has_class("-open")

    def ask(self, question: str, remark: str, answer: Answer, *, value: str = "", typed: str | None = None) -> None:
        """Open the line.

        Args:
            question: What is asked for.
            remark: The range, or what enter does.
            answer: Called with the text on enter; what it returns is shown, and keeps the line open. It may ask the
                next question itself.
            value: What stands there already.
            typed: What the reader typed already, in place of `value`.
        """
        if not self.is_open:
            self._back_to = self.screen.focused
        self._answer, self._remark, self._refused = answer, remark, ("", "")
        self.query_one(".question", Static).update(Content(question))
        self._say(remark, wrong=False)
        field = self.query_one(Input)
        with self.prevent(Input.Changed):
            field.value = value if typed is None else typed
        self.add_class("-open")
        field.focus()
        if typed is None:
            field.action_select_all()
        else:
            field.cursor_position = len(typed)

    def _say(self, text: str, *, wrong: bool) -> None:
        self.set_class(wrong, "-wrong")
        self.query_one(".remark", Static).update(Content(text))

    def on_input_changed(self, event: Input.Changed) -> None:
        """What was wrong is wrong no more, until the same stands there again."""
        event.stop()
        refused, problem = self._refused
        wrong = bool(problem) and event.value == refused
        self._say(problem if wrong else self._remark, wrong=wrong)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Hand the answer on; whoever takes it may ask for something else."""
        event.stop()
        answer = self._answer
        if problem := answer(event.value):
            self._refused = (event.value, problem)
            self._say(problem, wrong=True)
        elif self._answer is answer:
            self.action_close()

    def on_descendant_blur(self, event: DescendantBlur) -> None:
        """Whoever goes elsewhere gives no answer; another window of the desktop is not elsewhere."""
        if self.app.app_focus and not self.query_one(Input).has_focus:
            self._close(None)

    def action_close(self) -> None:
        """Close the line without an answer."""
        self._close(self._back_to)

    def _close(self, back_to: Widget | None) -> None:
        if self.is_open:
            self.remove_class("-open")
            self.post_message(self.Closed(back_to))


def if_yes(then: Callable[[], object], otherwise: str) -> Answer:
    """Takes a yes, and nothing else.

    Args:
        then: Done then.
        otherwise: What is said of any other answer.
    """

    def take(text: str) -> str:
        if text.strip().lower() not in ("y", "yes"):
            return otherwise
        then()
        return ""

    return take
