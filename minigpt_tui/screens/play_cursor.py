"""A cursor in the text of the Play screen, and the colours that show how surprising each token was. Those of a prompt
were not drawn: the engine is asked for their figures when somebody looks.
"""

from __future__ import annotations

import functools
from collections import OrderedDict
from typing import ClassVar

from textual.content import Content
from textual.theme import Theme

from engine.errors import MiniGPTError, WorkerError
from engine.worker.protocol import ModelInfo, Scored
from minigpt_tui.actions import Where, hint
from minigpt_tui.inspecting import Measure, TokenPlaces
from minigpt_tui.screens.play_branches import PlayBranches
from minigpt_tui.status_text import sentence
from minigpt_tui.widgets.text_pane import Colouring, TextPane

SCORES_KEPT = 16
"""Of so many prompts the figures are kept."""

LEGEND_FROM = 78
"""From so many cells on the legend says that it is one of the text."""

SCORED = "scored"
"""The finish reason of a text that nobody wrote here."""

CURSOR_ACTIONS = {
    *("walk", "walk_rows", "walk_pages", "walk_to_start", "walk_to_end", "mark", "take_marked", "head", "layer"),
}
"""What acts while the text is inspected, and not else."""


def model_id(model: ModelInfo | None) -> str:
    """What tells a model from another of its name."""
    return (model.sha256 or model.path) if model else ""


