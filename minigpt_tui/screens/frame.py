"""What the screens around Play have in common: the top line, the status line, the question and the notice, how they fit
the terminal, and what is said where it is too small. It knows nothing of what a screen is for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.content import Content
from textual.events import Mount, Resize, ScreenResume
from textual.screen import Screen
from textual.timer import Timer
from textual.widget import Widget
from textual.widgets import Static

from minigpt_tui.actions import Where, by_id, hint, hints
from minigpt_tui.saving import save_as_typed
from minigpt_tui.visible import visible_line
from minigpt_tui.widgets.ask_line import Answer, AskLine
from minigpt_tui.widgets.notice_panel import NoticePanel
from minigpt_tui.widgets.status_line import StatusLine
from minigpt_tui.widgets.top_line import TopLine

REMARK_SECONDS = 4.0
"""How long a remark such as `copied` stands in the status line."""

Key = str | tuple[str, str]
"""An action's id, or its id and the word for what it does now."""


class FramedScreen(Screen[None]):
    """A screen with its frame. An heir says its `NAME`, its `body`, its `status` and what it `fits` into its borders.

    Widgets of class `panel` have a thin round border, bright while they or something in them has the focus. What the
    frame does when it is mounted, resized or shown again is bound by decorators: an heir's `on_mount` calls no `super`.
    """

    NAME: ClassVar[str] = ""
    """What the top line calls it."""

    BACK: ClassVar[str] = ""
    """The id of its action that closes what is open, and dismisses a notice: it calls `close_open`."""

    SAFE: ClassVar[str] = "What is written is safe."
    """What need not be feared where the terminal is too small."""

    PLACES: ClassVar[dict[str, Where]] = {}
    _save_name = ""  # the file's name that is offered
    HORIZONTAL_BREAKPOINTS = [(0, "-tiny-width"), (60, "-narrow"), (100, "-wide"), (132, "-roomy")]  # noqa: RUF012
    VERTICAL_BREAKPOINTS = [(0, "-tiny-height"), (20, "-low"), (30, "-tall")]  # noqa: RUF012

    DEFAULT_CSS = """
    FramedScreen {
        layout: vertical;
        background: $background;
        layers: base over;
        & .panel {
            border: round $line;
            border-title-color: $quiet;
            border-subtitle-color: $quiet;
            border-title-align: left;
            border-subtitle-align: left;
            background: $background;
            link-color: $quiet;
            link-style: none;
            link-background: transparent;
            link-color-hover: $accent;
            link-style-hover: none;
            link-background-hover: transparent;
        }
        & .panel:focus, & .panel:focus-within {
            border: round $accent;
            border-title-color: $accent;
            border-title-style: bold;
        }
        & #small-terminal { display: none; }
        &.-asking #status { display: none; }
        &.-tiny-width, &.-tiny-height {
            & > * { display: none !important; }
            & > #small-terminal {
                display: block !important;
                height: 1fr;
                width: 1fr;
                content-align: center middle;
                text-align: center;
            }
        }
    }
    """

    def __init__(self, *, classes: str | None = None) -> None:
        """Make the frame.

        Args:
            classes: CSS classes that it begins with, parted by spaces.
        """
        super().__init__(classes=classes)
        self._top = TopLine(id="top")
        self._notice = NoticePanel(id="notice")
        self._status = StatusLine(id="status")
        self._ask = AskLine(id="ask")
        self._too_small = Static(id="small-terminal", markup=False)
        self._remark: Content | None = None
        self._remark_timer: Timer | None = None

    def compose(self) -> ComposeResult:
        """Top line, the body, bottom line."""
        yield self._top
        yield from self.body()
        yield self._notice
        yield self._status
        yield self._ask
        yield self._too_small

    # What an heir says of itself.

    def body(self) -> ComposeResult:
        """What stands between the top line and the notice; one of them 1fr high."""
        raise NotImplementedError

    def status(self) -> tuple[Content, bool]:
        """What goes on, and whether something is under way: the status line while no remark stands there."""
        raise NotImplementedError

    def fit(self) -> None:
        """Fill the borders anew: the screen is there, or has another size."""

    # The frame.

    @on(Mount)
    def _begin_frame(self) -> None:
        """Say where one is, and what goes on."""
        self._top.current = self.NAME
        self.call_after_refresh(self._refit)

    @on(Resize)
    def _fit_frame(self, event: Resize) -> None:
        """Say so where the terminal is too small, and fit the borders."""
        self._too_small.update(
            f"minigpt needs 60 columns and 20 rows;\nthis terminal has {event.size.width} and {event.size.height}.\n\n"
            f"{self.SAFE} {by_id('quit').shown} quits."
        )
        self.call_after_refresh(self._refit)

    @on(ScreenResume)
    def _resume_frame(self) -> None:
        """Another screen was shown until now."""
        self.call_after_refresh(self._refit)

    def _refit(self) -> None:
        if self.is_mounted:
            self.fit()
            self.show_status()

    def show_status(self) -> None:
        """Bring the status line up to date."""
        if self.is_mounted:
            words, self._status.running = self.status()
            self._status.state = self._remark or words

    def say(self, remark: str) -> None:
        """A remark in the status line, for a while."""
        self._remark = Content(visible_line(remark))
        if self._remark_timer is not None:
            self._remark_timer.stop()
        self._remark_timer = self.set_timer(REMARK_SECONDS, self._end_remark)
        self.show_status()

    def _end_remark(self) -> None:
        self._remark = None
        self.show_status()

    def tell(self, title: str, sentences: str, keys: Sequence[str] = ()) -> None:
        """Say in a panel what happened, what is safe and which keys go on.

        Args:
            title: A few words.
            sentences: What happened and what is safe.
            keys: The actions that go on.
        """
        ways = [hints(keys)] if keys else []
        ways += [hint(self.BACK, "dismiss")] if self.BACK else []
        self._notice.tell(visible_line(title), sentences, " · ".join(ways))

    def _open(self, question: str, remark: str, take: Answer, value: str = "", typed: str | None = None) -> None:
        """Ask in the status line's place.

        Args:
            question: What is asked for.
            remark: The range, or what enter does.
            take: Takes the typed text and returns what is wrong with it; empty when it was taken.
            value: What stands there already.
            typed: What the reader typed already, in place of `value`.
        """
        self.add_class("-asking")
        self._ask.ask(visible_line(question), remark, take, value=value, typed=typed)

    def _ask_to_save(self, remark: str, text_of: Callable[[str], str]) -> None:
        """Ask for a file's name and save a text there.

        Args:
            remark: Which kinds of files there are.
            text_of: The text for a file of that name.
        """

        def saved(typed: str, path: Path) -> None:
            self._save_name = typed
            self.say(f"saved to {path}")

        self._open("save to", remark, save_as_typed(text_of, saved), self._save_name)

    def on_ask_line_closed(self, event: AskLine.Closed) -> None:
        """Go back to where the question was asked."""
        self.remove_class("-asking")
        if event.back_to is not None:
            event.back_to.focus()
        elif self.focused is None and (first := self.first_place()) is not None:
            first.focus()

    def first_place(self) -> Widget | None:
        """What has the focus where nothing else has it."""
        return self.query_one(self.AUTO_FOCUS) if self.AUTO_FOCUS else None

    def close_open(self) -> bool:
        """Close the question, or else dismiss the notice; False where neither was open."""
        if self._ask.is_open:
            self._ask.action_close()
            return True
        return self._notice.dismiss()


