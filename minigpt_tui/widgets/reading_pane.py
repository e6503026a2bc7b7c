"""Text that is read and scrolled: a sample, or the end of a log. What comes is data: nothing in it is markup, and what
could steer the terminal is shown as signs. A log is followed at its end until the reader scrolls up.
"""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static


class ReadingPane(VerticalScroll, can_focus=True):
    """A text with a border, whose title says what it is."""

    DEFAULT_CSS = """
    ReadingPane {
        overflow-x: hidden;
        scrollbar-size-vertical: 1;
        & > Static { width: 1fr; height: auto; }
    }
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._text = Static(markup=False)
        self._shown = Content("")

    def compose(self) -> ComposeResult:
        """The text."""
        yield self._text

    def show(self, content: Content, *, at_end: bool = False) -> None:
        """Show a text.

        Args:
            content: The text, made safe already.
            at_end: Whether its end is what matters: it stays in view unless the reader has scrolled up.
        """
        if content.is_same(self._shown):
            return
        follow = at_end and self.scroll_offset.y >= self.max_scroll_y - 1
        self._shown = content
        self._text.update(content)
        if at_end:
            if follow:
                self.call_after_refresh(self.scroll_end, animate=False)
        else:
            self.scroll_home(animate=False)
