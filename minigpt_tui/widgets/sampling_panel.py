"""The sampling parameters, one row each: name, value, bar and the two keys that turn it. It shows what it is given and
says what the reader wants; it changes nothing itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from textual.binding import BindingType
from textual.content import Content
from textual.events import Click, Key, MouseScrollDown, MouseScrollUp
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget

from engine.config import SamplingParams
from minigpt_tui.actions import Where, bindings, by_id
from minigpt_tui.parameters import PARAMETERS, Parameter

NAME, VALUE, KEYS = 13, 8, 4  # columns
MIN_BAR = 4


class SamplingPanel(Widget, can_focus=True):
    """All parameters at a glance."""

    DEFAULT_CSS = """
    SamplingPanel { height: auto; }
    """

    BINDINGS: ClassVar[list[BindingType]] = [*bindings(Where.SAMPLING)]

    params: reactive[SamplingParams] = reactive(SamplingParams)
    """What is shown."""

    selected: reactive[int] = reactive(0)
    """The row that the arrow keys and typed digits act on."""

    @dataclass
    class Changed(Message):
        """The reader wants these parameters."""

        params: SamplingParams

    @dataclass
    class EditRequested(Message):
        """The reader wants to type a value; `text` is what was typed already."""

        parameter: Parameter
        text: str | None = None

    def get_content_height(self, *_: object) -> int:
        """One row for each parameter."""
        return len(PARAMETERS)

    def render(self) -> Content:
        """The rows."""
        return Content("\n").join([self._row(index) for index in range(len(PARAMETERS))])

    def _row(self, index: int) -> Content:
        parameter = PARAMETERS[index]
        here = self.has_focus and index == self.selected
        changed = not parameter.is_default(self.params)
        bar = self._bar_width()
        value = parameter.shown(self.params)
        share = parameter.share(self.params)
        room = VALUE if share is not None else VALUE + 1 + bar
        if len(value) > room:
            value = value[: room - 1] + "…"
        parts: list[Content | str | tuple[str, str]] = [
            ("›" if here else " ", "$accent"),
            (parameter.name.ljust(NAME - 1), "bold $accent" if here else "$quiet"),
            (value.rjust(VALUE), "bold" if changed else ""),
        ]
        if len(value) > VALUE:
            parts[-1] = (value, "bold" if changed else "")
        if share is None:
            parts.append(" " * (1 + bar - max(0, len(value) - VALUE)))
        else:
            filled = round(share * bar * 2)
            full, half = divmod(filled, 2)
            style = "$accent" if here else "$bar"
            parts += [
                " ",
                ("━" * full + "╸" * half, style),
                ("─" * (bar - full - half), "$line"),
            ]
        keys = " ".join(by_id(action_id).shown for action_id in parameter.actions)
        keys = keys if len(keys) < KEYS else keys.partition(" ")[0][: KEYS - 1]
        parts.append((f" {keys}".ljust(KEYS), "$key"))
        return Content.assemble(*parts)

    def _bar_width(self) -> int:
        return max(MIN_BAR, self.size.width - NAME - VALUE - KEYS - 1)

    def on_focus(self) -> None:
        """Show the selected row."""
        self.refresh()

    def on_blur(self) -> None:
        """Hide the selected row."""
        self.refresh()

    def on_key(self, event: Key) -> None:
        """A digit begins a value; 0 is the key of the reset."""
        parameter = PARAMETERS[self.selected]
        if parameter.field != "stop" and event.character and event.character in "123456789":
            event.stop()
            self.post_message(self.EditRequested(parameter, event.character))

    def on_click(self, event: Click) -> None:
        """A click on a bar sets it, on a key turns it, elsewhere selects the row."""
        offset = event.get_content_offset(self)
        if offset is None or not 0 <= offset.y < len(PARAMETERS):
            return
        self.selected = offset.y
        parameter = PARAMETERS[offset.y]
        bar, start = self._bar_width(), NAME + VALUE + 1
        if start <= offset.x < start + bar:
            if parameter.bar is None:
                self.post_message(self.EditRequested(parameter))
            else:
                share = (offset.x - start + 0.5) / bar if offset.x > start else 0.0
                share = 1.0 if offset.x == start + bar - 1 else share
                self.post_message(self.Changed(parameter.at_share(self.params, share)))
        elif offset.x >= start + bar and parameter.ladder:
            self.action_turn(-1 if offset.x < start + bar + 2 else 1)
        elif offset.x >= NAME:
            self.post_message(self.EditRequested(parameter))

    def on_mouse_scroll_up(self, event: MouseScrollUp) -> None:
        """The wheel turns the row under it."""
        self._wheel(event, 1)

    def on_mouse_scroll_down(self, event: MouseScrollDown) -> None:
        """The wheel turns the row under it."""
        self._wheel(event, -1)

    def _wheel(self, event: MouseScrollUp | MouseScrollDown, direction: int) -> None:
        offset = event.get_content_offset(self)
        if offset is not None and 0 <= offset.y < len(PARAMETERS):
            event.stop()
            self.selected = offset.y
            self.action_turn(direction)

    def action_row(self, direction: int) -> None:
        """Select the next row."""
        self.selected = (self.selected + direction) % len(PARAMETERS)

    def action_turn(self, direction: int) -> None:
        """Lower or raise the selected parameter."""
        parameter = PARAMETERS[self.selected]
        if parameter.ladder:
            self.post_message(self.Changed(parameter.stepped(self.params, direction)))
        else:
            self.action_edit()

    def action_edit(self) -> None:
        """Type the selected parameter's value."""
        self.post_message(self.EditRequested(PARAMETERS[self.selected]))

    def action_reset_row(self) -> None:
        """Set the selected parameter back."""
        parameter = PARAMETERS[self.selected]
        self.post_message(self.Changed(parameter.replaced(self.params, parameter.value(SamplingParams()))))
