"""Writing on the Compare screen: it has the columns written from one prompt and one seed, compares them as they come,
writes anew what was turned, and says what goes wrong. It knows nothing of how columns are chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from textual.timer import Timer

from engine.config import SamplingParams
from engine.errors import MiniGPTError, WorkerError
from minigpt_tui.comparing.chorus import Chorus
from minigpt_tui.comparing.column import MOST, Column, share_tokens
from minigpt_tui.comparing.parting import Parting
from minigpt_tui.engine_client import EngineClient
from minigpt_tui.history.entry import Entry
from minigpt_tui.history.making import entry_of
from minigpt_tui.model_choice import ModelChoice
from minigpt_tui.screens.compare_view import CompareView
from minigpt_tui.screens.paced import Paced
from minigpt_tui.settings import Session, drawn_seed
from minigpt_tui.status_text import sentence
from minigpt_tui.widgets.prompt_editor import PromptEditor
from minigpt_tui.wishes import SessionChanged, Written

FRAME, GRID_FRAME = 1 / 30, 1 / 10
"""Seconds between two paintings of texts; those of a grid are small, and many."""

TURN_SECONDS = 0.4
"""A column is written anew so long after its last setting was turned."""


class CompareWriting(Paced, CompareView):
    """Columns that are written."""

    def __init__(self, engine: EngineClient, session: Session, choice: Callable[[], ModelChoice]) -> None:
        """Make the screen.

        Args:
            engine: Where text comes from.
            session: What outlives the app; changed in place.
            choice: Tells the model that is chosen on Play.
        """
        at_server = engine.place is not None and engine.place.is_server
        super().__init__(session, choice(), noise_is_keyed=not at_server)
        self._engine, self._choice = engine, choice
        self._chorus = Chorus(engine, on_begin=self._begun, on_change=self._changed, on_end=self._ended)
        self._asked: tuple[str, int] | None = None  # the prompt and the seed of what was asked for last
        self._changes: dict[Column, int] = {}  # the first row that is to be painted anew
        self._frame_due = False
        self._turned: dict[Column, None] = {}
        self._turn_timer: Timer | None = None
        self._keep: Callable[[Entry], None] = self._post

    def on_unmount(self) -> None:
        """Let the texts go; the engine hears of it."""
        self._chorus.close()

    def close_texts(self) -> list[Entry]:
        """End what is being written, with what has come of it. The app leaves.

        Returns:
            What belongs into the history and is not on its way there yet.
        """
        entries: list[Entry] = []
        self._keep = entries.append
        self._chorus.abandon()
        return entries

    def _post(self, entry: Entry) -> None:
        self.post_message(Written(entry))

    def on_screen_resume(self) -> None:
        """As long as nothing was asked for, the model of Play is the one that writes."""
        choice = self._choice()
        if self._asked is None and len({column.model for column in self.columns}) == 1:
            for column in self.columns:
                column.model, column.info = choice.name, choice.info

    # Asking.

    def on_prompt_editor_sent(self, event: PromptEditor.Sent) -> None:
        """Write all columns from the prompt, and go to them, where single letters act."""
        event.stop()
        self._session.remember_prompt(event.prompt)
        self._prompt.set_earlier(self._session.prompts)
        self.post_message(SessionChanged())
        self._panes[self._at].focus()
        self.write_all(event.prompt, drawn_seed() if self.seed is None else self.seed)

    def write_all(self, prompt: str, seed: int) -> None:
        """Have all columns written from a prompt."""
        self._notice.dismiss()
        self._asked, self.asked_seed = (prompt, seed), seed
        self._write(self.columns)

    def write_anew(self, columns: Sequence[Column]) -> None:
        """Have columns written again that are others now, where anything was asked for."""
        if self._asked is not None:
            self._write(columns)
        self._show_all()

    def _write(self, columns: Sequence[Column]) -> None:
        if self._asked is None:
            return
        for column in columns:
            self._turned.pop(column, None)
        choice, (prompt, seed) = self._choice(), self._asked
        pace = 0.0 if self.sweep is not None else self._session.effective_pace
        self._chorus.write(columns, prompt, seed, pace, choice.device, choice.precision)
        self._show_all()

    # What comes.

    def _begun(self, column: Column) -> None:
        """A new text stands in a column: what it is compared with is compared anew."""
        first = self.columns[0]
        others = self.columns[1:] if column is first else [column] if column in self.columns else []
        for other in others:
            other.parting = Parting(by_token=share_tokens(other, first))
        if column is first:
            column.parting = None
        if (pane := self.pane_of(column)) is not None:
            pane.show_all()
        for other in {column, *others}:
            self._compare(other)
            self.show_marks(other)
        self._show_all()

    def _changed(self, column: Column, first_row: int) -> None:
        self._changes[column] = min(first_row, self._changes.get(column, first_row))
        if not self._frame_due:
            self._frame_due = True
            self.set_timer(FRAME if len(self.columns) <= MOST else GRID_FRAME, self._paint)

    def _paint(self) -> None:
        """Show what has come since the last time."""
        self._frame_due = False
        changes, self._changes = self._changes, {}
        for column, first_row in changes.items():
            if (pane := self.pane_of(column)) is not None:
                pane.writing = column.state == "writing"
                pane.show_change(first_row)
        first = self.columns[0]
        for column in self.columns[1:] if first in changes else [*changes]:
            self._compare(column)
        if changes and not self._figures_stale:
            self._figures_stale = True
            if any(not column.distinct.characters for column in changes):  # the first figures come with the first text
                self._refresh_figures()

    def _compare(self, column: Column) -> None:
        """Find where a column parts from the first one."""
        first, parting = self.columns[0], column.parting
        if parting is None or column not in self.columns:
            return
        before = parting.first
        changed = parting.update(column.writing, column.start, first.writing, first.start)
        if changed is not None:
            self.show_marks(column, changed)
        if before is None and parting.other_first is not None:
            self.show_marks(first, parting.other_first)

    def _ended(self, column: Column) -> None:
        """Keep what was written, and say what went wrong."""
        self._paint()
        if column in self.columns:
            for other in self.columns[1:] if column is self.columns[0] else [column]:
                self._compare(other)
        if not column.is_kept and len(column.writing.trace):
            column.is_kept = True
            self._keep(entry_of(column.writing, "compare"))
        if column.writing.is_empty and (pane := self.pane_of(column)) is not None:
            pane.show_all()  # what stood there is no more
        if column.problem is not None:
            self._tell_problem(column.problem)
        self._show_all()

    def _tell_problem(self, problem: MiniGPTError) -> None:
        """A dead engine is told of once; what a column alone lacks is said in it."""
        if isinstance(problem, WorkerError):
            safe = " What is written is safe." if any(c.writing.tokens() for c in self.columns) else ""
            self.tell("The engine stopped", f"{sentence(problem)}{safe}", ["compare_again_same", "compare_again"])

    # Settings.

    def turn(self, params: SamplingParams) -> None:
        """Let the column that keys act on be drawn otherwise; it is written anew once its settings rest."""
        column = self.column
        if params.seed != self.seed:
            self._take_seed(params.seed)
        params = params.replace(seed=None)
        if params == column.params:
            return
        column.params = params
        self._turned[column] = None
        self._begin_turn()

    def _take_seed(self, seed: int | None) -> None:
        self.seed = seed
        if self._asked is not None and seed is not None and seed != self._asked[1]:
            self._asked, self.asked_seed = (self._asked[0], seed), seed
            self._turned |= dict.fromkeys(self.columns)
        self._begin_turn()

    def _begin_turn(self) -> None:
        if self._turn_timer is not None:
            self._turn_timer.stop()
        self._turn_timer = self.set_timer(TURN_SECONDS, self._end_turn)
        self._show_all()

    def _end_turn(self) -> None:
        turned = [column for column in self._turned if column in self.columns]
        self._turned = {}
        if turned:
            self._write(turned)

    # Actions.

    def action_again(self) -> None:
        """Write all again with a new seed."""
        if self._asked is None:
            self._prompt.action_generate()
            return
        seed = drawn_seed()
        if self.seed is not None:
            self.seed = seed
        self.write_all(self._asked[0], seed)

    def action_again_same(self) -> None:
        """Write all again with the same seed."""
        if self._asked is None:
            self._prompt.action_generate()
        else:
            self.write_all(*self._asked)

    def take_pace(self) -> None:
        """Write all columns at it from the next token on, and keep it."""
        self._chorus.set_pace(self._session.effective_pace)
        self.post_message(SessionChanged())
        self.say(self._session.pace_words + ("" if self._session.full_speed else " of each column"))
        self._show_all()

    def action_score(self) -> None:
        """Ask each model how surprising the first column's text is to it."""
        first = self.columns[0]
        if first.is_busy or not first.writing.tokens():
            self.say("column 1 has no text yet" if not first.is_busy else "column 1 is still being written")
        else:
            self.say("each model reads column 1's text…")
            self.run_worker(self._score(first.writing.document.text()), group="score", exclusive=True)

    async def _score(self, text: str) -> None:
        choice, columns = self._choice(), list(self.columns)
        for model in dict.fromkeys(column.model for column in columns):
            try:
                scored = await self._engine.score(text, model=model, device=choice.device, precision=choice.precision)
            except MiniGPTError as error:
                self.tell("That text cannot be scored", sentence(error))
                continue
            for column in columns:
                if column.model == model:
                    column.scored = scored.loss
            self._show_all()
        self.say("loss on column 1's text, in nats per token of each model")