def fitting(keys: Sequence[Key], room: int) -> Content:
    """Hints for as many actions as there is room for, the most wanted first; the help has the others.

    Args:
        keys: The actions.
        room: Cells; a panel's border has `outer_size.width - 6`.
    """
    parts = [hint(key) if isinstance(key, str) else hint(*key) for key in keys]
    while parts:
        content = Content.from_markup(" · ".join(parts))
        if content.cell_length <= room:
            return content
        parts.pop()
    return Content("")


def with_figures(keys: Sequence[Key], figures: str | Content, room: int, *, bright: bool) -> Content:
    """A lower border: hints at the left, as many as leave room for the figures at the right.

    Args:
        keys: The actions.
        figures: What stands at the right; what is too long is cut.
        room: Cells; a panel's border has `outer_size.width - 6`.
        bright: Whether the panel has the focus: the line between them takes its colour.
    """
    right = Content(figures) if isinstance(figures, str) else figures
    if not right:
        return fitting(keys, room)
    if right.cell_length > room:
        return right.truncate(max(0, room), ellipsis=True)
    left = fitting(keys, room - right.cell_length - 4)
    line = "─" * max(0, room - left.cell_length - right.cell_length - bool(left) - 1)
    return Content.assemble(left, " " if left else "", (line, "$accent" if bright else "$line"), " ", right)
