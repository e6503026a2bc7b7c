"""How the Play screen looks: its parts, what stands in its borders and its lines, and how it fits the terminal. It
shows the state of a text and of the engine, and asks nothing of them.
"""

from __future__ import annotations

from shutil import get_terminal_size
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.events import DescendantBlur, DescendantFocus, Resize
from textual.reactive import reactive
from textual.screen import Screen
from textual.timer import Timer
from textual.widgets import Static

from engine.worker.protocol import ModelInfo
from minigpt_tui.actions import Where, by_id, hint, hints
from minigpt_tui.engine_client import EngineClient
from minigpt_tui.live_writing import LiveWriting
from minigpt_tui.settings import Session
from minigpt_tui.status_text import (
    engine_words,
    finished_words,
    no_model_words,
    progress_words,
    ready_words,
    stopping_words,
    streaming_words,
    text_keys,
)
from minigpt_tui.visible import visible_line
from minigpt_tui.widgets.next_token import NextToken
from minigpt_tui.widgets.notice_panel import NoticePanel
from minigpt_tui.widgets.prompt_editor import PromptEditor
from minigpt_tui.widgets.sampling_chips import SamplingChips
from minigpt_tui.widgets.sampling_panel import SamplingPanel
from minigpt_tui.widgets.status_line import StatusLine
from minigpt_tui.widgets.text_pane import TextPane
from minigpt_tui.widgets.top_line import TopLine
from minigpt_tui.writing import Writing

if TYPE_CHECKING:
    from minigpt_tui.widgets.ask_line import Answer, AskLine

FIGURES = 0.25
"""Seconds between two updates of the numbers."""

REMARK_SECONDS = 4.0
"""How long a remark such as `copied` stands in the status line."""


