"""Looking inside the model, on the Play screen: what it expected at the cursor, what its heads look at from there, and
what each layer would say. It asks the engine and shows what it answers; an alternative forks the text.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import TYPE_CHECKING

from textual.content import Content
from textual.widget import Widget

from engine.config import SamplingParams
from engine.errors import MiniGPTError
from engine.inference.stream import Alternative
from engine.worker.protocol import Inspected, ModelInfo
from minigpt_tui.actions import hint
from minigpt_tui.inspecting import Figures, Heads, heads_of, shade
from minigpt_tui.looking import Looking, Question
from minigpt_tui.parameters import changes
from minigpt_tui.screens.play_cursor import SCORED, PlayCursor
from minigpt_tui.status_text import sentence
from minigpt_tui.text_document import Kind
from minigpt_tui.widgets.text_pane import Colouring

if TYPE_CHECKING:
    from minigpt_tui.widgets.at_cursor import AtCursor, Place
    from minigpt_tui.widgets.attention_grid import AttentionGrid, Choice
    from minigpt_tui.widgets.lens_rows import LensRows

PLACES_TOLD = 12
"""So many of the places that are looked at most are told."""

BEFORE, AFTER = 4, 3
"""Characters around a place that is looked at."""


ORIGIN = {True: "drawn at", False: "of the prompt, at"}


class PlayInspect(PlayCursor):
    """What the model does at the cursor."""

    _at: AtCursor | None = None
    _grid: AttentionGrid | None = None
    _lens: LensRows | None = None
    _page = ""  # attention or lens, where one is open
    _heads: Heads | None = None
    _heads_at = 0  # the position that they are of

    @functools.cached_property
    def _looking(self) -> Looking:
        return Looking(self._engine, self._answered, self._refused)

    def on_unmount(self) -> None:
        """Ask nothing more."""
        self._looking.close()

    def watch_model(self, model: ModelInfo | None) -> None:
        """Another model is here: what it would say is asked anew."""
        super().watch_model(model)
        if self.inspecting:
            self._cursor_moves()

    # On and off.

    def _begin_inspecting(self) -> None:
        if self._at is None:
            from minigpt_tui.widgets.at_cursor import AtCursor  # when somebody looks

            self._at = AtCursor(id="at")
            self._at.border_title = "At the cursor"
            self._at.border_subtitle = "[$key]\\[ ][/] mark · " + hint("fork_marked", "forks")
            self.query_one("#side").mount(self._at)
        super()._begin_inspecting()

    def _leave_inspecting(self) -> None:
        self._looking.leave()
        self._open_page("")
        super()._leave_inspecting()

    def action_attention(self) -> None:
        """Show or hide what the heads look at."""
        self._turn_to("attention")

    def action_lens(self) -> None:
        """Show or hide what each layer would say."""
        self._turn_to("lens")

    def _turn_to(self, page: str) -> None:
        if not self.inspecting:
            self.action_inspect()
            if not self.inspecting:
                return
        elif page == self._page:
            page = ""
        self._open_page(page)
        self._colour()
        self._cursor_moves()

    def _open_page(self, page: str) -> None:
        self._page = page
        for name in ("attention", "lens"):
            self.set_class(page == name, f"-{name}")
        if page == "attention" and self._grid is None:
            from minigpt_tui.widgets.attention_grid import AttentionGrid  # when somebody looks

            self._grid = AttentionGrid(id="attention")
            self._grid.border_title = "Attention"
            self._grid.border_subtitle = f"{hint('next_head', 'head')} · {hint('next_layer', 'layer')} · tab, arrows"
            self.query_one("#side").mount(self._grid)
        elif page == "lens" and self._lens is None:
            from minigpt_tui.widgets.lens_rows import LensRows  # when somebody looks

            self._lens = LensRows(id="lens")
            self._lens.border_title = "Logit lens · ≠ another mind"
            self._lens.border_subtitle = hint("lens", "closes")
            self.query_one("#side").mount(self._lens)
        if page != "attention" and self.focused is self._grid:
            self._text.focus()

    @property
    def _side_panels(self) -> list[Widget]:
        """Those that take keys, beside the settings."""
        return [self._grid] if self._grid is not None and self._page == "attention" else []

    # Questions and answers.

    def _cursor_moves(self) -> None:
        super()._cursor_moves()
        assert self._at is not None  # noqa: S101 - it is made before there is a cursor
        self._looking.leave()
        position = self._cursor
        place = self._place_of(position)
        if position == 0:
            self._show(place, 0)
            self._forget_depths("Nothing stands before the first token.")
            return
        self._show(place, 0)
        name, id = self._text_model
        self._looking.ask(
            Question(
                tokens=self.writing.tokens()[: position + 1],
                position=position,
                params=self._params_at(position),
                deep=bool(self._page),
                model=name,
                id=id,
                device=self.device,
                precision=self.precision,
            )
        )

    def _params_at(self, position: int) -> SamplingParams:
        """The settings that hold at a position; where nothing stands yet, those of the next token."""
        is_written = position < self._places.count
        params: SamplingParams = self.writing.params_at(position) if is_written else self._session.params
        settings: SamplingParams = params.replace(seed=None)
        return settings

    def _place_of(self, position: int) -> Place:
        """What is known of a place without asking."""
        from minigpt_tui.widgets.at_cursor import Place

        writing = self.writing
        prompt = len(writing.prompt_tokens)
        index = position - prompt
        piece: str | None = None
        token: int | None = None
        alternatives: tuple[Alternative, ...] = ()
        if 0 <= index < len(writing.trace):
            drawn = writing.trace.token(index)
            piece, token, alternatives = drawn.piece, drawn.token, drawn.top
        elif position < prompt:
            piece, token = writing.document.text_between(*self._places.span(position)), writing.prompt_tokens[position]
        figures = self._places.figures(position)
        is_drawn = token is not None and self._is_drawn(position)
        return Place(
            position=position,
            origin="at" if token is None or writing.finish_reason == SCORED else ORIGIN[is_drawn],
            piece=piece,
            token=token,
            figures=figures,
            alternatives=alternatives,
            entropy=figures.entropy if figures and (figures.rank or index < 0) else None,
            settings=changes(SamplingParams(), self._params_at(position)) if is_drawn or token is None else "",
            remark="" if position else "Nothing stands before it.",
        )

    def _is_drawn(self, position: int) -> bool:
        """Whether a model wrote what stands at a place."""
        start, _ = self._places.span(position)
        return any(kind is Kind.GENERATED for _, kind in self.writing.document.runs_between(start, start + 1))

    def _answered(self, question: Question, answer: Inspected) -> None:
        if not self.inspecting or self._at is None or self._cursor != question.position:
            return
        place = self._place_of(question.position)
        figures = place.figures
        if answer.logprob is not None and answer.rank is not None:
            figures = Figures(answer.logprob, answer.rank, answer.entropy)
        pieces = {alternative.token: alternative.text for alternative in answer.distribution}
        piece = place.piece if answer.token is None else pieces.get(answer.token, place.piece)
        marked = self._at.marked  # what the reader has marked by now stays marked
        if marked and self._at.place is not None:
            token = self._at.place.alternatives[marked].token
            marked = next((n for n, one in enumerate(answer.distribution) if one.token == token), 0)
        known = replace(
            place,
            piece=piece,
            figures=figures,
            drawn=answer.drawn,
            alternatives=answer.distribution,
            entropy=answer.entropy,
        )
        self._show(known, marked)
        if self._page:
            self._take_depths(answer)

    def _refused(self, question: Question, error: MiniGPTError) -> None:
        if not self.inspecting or self._at is None or self._cursor != question.position:
            return
        why = f"The engine did not answer: {sentence(error)}"
        place = self._place_of(question.position)
        self._show(replace(place, remark=why), 0)
        self._forget_depths(why)

    def _show(self, place: Place, marked: int) -> None:
        if self._at is not None:
            self._at.place = place
            self._at.marked = marked

    # Heads and layers.

    def _take_depths(self, answer: Inspected) -> None:
        """Show what an answer tells of heads and layers."""
        if self._lens is not None:
            self._lens.guesses, self._lens.token, self._lens.remark = answer.lens, answer.token, ""
        n_layer = len(answer.lens) - 1
        count = n_layer * (answer.position - answer.window_start)
        n_head = len(answer.attention) // 2 // count if count > 0 else 0
        self._heads = heads_of(answer, n_layer, n_head) if n_head else None
        self._heads_at = answer.position
        if self._grid is not None and self._heads is not None:
            choice = self._grid.choice
            if (choice.layer or 0) >= n_layer or (choice.head or 0) >= n_head:
                self._grid.choice = type(choice)()
            start = answer.window_start
            self._grid.remark = f"sees from {start:,} on" if start else f"sees all {answer.position:,} before it"
            self._grid.heads = self._heads
            self._show_heads()

    def _forget_depths(self, why: str) -> None:
        self._heads = None
        if self._grid is not None:
            self._grid.heads, self._grid.looked_at, self._grid.remark = None, (), why
        if self._lens is not None:
            self._lens.guesses, self._lens.remark = (), why
        if self._page == "attention":
            self._colour()

    def _show_heads(self) -> None:
        """Show what the chosen head looks at, in its panel and in the text."""
        from minigpt_tui.widgets.attention_grid import looks

        if self._grid is not None and self._heads is not None:
            self._grid.looked_at = looks(self._heads, self._grid.choice, self._around, PLACES_TOLD)
        if self._page == "attention":
            self._colour()

    def _around(self, place: int) -> str:
        """What stands at a place that the heads see, with a little of what is around it."""
        from minigpt_tui.widgets.next_token import shown_token

        assert self._heads is not None  # noqa: S101 - one of its places is asked for
        document = self.writing.document
        start, end = self._places.span(self._heads.window_start + place)
        before = document.text_between(max(0, start - BEFORE), start)
        after = document.text_between(end, min(document.length, end + AFTER))
        own = shown_token(document.text_between(start, end)[: BEFORE + AFTER])
        return f"{shown_token(before) if before else ''}‹{own}›{shown_token(after) if after else ''}"

    def _colour(self) -> None:
        """Colour the text by what is looked at, where that is shown; else by how surprising it was."""
        heads, grid = self._heads, self._grid
        if self._page != "attention" or grid is None:
            super()._colour()
            return
        from minigpt_tui.widgets.colour_scale import legend, shade_scale
        from minigpt_tui.widgets.side_by_side import percent

        if heads is None:
            self._text.colouring = None
            self._show_legend("attention", Content(""))
            return
        styles = shade_scale(self.app)
        shares = heads.of(grid.choice.layer, grid.choice.head)
        largest, first = max(shares), heads.window_start

        def level(position: int) -> int | None:
            place = position - first
            return shade(shares[place], largest) if 0 <= place < len(shares) else None

        self._text.colouring = Colouring(lambda start, end: self._places.stretches(start, end, level), styles)
        labels = ("0", "", "", "", f"{percent(largest / 2)}", "", "", "", percent(largest))
        self._show_legend(f"looked at by {grid.choice.words}", legend(styles, labels))

    def on_attention_grid_chosen(self, event: AttentionGrid.Chosen) -> None:
        """Show what another head looks at."""
        event.stop()
        self._choose(event.choice)

    def _choose(self, choice: Choice) -> None:
        if self._grid is not None:
            self._grid.choice = choice
            self._show_heads()

    def action_head(self, direction: int) -> None:
        """The next head of the layer; of the first layer, where none is chosen."""
        if self._grid is None or self._page != "attention":
            self.action_attention()
            return
        if self._grid.choice.layer is None:
            self._choose(type(self._grid.choice)(0))
        self._grid.action_head(direction)

    def action_layer(self, direction: int) -> None:
        """The next layer."""
        if self._grid is None or self._page != "attention":
            self.action_attention()
        else:
            self._grid.action_layer(direction)

    # Alternatives.

    def on_at_cursor_marked(self, event: AtCursor.Marked) -> None:
        """Mark what was clicked."""
        event.stop()
        self._mark(event.index)

    def on_at_cursor_taken(self, event: AtCursor.Taken) -> None:
        """Go on with it."""
        event.stop()
        self.action_take_marked()

    def action_mark(self, direction: int) -> None:
        """Mark the next of the tokens that could have come."""
        if self._at is not None:
            self._mark(self._at.marked + direction)

    def _mark(self, index: int) -> None:
        if self._at is not None and self._at.place is not None:
            self._at.marked = max(0, min(index, len(self._at.place.alternatives) - 1))

    def action_take_marked(self) -> None:
        """Fork the text here, with the marked token."""
        place = self._at.place if self._at is not None else None
        if self._at is None or place is None or not place.alternatives:
            self.say("what could have come here is not known yet")
            return
        alternative = place.alternatives[self._at.marked]
        if alternative.token == place.token:
            self.say("that is what stands here: [ and ] mark another")
        elif self.writing.stepping and place.position == self.writing.length:
            self.step(alternative.token)
        else:
            self.fork_at(place.position, alternative.token)
