"""One setting on one line: its name, its value, what it stands at in the preset. A number is stepped or typed, a choice
stepped or taken from a list. It shows what it is given and says what the reader wants; it changes nothing itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from textual.binding import BindingType
from textual.content import Content
from textual.events import Blur, Click, Focus, Key, Paste
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget

from minigpt_tui.actions import Where, bindings

LABEL = 25
"""Columns of the sign and the name; two of marks follow, and two that point at a value that can be stepped."""

VALUE = LABEL + 4
"""The column where values begin."""

_OF_NUMBERS = frozenset("0123456789.,eE_")


def label_text(label: str, *, here: bool, changed: bool, problem: bool) -> Content:
    """The left part of a row, `VALUE - 2` columns wide: where one is, the name, whether it was changed or is wrong."""
    mark, colour = ("✗", "$text-error") if problem else ("•" if changed else " ", "$accent")
    return Content.assemble(
        ("› " if here else "  ", "$accent"),
        (label.ljust(LABEL - 2), "bold $accent" if here else "$quiet"),
        (mark, colour),
        " ",
    )


class SettingRow(Widget, can_focus=True):
    """A setting that has a number or a choice for its value."""

    DEFAULT_CSS = """
    SettingRow { height: 1; width: 1fr; }
    """

    BINDINGS: ClassVar[list[BindingType]] = [*bindings(Where.FIELD)]

    value: reactive[str] = reactive("")
    """The value, as text."""

    changed: reactive[bool] = reactive(False)
    """Whether it is other than the preset's."""

    note: reactive[str] = reactive("")
    """A few words at the right."""

    problem: reactive[str] = reactive("")
    """What is wrong with what was typed."""

    typed: reactive[str | None] = reactive(None)
    """What is being typed in place of the value; None while nothing is."""

    locked: reactive[bool] = reactive(False)
    """Whether it cannot be chosen now."""

    @dataclass
    class Turned(Message):
        """The reader wants the next value up (+1) or down (-1)."""

        row: SettingRow
        direction: int

    @dataclass
    class Typed(Message):
        """The reader typed this; None when it shall be as it was before."""

        row: SettingRow
        text: str | None

    @dataclass
    class Reset(Message):
        """The reader wants the preset's value."""

        row: SettingRow

    class ListWanted(Message):
        """The reader wants to see all choices."""

    def __init__(self, key: str, label: str, *, is_number: bool) -> None:
        """Make a row.

        Args:
            key: The name of the setting.
            label: Its name for a reader.
            is_number: Whether its value can be typed.
        """
        super().__init__(id=f"field-{key}")
        self.key, self.label, self.is_number = key, label, is_number

    def watch_locked(self, locked: bool) -> None:
        """What cannot be chosen takes no focus."""
        self.can_focus = not locked

    def render(self) -> Content:
        """Name, value and note."""
        here = self.has_focus
        line = label_text(self.label, here=here, changed=self.changed, problem=bool(self.problem))
        if self.typed is not None:
            line += Content.assemble(
                "  ", (self.typed, "bold $text-error" if self.problem else "bold"), ("▏" if here else "", "$accent")
            )
        elif self.locked:
            line += Content.assemble("  ", (self.value, "$quiet"))
        elif here:
            line += Content.assemble(("‹ ", "$key"), (self.value, "bold $accent"), (" ›", "$key"))
        else:
            line += Content.assemble("  ", (self.value, "bold" if self.changed else ""))
        room = self.size.width - line.cell_length - 2
        note = Content.styled(self.problem or self.note, "$text-error" if self.problem else "$quiet")
        if note.cell_length > room:
            note = note.truncate(max(0, room), ellipsis=True)
        return line + " " * max(0, self.size.width - line.cell_length - note.cell_length) + note

    def on_focus(self, _event: Focus) -> None:
        """Show where one is."""
        self.refresh()

    def on_blur(self, _event: Blur) -> None:
        """What was typed is the value now, unless it is wrong: then it stays as it was typed."""
        if not self.problem:
            self.typed = None
        self.refresh()

    def on_key(self, event: Key) -> None:
        """What is typed takes the value's place."""
        character = event.character or ""
        if not self.is_number or not character:
            return
        exponent = (self.typed or "").endswith(("e", "E")) and character in "+-"
        if (character in _OF_NUMBERS and (self.typed is not None or character in "0123456789.")) or exponent:
            event.stop()
            event.prevent_default()
            self._type((self.typed or "") + character)

    def on_paste(self, event: Paste) -> None:
        """A number can be pasted."""
        if self.is_number and (text := event.text.strip()):
            event.stop()
            self._type(text.splitlines()[0])

    def on_click(self, event: Click) -> None:
        """A click beside the value turns it, one on a choice opens the list."""
        offset = event.get_content_offset(self)
        if offset is None or self.locked or self.typed is not None:
            return
        end = VALUE + len(self.value)
        if VALUE - 2 <= offset.x < VALUE:
            self.action_turn(-1)
        elif end <= offset.x < end + 3:
            self.action_turn(1)
        elif VALUE <= offset.x < end and not self.is_number:
            self.post_message(self.ListWanted())

    def _type(self, text: str) -> None:
        self.typed = text
        self.post_message(self.Typed(self, text))

    def action_turn(self, direction: int) -> None:
        """Go to the next value."""
        self.typed, self.problem = None, ""
        self.post_message(self.Turned(self, direction))

    def action_erase(self) -> None:
        """Take back a character that was typed; with none, the value goes back to the preset's."""
        if self.typed:
            self._type(self.typed[:-1])
        else:
            self.typed, self.problem = None, ""
            self.post_message(self.Reset(self))

    def give_up_typing(self) -> bool:
        """Forget what is being typed; whether there was anything."""
        if self.typed is None:
            return False
        self.typed, self.problem = None, ""
        self.post_message(self.Typed(self, None))
        return True
