"""The logit lens: what the model would say at a place if it ended after each of its layers, and where it changes its
mind. It shows what it is given.
"""

from __future__ import annotations

import math

from textual.content import Content
from textual.events import MouseScrollDown, MouseScrollUp
from textual.reactive import reactive
from textual.widget import Widget

from engine.inference.stream import Alternative
from minigpt_tui.text_document import cells
from minigpt_tui.widgets.next_token import bar, percent_text, shown_token, token_label
from minigpt_tui.widgets.side_by_side import fitted

NAME = 10
LABEL = 10
MOST_BAR = 30
WITH_OTHERS, OTHERS = 56, 14
"""From so many cells on the next guesses stand behind, in so many of them."""


class LensRows(Widget):
    """A row for the embedding and for each layer."""

    DEFAULT_CSS = """
    LensRows { height: auto; }
    """

    guesses: reactive[tuple[tuple[Alternative, ...], ...]] = reactive((), layout=True)
    """Of the embedding and of each layer, the likeliest first."""

    token: reactive[int | None] = reactive(None)
    """What stands in the text there."""

    remark: reactive[str] = reactive("")
    """Why there is nothing to show."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._top = 0

    def get_content_height(self, *_: object) -> int:
        """All rows and what is said below them, within limits."""
        return min(20, max(4, len(self.guesses) + 2))

    def render(self) -> Content:
        """The rows that there is room for."""
        width, height = self.size.width, self.size.height
        if not self.guesses:
            return Content.styled(self.remark or "…", "$quiet")
        answer = self.guesses[-1][0]
        label = min(LABEL, max(cells(shown_token(layer[0].text)) for layer in self.guesses))
        others_at = width >= WITH_OTHERS
        room = max(3, min(MOST_BAR, width - NAME - label - 9 - (OTHERS if others_at else 0)))
        shown = max(1, height - 2)
        self._top = max(0, min(self._top, len(self.guesses) - shown))
        lines = []
        for number in range(self._top, min(len(self.guesses), self._top + shown)):
            first, *others = self.guesses[number]
            agrees = first.token == answer.token
            changed = number > 0 and first.token != self.guesses[number - 1][0].token
            share = math.exp(first.logprob)
            lines.append(
                Content.assemble(
                    ("embedding" if number == 0 else f"layer {number:>3}").ljust(NAME),
                    ("≠ " if changed else "  ", "$accent"),
                    (token_label(first.text, label), "bold" if agrees else "$quiet"),
                    " ",
                    (bar(share, room), "$bar" if agrees else "$line"),
                    (percent_text(share), "$quiet"),
                    ("  " + " ".join(shown_token(other.text) for other in others) if others_at else "", "$quiet"),
                )
            )
        lines += [Content.styled(said, "$quiet") for said in self._said(answer)]
        return Content("\n").join([fitted(line, width) for line in lines])

    def _said(self, answer: Alternative) -> list[str]:
        """Where the answer stands from, and whether the text has it."""
        first = len(self.guesses) - 1
        while first > 0 and self.guesses[first - 1][0].token == answer.token:
            first -= 1
        since = "the embedding" if first == 0 else f"layer {first}"
        said = [f"says {shown_token(answer.text)} from {since} on"]
        if self.token is not None and self.token != answer.token:
            said.append("the text has another token here")
        return said

    def on_mouse_scroll_down(self, event: MouseScrollDown) -> None:
        """Scroll down."""
        event.stop()
        self._top += 1
        self.refresh()

    def on_mouse_scroll_up(self, event: MouseScrollUp) -> None:
        """Scroll up."""
        event.stop()
        self._top = max(0, self._top - 1)
        self.refresh()
