"""The likeliest tokens at the place that was written last, as bars. It shows what it is given."""

from __future__ import annotations

import math

from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

from engine.inference.stream import Alternative
from minigpt_tui.text_document import cells
from minigpt_tui.visible import visible

EIGHTHS = " ▏▎▍▌▋▊▉"

LABEL_CELLS = 12
"""The widest label of a token."""

ROUNDING = 1e-5
"""What adding up the shares of all tokens may miss of 1."""


def shown_token(text: str) -> str:
    """A token's text with signs for what cannot be seen."""
    return visible(text.replace("\n", "↵").replace("\t", "⇥").replace(" ", "␣")) or "∅"


def token_label(text: str, width: int) -> str:
    """A token's text in at most `width` cells, with signs for what cannot be seen."""
    shown = shown_token(text)
    while cells(shown) > width:
        shown = shown.removesuffix("…")[:-1] + "…"
    return shown + " " * (width - cells(shown))


def bar(share: float, width: int) -> str:
    """A bar of `width` cells filled to a share from 0 to 1, in eighths of a cell."""
    eighths = round(max(0.0, min(1.0, share)) * width * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (EIGHTHS[rest] if rest else "")).ljust(width)


def percent_text(share: float) -> str:
    """A share from 0 to 1 in six cells, such as `  41 %`; nothing but 0 is `0 %`."""
    return f"{'<1' if 0 < share < 0.005 else format(share * 100, '.0f'):>4} %"


class NextToken(Widget):
    """A row for each of the likeliest tokens."""

    DEFAULT_CSS = """
    NextToken { height: 1fr; }
    """

    alternatives: reactive[tuple[Alternative, ...]] = reactive(())
    """The likeliest tokens, the likeliest first."""

    def render(self) -> Content:
        """The bars; what is left over is one row."""
        if not self.alternatives:
            return Content.styled("What could come next is shown here while text is written.", "$quiet")
        width, rows = self.size.width, self.size.height
        label = min(LABEL_CELLS, max(cells(shown_token(alternative.text)) for alternative in self.alternatives))
        room = max(4, width - label - 8)
        lines, rest = [], 1.0
        for alternative in self.alternatives[: max(1, rows - 1)]:
            share = math.exp(alternative.logprob)
            rest -= share
            cut = alternative.drawn == 0
            lines.append(
                Content.assemble(
                    (token_label(alternative.text, label), "$quiet" if cut else ""),
                    "  ",
                    (bar(share, room), "$line" if cut else "$bar-quiet"),
                    (percent_text(share), "$quiet"),
                )
            )
        if rows > len(lines):
            other = percent_text(rest if rest > ROUNDING else 0.0)
            lines.append(Content.styled("…".ljust(width - len(other)) + other, "$quiet"))
        return Content("\n").join(lines)
