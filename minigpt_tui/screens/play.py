"""The Play screen: prompt, text, sampling and the likely next tokens. It asks the engine for text, brings what comes to
the screen at most 30 times a second, and knows nothing of how the engine is started or mended.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from textual.binding import BindingType
from textual.message import Message
from textual.timer import Timer
from textual.widget import Widget

from engine.config import ENDLESS, Device, Precision, SamplingParams
from engine.errors import InvalidSettingError, MiniGPTError, WorkerError
from engine.worker.protocol import Started
from minigpt_tui.actions import Where, bindings, hint, hints
from minigpt_tui.engine_client import EngineClient
from minigpt_tui.live_writing import LiveWriting
from minigpt_tui.parameters import BY_FIELD, Parameter
from minigpt_tui.saving import FileThereError, SaveError, save_text
from minigpt_tui.screens.play_view import PlayView
from minigpt_tui.settings import PACES, Session
from minigpt_tui.status_text import sentence
from minigpt_tui.visible import visible_line
from minigpt_tui.widgets.prompt_editor import PromptEditor
from minigpt_tui.widgets.sampling_panel import SamplingPanel

if TYPE_CHECKING:
    from minigpt_tui.widgets.ask_line import AskLine

KEEP_SECONDS = 0.5
"""A changed setting is kept on disk after this time."""

Resume = Callable[[Started, SamplingParams], None] | None


class PlayScreen(PlayView):
    """Write with a model, and turn its settings while it writes."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings(Where.PLAY, Where.SETTINGS)]

    class ModelsRequested(Message):
        """The reader wants to choose a model."""

    class EngineWanted(Message):
        """The reader wants the engine to be tried again, with no text asked for."""

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
        super().__init__(session, wanted_model)
        self.device, self.precision = device, precision
        self._live = LiveWriting(
            engine, self.writing, on_begin=self._text_begins, on_change=self._text_changes, on_end=self._text_ends
        )
        # Name and id of the model that was asked last, and of the one whose tokens the text is made of.
        self._asked_model = self._writing_model = ("", "")
        # The prompt and the seed of the text that was asked for last, which the engine may never have begun.
        self._asked: tuple[str, int | None] | None = None
        self._save_name = "text.txt"
        self._keep_timer: Timer | None = None
        self._death = ""  # why the last engine died, until another is there

    def on_unmount(self) -> None:
        """Let the text go; the engine hears of it."""
        self._live.close()

    # Writing.

    def _write(
        self, prompt: str, seed: int | None, tokens: tuple[int, ...] | None = None, resume: Resume = None
    ) -> None:
        """Ask for a text: a new one in place of the one that is here, or its continuation."""
        self._notice.dismiss()
        if resume is None:
            self._asked = (prompt, seed)
        self._asked_model = (self.wanted_model, self._model_id)  # another may be there when the engine begins
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
        self._writing_model = self._asked_model
        self._asked = (self.writing.prompt, self.writing.seed)
        self._show_left_out(left_out)
        self._text.show_all()
        self._figures_stale = True

    def _text_changes(self, first_row: int) -> None:
        self._text.show_change(first_row)
        self._figures_stale = True
        if not self._text.writing:  # the first figures come with the first token
            self._refresh_figures()

    def _text_ends(self, error: MiniGPTError | None) -> None:
        """Show the last figures; what went wrong is said in words, and what is written stays."""
        self._figures_stale = True
        self._refresh_figures()
        if error is None or (isinstance(error, WorkerError) and self.engine_state == "dead"):
            return  # a dead engine is spoken of once, by `engine_died`
        title, key = ("The engine did not write", "again")
        if not isinstance(error, WorkerError):
            title, key = ("That did not work", "choose_model")
        self.tell(title, f"{sentence(error)}{self._safe}", hints([key]))

    def engine_died(self, why: str, another: bool) -> None:
        """Say that the engine's process ended by itself, and what happens now.

        Args:
            why: How it ended.
            another: Whether another is started unasked.
        """
        self._live.abandon("lost")
        self._death = f"{sentence(WorkerError(why))}{self._safe}"
        self._tell_death("Another engine is starting." if another else "It died too often to be started again unasked.")

    def engine_came_back(self) -> None:
        """Say so where the death of the one before is still told."""
        if self._death and self._notice.is_open:
            self._tell_death("Another engine is ready.")
        self._death = ""

    def _tell_death(self, now: str) -> None:
        keys = hints(["continue", "again"]) if not self.writing.is_empty else hint("again", "tries again")
        self.tell("The engine stopped", f"{self._death} {now}", keys)

    def cannot_load(self, model: str, error: MiniGPTError) -> None:
        """Say why a model cannot be used; the one that was loaded stays."""
        title = f"{model} cannot be loaded" if model else "No model can be loaded"
        self.tell(visible_line(title), f"{sentence(error)}{self._safe}", hints(["choose_model"]))

    @property
    def _safe(self) -> str:
        return "" if self.writing.is_empty else " What is written is safe."

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
        self.remove_class("-asking")
        if event.back_to is not None or self.focused is None:
            (event.back_to or self._text).focus()

    def _change_params(self, params: SamplingParams) -> None:
        if params == self._session.params:
            return
        seed_alone = params.replace(seed=self._session.params.seed) == self._session.params
        self._session.params = params
        self._keep_soon()
        self._show_params()
        if not seed_alone:
            self._live.set_params(params)

    def _keep_soon(self) -> None:
        """Have the session kept once the reader has stopped turning settings."""
        if self._keep_timer is not None:
            self._keep_timer.stop()
        self._keep_timer = self.set_timer(KEEP_SECONDS, lambda: self.post_message(self.SessionChanged()))

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

    # Actions.

    def action_generate(self) -> None:
        """Write on from the prompt."""
        self._prompt.action_generate()

    def action_stop(self) -> None:
        """Close the question; else stop writing; else dismiss a notice; else leave the prompt or the side panel."""
        if self._ask is not None and self._ask.is_open:
            self._ask.action_close()
        elif self._live.running:
            self._live.stop()
            self._figures_stale = True  # an engine that does not answer is told of at the next figures
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
        # The text's own seed, so that it goes on as if it had not been stopped; the panel's is for the next text.
        name, id = self._writing_model
        # The model may have been asked before it was loaded, when its name alone was known.
        if id == self._model_id if id else name == self.wanted_model:
            self._write(writing.prompt, writing.seed, writing.tokens(), writing.resume)
        else:
            self._write(writing.document.text(), writing.seed, resume=writing.resume_anew)

    def action_again(self) -> None:
        """Write again with a new seed; where nothing was asked yet, have an engine and the model first."""
        if self._asked is None and self.model is None and self.loading_model is None:
            self._notice.dismiss()
            self.post_message(self.EngineWanted())
        else:
            self._write(self._asked[0] if self._asked else "", None)

    def action_again_same(self) -> None:
        """Write again with the same seed."""
        self._write(*(self._asked or ("", None)))

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
        self._keep_soon()
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
                if isinstance(error, FileThereError):
                    asked_about = typed
                    return "enter overwrites the file that is there already"  # what decides is never cut off
                asked_about = ""
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