class PlayCursor(PlayBranches):
    """Walks through the text, token by token."""

    PLACES: ClassVar[dict[str, Where]] = {
        **PlayBranches.PLACES,
        "inspecting": Where.INSPECT,
        "attention": Where.HEADS,
    }

    inspecting = False
    """Whether the text has a cursor."""

    _measure = Measure.PROBABILITY
    _cursor = 0  # the position that it stands at; the number of tokens is the place behind the last one
    _column: int | None = None  # the cell that it keeps to while it goes from row to row
    _count = 0  # tokens when the cursor was looked at last

    @functools.cached_property
    def _scores(self) -> OrderedDict[tuple[str, tuple[int, ...]], Scored]:
        """What the engine said of prompts, by the model and their ids."""
        return OrderedDict()

    @functools.cached_property
    def _places(self) -> TokenPlaces:
        """Where the tokens of this text are; made anew when another is here."""
        return TokenPlaces(self.writing, self._scores.get((self._text_model[1], self.writing.prompt_tokens)))

    @property
    def _text_model(self) -> tuple[str, str]:
        """Name and id of the model whose tokens the text is made of."""
        if self.writing.model is not None:
            return self.writing.asked_model, model_id(self.writing.model)
        return self.wanted_model, model_id(self.model)

    @property
    def cursor_position(self) -> int | None:
        """The place in the text that is looked at, counted in tokens; None where none is."""
        return self._cursor if self.inspecting else None

    def on_mount(self) -> None:
        """Colour anew in another theme."""
        self.app.theme_changed_signal.subscribe(self, self._theme_changes)

    def _theme_changes(self, _theme: Theme) -> None:
        if self.inspecting:
            self._colour()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """The cursor's keys act while there is one, and nobody is asked anything."""
        if action in CURSOR_ACTIONS:
            return self.inspecting and not (self._ask is not None and self._ask.is_open)
        return super().check_action(action, parameters)

    # On and off.

    def action_inspect(self) -> None:
        """Look inside the text, or no longer."""
        if self.inspecting:
            self._leave_inspecting()
        elif not self.writing.document.length:
            self.say("there is nothing to look into yet: write or score a text first")
        else:
            self._begin_inspecting()

    def _begin_inspecting(self) -> None:
        self.inspecting = True
        self.add_class("-inspecting")
        self._take_text()
        self._cursor = max(self._places.first, self._places.count - 1)
        self._text.focus()
        self._colour()
        self._show_cursor()
        self._cursor_moves()
        self._show_progress()

    def _leave_inspecting(self) -> None:
        self.inspecting = False
        self.remove_class("-inspecting")
        self._text.colouring = None
        self._text.set_place(None)
        self._text.border_title = self._text_title()
        self._show_progress()

    def action_stop(self) -> None:
        """Where there is nothing to stop or to close, leave the cursor."""
        asking = self._ask is not None and self._ask.is_open
        if self.inspecting and not (asking or self._live.running or self._notice.is_open) and not self._is_aside:
            self._leave_inspecting()
        else:
            super().action_stop()

    @property
    def _is_aside(self) -> bool:
        """Whether the reader is in another panel than the text."""
        return self.focused is not None and self.focused is not self._text

    def _text_keys(self) -> list[str]:
        if not self.inspecting or self._live.running:
            return super()._text_keys()
        walk = "[$key]←↑↓→[/] walk"
        forks = "[$key]\\[ ][/] mark · " + hint("fork_marked")
        return [walk, hint("inspect", "leaves"), forks, hint("colour"), hint("attention"), hint("lens", "lens")]

    def _progress_words(self) -> str:
        if not self.inspecting or self._live.running:
            return super()._progress_words()
        return f"{self._cursor:,} of {self._places.count:,}"

    # The text changes.

    def on_text_pane_replaced(self, event: TextPane.Replaced) -> None:
        """Another text is here, or this one begins to go on."""
        event.stop()
        if not self.inspecting:
            return
        if not self.writing.document.length:
            self._leave_inspecting()
            return
        self._take_text()
        self._cursor = max(self._places.first, min(self._cursor, self._places.count))
        self._colour()
        self._show_cursor(seen=not self._live.running)
        self._cursor_moves()

    def _text_changes(self, first_row: int) -> None:
        super()._text_changes(first_row)
        if not self.inspecting:
            return
        before, self._count = self._count, self._places.count
        if self._cursor >= min(before, self._count):  # it stood at the end, where a token has come
            self._cursor = self._count if self.writing.stepping else min(self._cursor, self._count)
            self._show_cursor(seen=self.writing.stepping)
            self._cursor_moves()
        elif self._places.span(self._cursor) != self._text.place:  # text that was held back has come
            self._show_cursor(seen=False)

    def _take_text(self) -> None:
        """Find the places of the text that is here."""
        self.__dict__.pop("_places", None)
        self._count = self._places.count
        prompt = self.writing.prompt_tokens
        if len(prompt) > 1 and self._places.scored is None:
            self.run_worker(self._score_prompt(prompt, self._text_model), group="prompt", exclusive=True)

    async def _score_prompt(self, prompt: tuple[int, ...], model: tuple[str, str]) -> None:
        """Have the engine tell the figures of a prompt."""
        try:
            scored = await self._engine.score(
                "", tokens=prompt, model=model[0], device=self.device, precision=self.precision
            )
        except MiniGPTError as error:
            if not isinstance(error, WorkerError):  # a dead engine is spoken of elsewhere
                self.say(f"the prompt is not coloured: {sentence(error)}")
            return
        self._keep_score(model[1], scored)
        if self.inspecting and self.writing.prompt_tokens == prompt and self._text_model == model:
            self.__dict__.pop("_places", None)
            self._colour()
            self._show_cursor(seen=False)
            self._cursor_moves()

    def _keep_score(self, model_id: str, scored: Scored) -> None:
        self._scores[model_id, scored.ids] = scored
        while len(self._scores) > SCORES_KEPT:
            self._scores.popitem(last=False)

    def engine_came_back(self) -> None:
        """Ask again what the one before did not answer."""
        super().engine_came_back()
        if self.inspecting:
            self._take_text()
            self._cursor_moves()

    # The cursor.

    def _show_cursor(self, *, seen: bool = True) -> None:
        self._text.set_place(self._places.span(self._cursor), seen=seen)

    def _cursor_moves(self) -> None:
        """The cursor is at another place, or what is known of its place is; an heir tells of it."""

    def _walk_to(self, position: int, *, keep_column: bool = False) -> None:
        position = max(self._places.first, min(position, self._places.count))
        if not keep_column:
            self._column = None
        if position != self._cursor:
            self._cursor = position
            self._show_cursor()
            self._cursor_moves()
            self._show_progress()

    def on_text_pane_clicked(self, event: TextPane.Clicked) -> None:
        """Go where the reader clicked."""
        event.stop()
        if self.inspecting and not self.get_selected_text():
            self._walk_to(self._places.position_at(event.offset))

    def action_walk(self, direction: int) -> None:
        """The next token."""
        self._walk_to(self._cursor + direction)

    def action_walk_rows(self, rows: int) -> None:
        """So many rows up or down, in the same column."""
        document, offset = self.writing.document, self._places.span(self._cursor)[0]
        row = document.row_at(offset)
        if self._column is None:
            self._column = document.column_of(offset)
        if not 0 <= row + rows < document.row_count:
            beyond = self._places.first if rows < 0 else self._places.count
            whole_way = row == (0 if rows < 0 else document.row_count - 1)
            wanted = 0 if rows < 0 else document.row_count - 1
            target = beyond if whole_way else self._places.position_at(document.offset_in_cells(wanted, self._column))
        else:
            target = self._places.position_at(document.offset_in_cells(row + rows, self._column))
        if target == self._cursor:  # a token that is longer than a row
            target += 1 if rows > 0 else -1
        self._walk_to(target, keep_column=True)

    def action_walk_pages(self, pages: int) -> None:
        """A page of rows up or down."""
        self.action_walk_rows(pages * max(1, self._text.size.height - 1))

    def action_walk_to_start(self) -> None:
        """The first token."""
        self._walk_to(self._places.first)

    def action_walk_to_end(self) -> None:
        """Behind the last token."""
        self._walk_to(self._places.count)

    # The colours.

    def action_colour(self) -> None:
        """Colour the text by something else."""
        if not self.inspecting:
            self.action_inspect()
            return
        measures = list(Measure)
        self._measure = measures[(measures.index(self._measure) + 1) % len(measures)]
        self._colour()

    def _colour(self) -> None:
        """Colour the text by the measure, and say so."""
        from minigpt_tui.widgets.colour_scale import legend, surprise_scale  # when somebody looks

        measure = self._measure
        if measure is Measure.NOTHING:
            self._text.colouring = None
            self._show_legend("not coloured", Content(""))
            return
        styles = surprise_scale(self.app)
        self._text.colouring = Colouring(lambda start, end: self._places.levels(start, end, measure), styles)
        self._show_legend(measure.value, legend(styles, measure.labels))

    def _show_legend(self, name: str, legend: Content) -> None:
        is_wide = self._text.outer_size.width >= LEGEND_FROM
        self._text.border_title = Content.assemble("Text · " if is_wide else "", name, " ", legend)