class PlayView(Screen[None]):
    """The parts of the screen, brought up to date when its heir says so."""

    AUTO_FOCUS = "#prompt"
    PLACES: ClassVar[dict[str, Where]] = {
        "text": Where.TEXT,
        "prompt": Where.PROMPT,
        "sampling": Where.SAMPLING,
        "branches": Where.BRANCHES,
        "": Where.PLAY,
        "settings": Where.SETTINGS,
    }
    HORIZONTAL_BREAKPOINTS = [(0, "-tiny-width"), (60, "-narrow"), (100, "-wide")]  # noqa: RUF012
    VERTICAL_BREAKPOINTS = [(0, "-tiny-height"), (20, "-low"), (28, "-tall")]  # noqa: RUF012

    engine_state: reactive[str] = reactive("stopped")
    """The engine's state, as its client calls it."""

    model: reactive[ModelInfo | None] = reactive(None)
    """The model that is loaded, or None until one is."""

    loading_model: reactive[str | None] = reactive(None)
    """The name of the model that is being loaded, empty for the default; None while none is."""

    load_failed: reactive[bool] = reactive(False)
    """Whether the last model that was to be loaded could not be."""

    _live: LiveWriting
    """The text that is being written; its heir makes it."""

    _engine: EngineClient
    """Where it comes from; its heir is given it."""

    def __init__(self, session: Session, wanted_model: str) -> None:
        """Make the parts.

        Args:
            session: What the last session left.
            wanted_model: The model that shall write; empty for the default.
        """
        super().__init__(classes=" ".join(_first_classes()))
        self.wanted_model = wanted_model
        self.writing = Writing()
        self._session = session
        self._top = TopLine(id="top")
        self._text = TextPane(self.writing.document, id="text")
        self._sampling = SamplingPanel(id="sampling")
        self._next = NextToken(id="next")
        self._notice = NoticePanel(id="notice")
        self._chips = SamplingChips(id="chips")
        self._prompt = PromptEditor(session.prompts, id="prompt")
        self._status = StatusLine(id="status")
        self._ask: AskLine | None = None  # mounted after the first paint, which need not wait for it
        self._too_small = Static(id="too-small", markup=False)
        self._figures_stale = False
        self._remark: Content | None = None
        self._remark_timer: Timer | None = None

    def compose(self) -> ComposeResult:
        """Top line, text and side panels, prompt, bottom line."""
        yield self._top
        with Horizontal(id="middle"):
            yield self._text
            with Vertical(id="side"):
                yield self._sampling
                yield self._next
        yield self._notice
        yield self._chips
        yield self._prompt
        yield self._status
        yield self._too_small

    def on_mount(self) -> None:
        """Fill in what the session left."""
        self._text.border_title, self._prompt.border_title = self._text_title(), "Prompt"
        self._sampling.border_title, self._next.border_title = "Sampling", "Next token"
        self._show_keys()
        self._show_params()
        self._show_state()
        self.set_interval(FIGURES, self._refresh_figures)
        self.call_after_refresh(self._ask_line)

    def _text_title(self) -> Content:
        """What stands over the text: where it comes from, if not from this machine."""
        place = self._engine.place
        return Content("Text" if place is None else f"Text · {visible_line(place.name)}")

    def on_screen_resume(self) -> None:
        """Keys may be others than when another screen was shown."""
        self._show_keys()

    def _show_keys(self) -> None:
        self._sampling.border_subtitle = hints(["reset"])
        earlier = f"[$key]{by_id('earlier_prompt').shown}{by_id('later_prompt').shown}[/] earlier prompts"
        self._prompt.border_subtitle = " · ".join([hints(["generate", "new_line"]), earlier, hint("next_panel")])
        enter, leave, start = (by_id(action).shown for action in ("generate", "stop", "from_nothing"))
        self._text.empty_text = (
            f"Nothing is written yet.\n\nType a prompt below and press {enter},\n"
            f"or leave it with {leave} and press {start}."
        )

    def _ask_line(self) -> AskLine:
        if self._ask is None:
            from minigpt_tui.widgets.ask_line import AskLine

            self._ask = AskLine(id="ask")
            self.mount(self._ask)
        return self._ask

    def watch_engine_state(self) -> None:
        """Say what the engine does."""
        self._show_state()

    def watch_model(self, model: ModelInfo | None) -> None:
        """Name the model on top."""
        if self.is_mounted:
            self._top.model = model
            self._show_state()

    def watch_loading_model(self) -> None:
        """Say so."""
        self._show_state()

    def watch_load_failed(self) -> None:
        """Say so where there is no other model."""
        self._show_state()

    def on_resize(self, event: Resize) -> None:
        """Say so where the terminal is too small, and fit the lower borders."""
        self._too_small.update(
            f"minigpt needs 60 columns and 20 rows;\nthis terminal has {event.size.width} and {event.size.height}.\n\n"
            f"What is written is safe. {by_id('quit').shown} quits."
        )
        self.call_after_refresh(self._show_progress)

    def on_descendant_focus(self, event: DescendantFocus) -> None:
        """The side panels of a narrow terminal stay open while they have the focus."""
        if event.widget in (self._text, self._prompt):
            self.remove_class("-sampling-open")
        self._show_way()
        self._show_progress()

    def on_descendant_blur(self, event: DescendantBlur) -> None:
        """The lower border's line takes the colour of the rest."""
        self._show_progress()

    def _show_params(self) -> None:
        self._sampling.params = self._session.params
        self._chips.params = self._session.params

    def _show_state(self) -> None:
        if not (self.is_mounted and self.is_running):
            return
        waiting = engine_words(
            self.engine_state, self.model, self.wanted_model, self.loading_model, self.load_failed, self._engine.place
        )
        if self._live.stopping:
            words = Content.from_markup(stopping_words())
        elif self._live.streaming:
            words = Content(waiting) if waiting else Content.from_markup(streaming_words(self.writing))
        elif self._live.running:
            words = Content(f"{waiting}; your prompt is next" if waiting else "reading the prompt")
        elif waiting:
            words = Content(waiting)
        elif self.model is None:
            words = Content.from_markup(no_model_words())
        elif self.writing.finish_reason:
            words = Content(self._finished_words())
        else:
            words = Content.from_markup(ready_words())
        self._status.running = self._live.running or bool(waiting and self.engine_state != "dead")
        self._status.state = self._remark or words
        self._text.writing = self._live.streaming

    def _show_progress(self) -> None:
        """The text panel's lower border: keys at the left, figures at the right."""
        text = self._text
        right = " · ".join(words for words in (self._place_words(), self._progress_words()) if words)
        room = text.outer_size.width - 6
        keys = self._text_keys()
        left = Content("")
        while keys:  # what does not fit beside the figures is left to the help
            left = Content.from_markup(" · ".join(keys))
            if left.cell_length + len(right) + 4 <= room:
                break
            left = Content("")
            keys.pop()
        line = "─" * max(0, room - left.cell_length - len(right) - bool(left) - 1)
        border = "$accent" if text.has_focus else "$line"
        parts = [left, " " if left else "", (line, border), " ", right] if right else [left]
        text.border_subtitle = Content.assemble(*parts)

    def _place_words(self) -> str:
        """Where among other texts this one stands."""
        return ""

    def _text_keys(self) -> list[str]:
        """The keys of the text panel as markup, the most needed first."""
        return text_keys(self._live.running, self._session, is_empty=self.writing.is_empty)

    def _progress_words(self) -> str:
        """How far the text is."""
        return progress_words(self.writing, self.model)

    def _finished_words(self) -> str:
        """What came of the text."""
        return finished_words(self.writing)

    def _refresh_figures(self) -> None:
        if not self._figures_stale:
            return
        self._figures_stale = False
        self._show_state()
        self._show_progress()
        self._next.alternatives = self.writing.latest

    def say(self, remark: str) -> None:
        """A remark in the status line, for a while."""
        self._remark = Content(visible_line(remark))
        if self._remark_timer is not None:
            self._remark_timer.stop()
        self._remark_timer = self.set_timer(REMARK_SECONDS, self._end_remark)
        self._show_state()

    def _end_remark(self) -> None:
        self._remark = None
        self._show_state()

    def tell(self, title: str, sentences: str, keys: str, *, letters: bool = True) -> None:
        """Say in a panel what happened, what is safe and which keys go on.

        Args:
            title: A few words.
            sentences: What happened and what is safe.
            keys: Markup.
            letters: Whether some of the keys are letters, which an empty prompt then leaves to the text panel.
        """
        self._notice.tell(title, sentences, f"{keys} · {hint('stop', 'dismiss')}")
        if letters and self.focused is self._prompt and not self._prompt.text:
            self._text.focus()
        self._show_way()

    def _show_way(self) -> None:
        """Where letters are text, a notice says how to leave before it says which letter goes on."""
        way = ""
        if self.focused is self._prompt:
            way = hint("previous_panel", "leaves the prompt")
        elif self._ask is not None and self._ask.is_open:
            way = hint("stop", "leaves the question")
        self._notice.come_from(way)

    def _show_left_out(self, left_out: str) -> None:
        self._prompt.set_class(bool(left_out), "-warning")
        letters = visible_line(" ".join(left_out[:20])) + (" …" if len(left_out) > 20 else "")
        self._prompt.border_title = Content(
            f"Prompt · left out: {letters} — this model has never seen them" if left_out else "Prompt"
        )

    def _open(self, question: str, remark: str, take: Answer, value: str, typed: str | None = None) -> None:
        """Ask in the status line's place."""
        self.add_class("-asking")
        self._ask_line().ask(question, remark, take, value=value, typed=typed)


def _first_classes() -> list[str]:
    """The classes that the terminal's size will give, so that the first layout is the only one."""
    size = get_terminal_size()
    return [
        max((low, name) for low, name in breakpoints if low <= cells)[1]
        for cells, breakpoints in (
            (size.columns, PlayView.HORIZONTAL_BREAKPOINTS),
            (size.lines, PlayView.VERTICAL_BREAKPOINTS),
        )
    ]
