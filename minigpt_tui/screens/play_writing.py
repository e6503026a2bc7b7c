"""Writing on the Play screen: it asks the engine for a text, takes in what comes, turns settings and stops it, and says
what becomes of the engine. It knows nothing of how the engine is started or mended.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from textual.message import Message
from textual.timer import Timer

from engine.config import ENDLESS, Device, Precision, SamplingParams
from engine.errors import MiniGPTError, WorkerError
from engine.worker.protocol import Started
from minigpt_tui.actions import hint, hints
from minigpt_tui.engine_client import EngineClient
from minigpt_tui.history.entry import Entry
from minigpt_tui.live_writing import LiveWriting
from minigpt_tui.screens.paced import Paced
from minigpt_tui.screens.play_view import PlayView
from minigpt_tui.settings import Session
from minigpt_tui.status_text import sentence
from minigpt_tui.visible import visible_line
from minigpt_tui.wishes import Written

KEEP_SECONDS = 0.5
"""A changed setting is kept on disk after this time."""

Resume = Callable[[Started, SamplingParams], None] | None


class PlayWriting(Paced, PlayView):
    """A text that is written, and how it goes on."""

    class ModelsRequested(Message, namespace="play_screen"):
        """The reader wants to choose a model."""

    class EngineWanted(Message, namespace="play_screen"):
        """The reader wants the engine to be tried again, with no text asked for."""

    class SessionChanged(Message, namespace="play_screen"):
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
        self._engine = engine
        self._live = LiveWriting(
            engine, self.writing, on_begin=self._text_begins, on_change=self._text_changes, on_end=self._text_ends
        )
        # The prompt and the seed of the text that was asked for last, which the engine may never have begun.
        self._asked: tuple[str, int | None] | None = None
        self._save_name = "text.txt"
        self._keep_timer: Timer | None = None
        self._death = ""  # why the last engine died, until another is there
        self._run_is_open = False  # whether something was written that is not in the history yet
        self._ended: Callable[[Entry], object] = self._post_entry

    def _post_entry(self, entry: Entry) -> None:
        self.post_message(Written(entry))

    def on_unmount(self) -> None:
        """Let the text go; the engine hears of it."""
        self._live.close()

    # Writing.
    def _write(
        self,
        prompt: str,
        seed: int | None,
        tokens: tuple[int, ...] | None = None,
        resume: Resume = None,
        limit: int | None = None,
    ) -> None:
        """Ask for a text: a new one in place of the one that is here, its continuation, or a step of that (`limit`)."""
        if limit is None:
            self._end_text()
        self._notice.dismiss()
        if resume is None:
            self._asked = (prompt, seed)
        self._live.write(
            prompt,
            self._session.params.replace(seed=seed),
            self._session.effective_pace,
            model=self.wanted_model,
            info=self.model,  # another may be there when the engine begins
            device=self.device,
            precision=self.precision,
            tokens=tokens,
            resume=resume or partial(self._begin, prompt),
            limit=limit,
        )
        self._show_state()
        self._show_progress()

    def _begin(self, prompt: str, event: Started, params: SamplingParams) -> None:
        """A new text takes the place of the one that is here."""
        self.writing.start(event, prompt, params)

    def _resume(self, event: Started, params: SamplingParams) -> None:
        """The text that is here goes on."""
        self.writing.resume(event, params)

    def _resume_anew(self, event: Started, params: SamplingParams) -> None:
        """The text that is here goes on with another model."""
        self.writing.resume_anew(event, params)

    def _end_text(self) -> None:
        """End what is being written, and what was written step by step, with what has come of it."""
        self._live.abandon("cancelled")
        if self.writing.stepping:
            self._end_run()

    def _end_run(self) -> None:
        """Let what was written since the last start or continuation go into the history, once."""
        writing = self.writing
        self._name_model()
        if self._run_is_open and writing.new_tokens:
            from minigpt_tui.history.making import entry_of  # not at the start: the first screen does not wait for it

            self._ended(entry_of(writing, "play"))
        self._run_is_open = writing.stepping = False

    def _name_model(self) -> None:
        """Say which model writes where it was asked before it was loaded, when its name alone was known."""
        if self.writing.model is None and self.writing.asked_model == self.wanted_model:
            self.writing.model = self.model

    def _text_begins(self, left_out: str) -> None:
        self._run_is_open = True
        self._name_model()
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
        if not self.writing.stepping:  # steps are one run, until something else is done
            self._end_run()
        self._figures_stale = True
        self._refresh_figures()
        if error is None or (isinstance(error, WorkerError) and self.engine_state == "dead"):
            return  # a dead engine is spoken of once, by `engine_died`
        title, key = ("The engine did not write", "again")
        if not isinstance(error, WorkerError):
            title, key = ("That did not work", "choose_model")
        self.tell(title, f"{sentence(error)}{self._safe}", hints([key]))

    @property
    def _safe(self) -> str:
        return "" if self.writing.is_empty else " What is written is safe."

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

    # The engine.

    def engine_died(self, why: str, another: bool) -> None:
        """Say that the engine's process ended by itself, and what happens now.

        Args:
            why: How it ended.
            another: Whether another is started unasked.
        """
        self._live.abandon("lost")
        self._death = f"{sentence(WorkerError(why))}{self._safe}"
        self._tell_death("Another engine is starting." if another else "It died too often to be started again unasked.")

    def link_ended(self, why: str, again: float | None) -> None:
        """Say that there is no link to the engine elsewhere, and what happens now.

        Args:
            why: What happened, and what to do.
            again: After so many seconds it is tried again; None where that would not help.
        """
        self._live.abandon("lost")
        is_told = bool(self._death)
        self._death = f"{sentence(WorkerError(why))}{self._safe}"
        if is_told and not self._notice.is_open:
            return  # who has dismissed it knows
        wait = "It is not tried again unasked." if again is None else f"It is tried again in {again:.0f} s."
        self._tell_death(wait)

    def engine_came_back(self) -> None:
        """Say so where the death of the one before is still told."""
        if self._death and self._notice.is_open:
            self._tell_death("The link is there again." if self._engine.place else "Another engine is ready.")
        self._death = ""

    def _tell_death(self, now: str) -> None:
        is_far = self._engine.place is not None
        keys = hint("again", "tries again" if not is_far else "tries now")
        if not self.writing.is_empty:
            keys = hints(["continue", "again"])
        self.tell("No link to the engine" if is_far else "The engine stopped", f"{self._death} {now}", keys)

    def cannot_load(self, model: str, error: MiniGPTError) -> None:
        """Say why a model cannot be used; the one that was loaded stays."""
        title = f"{model} cannot be loaded" if model else "No model can be loaded"
        keys = ["choose_model"] if self._engine.place is None else ["again", "choose_model"]
        self.tell(visible_line(title), f"{sentence(error)}{self._safe}", hints(keys))

    # Actions.
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
        if self._same_model:
            self._write(writing.prompt, writing.seed, writing.tokens(), self._resume)
        else:
            self._write(writing.document.text(), writing.seed, resume=self._resume_anew)

    @property
    def _same_model(self) -> bool:
        """Whether the text is made of the tokens of the model that is chosen."""
        model = self.writing.model
        if model is None or self.model is None:
            return self.writing.asked_model == self.wanted_model
        return (model.sha256 or model.path) == (self.model.sha256 or self.model.path)

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

    def take_pace(self) -> None:
        """Write at it from the next token on, and keep it."""
        self._keep_soon()
        self._live.set_pace(self._session.effective_pace)
        self._show_progress()
        self.say(self._session.pace_words)

    def action_endless(self) -> None:
        """Write without an end, or to the usual length."""
        params = self._session.params
        usual = SamplingParams().max_new_tokens
        self._change_params(params.replace(max_new_tokens=usual if params.max_new_tokens == ENDLESS else ENDLESS))

    def action_clear(self) -> None:
        """Clear the text; the prompt and the settings stay."""
        self._end_text()
        self.writing.clear()
        self._text.show_all()
        self._show_left_out("")
        self._figures_stale = True
        self._refresh_figures()
