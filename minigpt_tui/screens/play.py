"""The Play screen: prompt, text, sampling and the likely next tokens. It asks the engine for text, brings what comes to
the screen at most 30 times a second, and knows nothing of how the engine is started or mended.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from shutil import get_terminal_size
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.events import DescendantBlur, DescendantFocus, Resize
from textual.message import Message
from textual.reactive import reactive
from textual.screen import Screen
from textual.timer import Timer
from textual.widget import Widget
from textual.widgets import Static

from engine.config import ENDLESS, Device, Precision, SamplingParams
from engine.errors import InvalidSettingError, MiniGPTError, WorkerError
from engine.worker.protocol import ModelInfo, Started
from minigpt_tui.actions import Where, bindings, hint, hints
from minigpt_tui.engine_client import EngineClient
from minigpt_tui.live_writing import LiveWriting
from minigpt_tui.parameters import BY_FIELD, Parameter
from minigpt_tui.saving import FileThereError, SaveError, save_text
from minigpt_tui.settings import PACES, Session
from minigpt_tui.status_text import engine_words, finished_words, progress_words, ready_words, streaming_words, text_keys
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

Resume = Callable[[Started, SamplingParams], None] | None

FIGURES = 0.25
"""Seconds between two updates of the numbers."""

REMARK_SECONDS = 4.0
"""How long a remark such as `copied` stands in the status line."""


class PlayScreen(Screen[None]):
    """Write with a model, and turn its settings while it writes."""

    AUTO_FOCUS = "#prompt"
    HORIZONTAL_BREAKPOINTS = [(0, "-tiny-width"), (60, "-narrow"), (100, "-wide")]  # noqa: RUF012
    VERTICAL_BREAKPOINTS = [(0, "-tiny-height"), (20, "-low"), (28, "-tall")]  # noqa: RUF012

    BINDINGS: ClassVar[list[BindingType]] = [*bindings(Where.PLAY, Where.SETTINGS)]

    engine_state: reactive[str] = reactive("stopped")
    """The engine's state, as its client calls it."""

    model: reactive[ModelInfo | None] = reactive(None)
    """The model that is loaded, or None until one is."""

    class ModelsRequested(Message):
        """The reader wants to choose a model."""

    class SessionChanged(Message):
        """Something that outlives the app has changed."""

    def __init__(
        self,
        engine: EngineClient,
        session: Session,
        *,
        wanted_model: str = "",
        device: Device = "auto",
        precision: Precision = "auto",
    ) -> None:
        """Make the screen.

        Args:
            engine: Where text comes from; it need not be ready.
            session: What the last session left; changed in place.
            wanted_model: The model to write with; empty for the default.
            device: Where to compute.
            precision: How to compute.
        """
        super().__init__(classes=" ".join(_first_classes()))
        self.wanted_model, self.device, self.precision = wanted_model, device, precision
        self.writing = Writing()
        self._engine = engine
        self._session = session
        self._live = LiveWriting(
            engine, self.writing, on_begin=self._text_begins, on_change=self._text_changes, on_end=self._text_ends
        )
        # Parts of the screen.
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
        self._writing_model = ""  # which model's tokens the text is made of
        self._save_name = "text.txt"

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
        self._text.border_title, self._prompt.border_title = "Text", "Prompt"
        self._sampling.border_title, self._next.border_title = "Sampling", "Next token"
        self._sampling.border_subtitle = hints(["reset"])
        self._prompt.border_subtitle = " · ".join(
            [hints(["generate", "new_line"]), "[$key]↑↓[/] earlier prompts", hint("next_panel")]
        )
        self._text.empty_text = (
            "Nothing is written yet.\n\nType a prompt below and press enter,\nor leave it with esc and press z."
        )
        self._show_params()
        self._show_state()
        self.set_interval(FIGURES, self._refresh_figures)
        self.call_after_refresh(self._ask_line)

    def _ask_line(self) -> AskLine:
        if self._ask is None:
            from minigpt_tui.widgets.ask_line import AskLine

            self._ask = AskLine(id="ask")
            self.mount(self._ask)
        return self._ask

    def on_unmount(self) -> None:
        """Let the text go; the engine hears of it."""
        self._live.close()

    # What is shown.

    def watch_engine_state(self) -> None:
        """Say what the engine does."""
        self._show_state()

    def watch_model(self, model: ModelInfo | None) -> None:
        """Name the model on top."""
        if self.is_mounted:
            self._top.model = model
            self._show_state()

    def on_resize(self, event: Resize) -> None:
        """Say so where the terminal is too small, and fit the lower borders."""
        self._too_small.update(
            f"minigpt needs 60 columns and 20 rows;\nthis terminal has {event.size.width} and {event.size.height}.\n\n"
            "What is written is safe. ctrl+q quits."
        )
        self.call_after_refresh(self._show_progress)

    def on_descendant_focus(self, event: DescendantFocus) -> None:
        """The side panels of a narrow terminal stay open while they have the focus."""
        if event.widget in (self._text, self._prompt):
            self.remove_class("-sampling-open")
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
        waiting = engine_words(self.engine_state, self.model, self.wanted_model)
        if self._live.running and self._live.first_ms is not None:
            words = Content.from_markup(streaming_words(self.writing, self._live.first_ms))
        elif self._live.running:
            words = Content(f"{waiting}; your prompt is next" if waiting else "reading the prompt")
        elif waiting:
            words = Content(waiting)
        elif self.writing.finish_reason:
            words = Content(finished_words(self.writing))
        else:
            words = Content.from_markup(ready_words())
        self._status.running = self._live.running or bool(waiting and self.engine_state != "dead")
        self._status.state = self._remark or words
        self._text.writing = self._live.streaming

    def _show_progress(self) -> None:
        """The text panel's lower border: keys at the left, figures at the right."""
        text = self._text
        right = progress_words(self.writing, self.model)
        room = text.outer_size.width - 6
        keys = text_keys(self._live.running, self._session)
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
        text.border_subtitle = Content.assemble(*parts)  # type: ignore[assignment]

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

    # Writing.

    def _write(self, prompt: str, seed: int | None, tokens: tuple[int, ...] | None = None, resume: Resume = None) -> None:
        """Ask for a text: a new one in place of the one that is here, or its continuation."""
        self._notice.dismiss()
        self._live.write(
            prompt,
            self._session.params.replace(seed=seed),
            self._session.effective_pace,
            model=self.wanted_model,
            device=self.device,
            precision=self.precision,
            tokens=tokens,
            resume=resume,
        )
        self._show_state()
        self._show_progress()

    def _text_begins(self, left_out: str) -> None:
        self._writing_model = self._model_id
        self._show_left_out(left_out)
        self._text.show_all()
        self._figures_stale = True

    def _text_changes(self, first_row: int) -> None:
        if not self._text.writing:
            self._show_state()
        self._text.show_change(first_row)
        self._figures_stale = True

    def _text_ends(self, error: MiniGPTError | None) -> None:
        """Show the last figures; what went wrong is said in words, and what is written stays."""
        self._figures_stale = True
        self._refresh_figures()
        if error is None or (isinstance(error, WorkerError) and self.engine_state == "dead"):
            return  # a dead engine is spoken of once, by `engine_died`
        title, key = ("The engine did not write", "again")
        if not isinstance(error, WorkerError):
            title, key = ("That did not work", "choose_model")
        self.tell(title, f"{_sentence(error)}{self._safe}", hints([key]))

    def engine_died(self, why: str, another: bool) -> None:
        """Say that the engine's process ended by itself, and what happens now.

        Args:
            why: How it ended.
            another: Whether another is started unasked.
        """
        self._live.abandon("lost")
        now = "Another engine is starting." if another else "It died too often to be started again unasked."
        keys = hints(["continue", "again"]) if not self.writing.is_empty else hint("generate", "tries again")
        self.tell("The engine stopped", f"{_sentence(WorkerError(why))}{self._safe} {now}", keys)

    def cannot_load(self, model: str, error: MiniGPTError) -> None:
        """Say why a model cannot be used; the one that was loaded stays."""
        title = f"{model} cannot be loaded" if model else "No model can be loaded"
        self.tell(visible_line(title), f"{_sentence(error)}{self._safe}", hints(["choose_model"]))

    @property
    def _safe(self) -> str:
        return "" if self.writing.is_empty else " What is written is safe."

    def tell(self, title: str, sentences: str, keys: str) -> None:
        """Say in a panel what happened, what is safe and which keys go on."""
        self._notice.tell(title, sentences, f"{keys} · {hint('stop', 'dismiss')}")

    def _show_left_out(self, left_out: str) -> None:
        self._prompt.set_class(bool(left_out), "-warning")
        letters = visible_line(" ".join(left_out[:20])) + (" …" if len(left_out) > 20 else "")
        self._prompt.border_title = Content(  # type: ignore[assignment]
            f"Prompt · left out: {letters} — this model has never seen them" if left_out else "Prompt"
        )

    @property
    def _model_id(self) -> str:
        return self.model.sha256 or self.model.path if self.model else ""

    # What the widgets ask for.

    def on_prompt_editor_sent(self, event: PromptEditor.Sent) -> None:
        """Write on from the prompt, and go to the text, where single letters act."""
        event.stop()
        self._session.remember_prompt(event.prompt)
        self._prompt.set_earlier(self._session.prompts)
        self._text.focus()
        self._write(event.prompt, self._session.params.seed)
        self.post_message(self.SessionChanged())

    def on_sampling_panel_changed(self, event: SamplingPanel.Changed) -> None:
        """Turn a setting."""
        event.stop()
        self._change_params(event.params)

    def on_sampling_panel_edit_requested(self, event: SamplingPanel.EditRequested) -> None:
        """Ask for a value."""
        event.stop()
        self._ask_for(event.parameter, event.text)

    def on_sampling_chips_open_requested(self) -> None:
        """Show all settings."""
        self.action_focus_sampling()

    def on_ask_line_closed(self, event: AskLine.Closed) -> None:
        """Go back to where the question was asked."""
        self._status.display = True
        (event.back_to or self._text).focus()

    def _change_params(self, params: SamplingParams) -> None:
        if params == self._session.params:
            return
        seed_alone = params.replace(seed=self._session.params.seed) == self._session.params
        self._session.params = params
        self._show_params()
        if not seed_alone:
            self._live.set_params(params)

    def _ask_for(self, parameter: Parameter, typed: str | None = None) -> None:
        """Let a value be typed; what is out of range is refused in words."""

        def take(text: str) -> str:
            try:
                self._change_params(parameter.typed(self._session.params, text))
            except InvalidSettingError as error:
                return visible_line(error.hint or error.message)
            return ""

        shown = parameter.shown(self._session.params)
        value = "" if shown in ("none", "random") else shown
        remark = {"stop": r"several: a | b   newline: \n", "seed": "empty for a new one each time"}
        self._open(parameter.name, remark.get(parameter.field, parameter.range_text), take, value, typed)

    def _open(self, question: str, remark: str, take: Answer, value: str, typed: str | None = None) -> None:
        """Ask in the status line's place."""
        self._status.display = False
        self._ask_line().ask(question, remark, take, value=value, typed=typed)

    # Actions.

    def action_generate(self) -> None:
        """Write on from the prompt."""
        self._prompt.action_generate()

    def action_stop(self) -> None:
        """Stop writing; else dismiss a notice; else leave the prompt or the side panel."""
        if self._live.running:
            self._live.stop()
        elif not self._notice.dismiss():
            self.clear_selection()
            self.remove_class("-next-open")
            self._text.focus()

    def action_continue_text(self) -> None:
        """Write on from where the text ends."""
        writing = self.writing
        if self._live.running or writing.is_empty:
            self.say("it is being written" if self._live.running else "there is nothing to continue yet")
            return
        # The seed stays, so that a text that was stopped goes on as if it had not been.
        seed = writing.seed if self._session.params.seed is None else self._session.params.seed
        if self._writing_model in ("", self._model_id):
            self._write(writing.prompt, seed, writing.tokens(), writing.resume)
        else:
            self._write(writing.document.text(), seed, resume=writing.resume_anew)

    def action_again(self) -> None:
        """Write again with a new seed."""
        self._write(self.writing.prompt, None)

    def action_again_same(self) -> None:
        """Write again with the same seed."""
        self._write(self.writing.prompt, self.writing.seed)

    def action_from_nothing(self) -> None:
        """Write without a prompt."""
        self._text.focus()
        self._write("", self._session.params.seed)

    def action_full_speed(self) -> None:
        """Set the pace aside, or take it up again."""
        self._session.full_speed = not self._session.full_speed
        self._set_pace()

    def action_pace(self, direction: int) -> None:
        """The next pace up or down."""
        session = self._session
        faster, slower = [p for p in PACES if p > session.pace], [p for p in PACES if p < session.pace]
        following = faster[:1] if direction > 0 else slower[-1:]
        if following and not session.full_speed:
            session.pace = following[0]
        session.full_speed = False
        self._set_pace()

    def _set_pace(self) -> None:
        self._live.set_pace(self._session.effective_pace)
        self._show_progress()
        self.say("full speed" if self._session.full_speed else f"pace {self._session.pace:g} tok/s")

    def action_endless(self) -> None:
        """Write without an end, or to the usual length."""
        params = self._session.params
        usual = SamplingParams().max_new_tokens
        self._change_params(params.replace(max_new_tokens=usual if params.max_new_tokens == ENDLESS else ENDLESS))

    def action_copy(self) -> None:
        """Copy what is selected, or all."""
        text = self.get_selected_text() or self.writing.document.text()
        if not text:
            self.say("there is nothing to copy yet")
            return
        self.app.copy_to_clipboard(text)
        self.say(f"copied {len(text):,} characters")

    def action_save(self) -> None:
        """Ask for a file's name and save the text there."""
        if not self.writing.document.text():
            self.say("there is nothing to save yet")
            return
        asked_about = ""

        def take(typed: str) -> str:
            nonlocal asked_about
            try:
                path = save_text(typed, self.writing.document.text(), overwrite=typed == asked_about)
            except SaveError as error:
                asked_about = typed if isinstance(error, FileThereError) else ""
                return visible_line(f"{error.message}; {error.hint}")
            self._save_name = typed
            self.say(f"saved to {path}")
            return ""

        self._open("save to", "enter saves, esc leaves", take, self._save_name)

    def action_clear(self) -> None:
        """Clear the text; the prompt and the settings stay."""
        self._live.abandon("cancelled")
        self.writing.clear()
        self._text.show_all()
        self._show_left_out("")
        self._figures_stale = True
        self._refresh_figures()

    def action_choose_model(self) -> None:
        """Let the app show the models."""
        self.post_message(self.ModelsRequested())

    def action_next_token(self) -> None:
        """Show or hide the likely next tokens; on a narrow terminal the side panels come with them."""
        if self.has_class("-narrow"):
            self.action_focus_text()
            self.toggle_class("-next-open")
        else:
            self.toggle_class("-no-next")

    def action_focus_prompt(self) -> None:
        """Go to the prompt."""
        self._prompt.focus()

    def action_focus_text(self) -> None:
        """Go to the text."""
        self._text.focus()

    def action_focus_sampling(self) -> None:
        """Go to the sampling settings; a narrow terminal shows them now."""
        self.remove_class("-next-open")
        self.add_class("-sampling-open")
        self.call_after_refresh(self._sampling.focus)

    def action_panel(self, direction: int) -> None:
        """Go to the next panel, in the order in which they are used."""
        order: list[Widget] = [self._text, self._prompt, self._sampling]
        place = order.index(self.focused) if self.focused in order else 0
        following = order[(place + direction) % len(order)]
        if following.id == "sampling":
            self.action_focus_sampling()
        else:
            following.focus()

    def action_step(self, field: str, direction: int) -> None:
        """Turn one setting a step."""
        self._change_params(BY_FIELD[field].stepped(self._session.params, direction))

    def action_new_seed(self) -> None:
        """Draw a seed for the next text."""
        self._change_params(self._session.params.replace(seed=secrets.randbelow(1_000_000)))

    def action_ask(self, field: str) -> None:
        """Type a setting's value."""
        self._ask_for(BY_FIELD[field])

    def action_reset_sampling(self) -> None:
        """Set all of sampling back."""
        self._change_params(SamplingParams())


def _first_classes() -> list[str]:
    """The classes that the terminal's size will give, so that the first layout is the only one."""
    size = get_terminal_size()
    return [
        max((low, name) for low, name in breakpoints if low <= cells)[1]
        for cells, breakpoints in (
            (size.columns, PlayScreen.HORIZONTAL_BREAKPOINTS),
            (size.lines, PlayScreen.VERTICAL_BREAKPOINTS),
        )
    ]


def _sentence(error: MiniGPTError) -> str:
    text = visible_line(str(error)).rstrip(".")
    return f"{text[:1].upper()}{text[1:]}."
