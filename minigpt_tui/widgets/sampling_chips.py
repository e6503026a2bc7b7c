"""The sampling parameters on one line, for narrow terminals: each with the letter that lowers it underlined."""

from __future__ import annotations

from textual.content import Content
from textual.events import Click
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget

from engine.config import SamplingParams
from minigpt_tui.actions import by_id
from minigpt_tui.parameters import PARAMETERS, Parameter

# What goes first when the line is short, as long as it stands at its default.
EXPENDABLE = ("stop", "min_p", "repetition_penalty", "top_p", "top_k", "seed", "max_new_tokens")


class SamplingChips(Widget):
    """One line of names and values."""

    DEFAULT_CSS = """
    SamplingChips { height: 1; padding: 0 2; }
    """

    class OpenRequested(Message):
        """The reader wants the panel with all of them."""

    params: reactive[SamplingParams] = reactive(SamplingParams)
    """What is shown."""

    def render(self) -> Content:
        """As many chips as fit."""
        shown = list(PARAMETERS)
        for field in EXPENDABLE:
            if self._width(shown, 2) <= self.size.width:
                break
            shown = [p for p in shown if p.field != field or not p.is_default(self.params)]
        gap = 3 if self._width(shown, 3) <= self.size.width else 2
        return Content(" " * gap).join([self._chip(parameter) for parameter in shown])

    def _width(self, shown: list[Parameter], gap: int) -> int:
        return sum(len(p.short) + 1 + len(self._value(p)) + gap for p in shown) - gap

    def _value(self, parameter: Parameter) -> str:
        value = parameter.shown(self.params)
        return value if len(value) <= 10 else value[:9] + "…"

    def _chip(self, parameter: Parameter) -> Content:
        before, key, after = parameter.short.partition(by_id(parameter.actions[0]).shown)
        if not key:  # a key that is no letter of the name
            before, key, after = "", parameter.short, ""
        changed = not parameter.is_default(self.params)
        return Content.assemble(
            (before, "$quiet"),
            (key, "$key" if len(key) > 1 else "$key underline"),
            (after, "$quiet"),
            " ",
            (self._value(parameter), "bold" if changed else ""),
        )

    def on_click(self, event: Click) -> None:
        """Ask for the panel."""
        event.stop()
        self.post_message(self.OpenRequested())
