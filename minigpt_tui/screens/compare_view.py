"""How the Compare screen looks: its columns, or the cells of a sweep, what stands in their borders, and how they fit
the terminal. It shows columns and asks nothing of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.containers import Container
from textual.content import Content
from textual.events import DescendantBlur, DescendantFocus
from textual.widget import Widget
from textual.widgets import Static

from engine.config import ENDLESS, SamplingParams
from minigpt_tui.actions import Where, by_id, hint
from minigpt_tui.comparing import words
from minigpt_tui.comparing.column import LEAST, MOST, Column
from minigpt_tui.comparing.distinct import Unit, common_unit
from minigpt_tui.comparing.marks import Marks
from minigpt_tui.comparing.sweep import Sweep
from minigpt_tui.model_choice import ModelChoice
from minigpt_tui.parameters import BY_FIELD
from minigpt_tui.screens.frame import Key, fitting
from minigpt_tui.screens.turned_settings import TurnedSettings
from minigpt_tui.settings import Session
from minigpt_tui.status_text import sentence, short_name
from minigpt_tui.visible import visible_line
from minigpt_tui.widgets.compare_column import CompareColumn
from minigpt_tui.widgets.prompt_editor import PromptEditor
from minigpt_tui.widgets.sampling_chips import SamplingChips
from minigpt_tui.wrapping import wrapped

FIGURES = 0.25
"""Seconds between two updates of the numbers."""

NARROWEST = 34
"""Cells of a column, its border included; where there are fewer, fewer columns are shown at once."""

WIDE = 100
"""Cells from which on the status line has all figures."""

NARROWEST_CELL = 28
LOWEST_CELL = 4
"""Of a cell of a sweep over one setting, and the rows of any; where there are fewer, the grid scrolls."""

MOST_CELLS = 16
WARMEST = 2.0
"""A temperature above which a column is added by nobody's wish."""


class CompareView(TurnedSettings):
    """The parts of the screen, brought up to date when its heir says so."""

    NAME = "Compare"
    BACK = "compare_stop"
    SEED_REMARK = "of all columns; empty for a new one each time"
    CSS_PATH = "compare.tcss"
    AUTO_FOCUS = "#prompt"
    PLACES: ClassVar[dict[str, Where]] = {
        **{f"column-{place}": Where.COLUMN for place in range(MOST_CELLS)},
        "prompt": Where.PROMPT,
        "": Where.COMPARE,
        "settings": Where.SETTINGS,
        "text": Where.TEXT,
    }

    def __init__(self, session: Session, choice: ModelChoice, *, noise_is_keyed: bool) -> None:
        """Make the parts, and two columns to begin with.

        Args:
            session: What the last session left.
            choice: The model that is chosen on Play.
            noise_is_keyed: Whether all columns draw with the same noise, which our engine alone promises.
        """
        super().__init__()
        self._session = session
        self._noise_is_keyed = noise_is_keyed
        self.seed = session.params.seed  # None for a new one each time
        self.asked_seed: int | None = None  # of what was asked for last
        self.columns = first_columns(choice, session.params)
        self.sweep: Sweep | None = None
        self._at = 0  # the column that keys act on
        self._is_large = False  # whether it is shown alone
        self._together = False  # whether all columns scroll at once
        self._figures_stale = False
        self._panes: list[CompareColumn] = []
        self._grid = Container(id="columns")
        self._note = Static(id="note", markup=False)
        self._chips = SamplingChips(id="column-settings")
        self._ways = Static(id="ways", markup=False)
        self._ways.auto_links = False  # the keys keep their colour
        self._prompt = PromptEditor(session.prompts, id="prompt")

    def body(self) -> ComposeResult:
        """The columns, a remark, settings and keys, the prompt."""
        yield self._grid
        yield self._note
        yield self._chips
        yield self._ways
        self._prompt.add_class("panel")
        yield self._prompt

    async def on_mount(self) -> None:
        """Show the first columns."""
        self._grid.can_focus = False  # it scrolls, but leaves the keys to the columns
        self.set_interval(FIGURES, self._refresh_figures)
        await self.show_columns()

    # The columns.

    @property
    def column(self) -> Column:
        """The one that keys act on."""
        return self.columns[self._at]

    @property
    def unit(self) -> Unit:
        """What distinct-n counts."""
        return common_unit([column.distinct for column in self.columns])

    def pane_of(self, column: Column) -> CompareColumn | None:
        """Where a column is shown; None for one that is not there any more."""
        if column not in self.columns or len(self._panes) != len(self.columns):
            return None
        return self._panes[self.columns.index(column)]

    async def show_columns(self) -> None:
        """Show other columns than before."""
        had_focus = self.focused in self._panes
        self._panes = []
        await self._grid.remove_children()
        panes = [CompareColumn(column.writing.document, id=f"column-{n}") for n, column in enumerate(self.columns)]
        for pane in panes:
            pane.add_class("panel")
        self._at = min(self._at, len(panes) - 1)
        self.set_class(self.sweep is not None, "-sweep")
        await self._grid.mount_all(panes)
        self._panes = panes
        for column in self.columns:
            self.show_marks(column)
        self.fit()
        if had_focus or (self.focused is None and self.is_current):
            self._panes[self._at].focus()

    def show_marks(self, column: Column, changed: int = 0) -> None:
        """Mark where a column parts from the first, or where others part from it.

        Args:
            column: Which.
            changed: The offset from which on its marks are other than before.
        """
        if (pane := self.pane_of(column)) is None:
            return
        if column is self.columns[0]:
            others = [other.parting.other_first for other in self.columns if other.parting is not None]
            places = {place for place in others if place is not None}
            # Of many cells each would leave a mark; none could be told from another.
            pane.show_marks(Marks(tuple(sorted(places)) if len(self.columns) <= MOST else ()), changed)
        elif column.parting is not None:
            first = column.parting.first
            places = set() if first is None else {first}
            pane.show_marks(Marks(tuple(places), column.start, column.parting.spans), changed)
        else:
            pane.show_marks(Marks(), changed)

    # How they fit.

    def fit(self) -> None:
        """Arrange the columns, and fill all borders and lines."""
        if not self._panes:
            return
        across, shown = self._arrangement()
        for place, pane in enumerate(self._panes):
            pane.display = place in shown
            if pane.is_cell != (self.sweep is not None and not self._is_large):
                pane.is_cell = not pane.is_cell
                pane.set_class(pane.is_cell, "-cell")
                pane.show_all()
        rows = -(-len(shown) // across)
        self._grid.styles.grid_size_columns = across
        low = self._grid.size.height < rows * LOWEST_CELL
        self._grid.styles.grid_rows = str(LOWEST_CELL) if low and rows > 1 else "1fr"
        self._show_all()
        self.call_after_refresh(self._show_all)  # the panes have their sizes by then

    def _arrangement(self) -> tuple[int, range]:
        """How many stand beside each other, and which are shown."""
        count, width = len(self.columns), self.size.width
        if self._is_large:
            return 1, range(self._at, self._at + 1)
        if self.sweep is not None:
            if self.sweep.columns is not None:
                return len(self.sweep.columns.values), range(count)
            return (count if width // count >= NARROWEST_CELL else 2), range(count)
        across = max(1, min(count, width // NARROWEST))
        first = min(max(0, self._at - across + 1), count - across)
        return across, range(first, first + across)

    def _show_all(self) -> None:
        if not self._panes:
            return
        self._show_titles()
        self._show_figures()
        self._show_lines()
        self.show_status()

    def _refresh_figures(self) -> None:
        if self._figures_stale and self.is_current:
            self._figures_stale = False
            self._show_all()

    def _show_titles(self) -> None:
        of = "" if all(pane.display for pane in self._panes) else f" of {len(self._panes)}"
        long, short = (words.titles(self.columns, of=of, short=short) for short in (False, True))
        for place, (column, pane) in enumerate(zip(self.columns, self._panes, strict=True)):
            forms = (long[place], short[place], short[place].partition(" ")[2])  # what sets it apart is never cut
            room = pane.outer_size.width - 6
            pane.border_title = Content(next((form for form in forms if len(form) <= room), forms[-1]))
            lines = wrapped(self._empty_text(column, pane), max(10, pane.size.width - 2))
            pane.set_reactive(CompareColumn.empty_text, "\n".join(lines))
            pane.writing = column.state == "writing"
            if column.writing.is_empty:
                pane.refresh()

    def _empty_text(self, column: Column, pane: CompareColumn) -> str:
        """What stands in a column without a text."""
        if column.state == "failed" and column.problem is not None:
            return sentence(column.problem)
        if column.state == "loading":
            return f"loading {words.model_name(column)}…"
        if column.is_busy or pane.is_cell:
            return ""
        if column is self.columns[0]:
            write = by_id("generate").shown
            return f"Nothing is written yet. Type a prompt below, and {write} writes all columns."
        says = self._noise_is_keyed and column is self.columns[1]
        return words.NOISE[0].upper() + words.NOISE[1:] + "." if says else ""

    def _show_figures(self) -> None:
        unit = self.unit
        for column, pane in zip(self.columns, self._panes, strict=True):
            room = pane.outer_size.width - 6
            fits = [text for text in words.figures(column, unit) if len(text) <= room]
            pane.border_subtitle = Content(fits[0] if fits else "")

    def _show_lines(self) -> None:
        """What stands between the columns and the prompt."""
        room = self.size.width - 4
        noise = words.NOISE if len(words.NOISE) <= room else words.NOISE_SHORT
        said = [*([noise] if self._noise_is_keyed else []), *words.parting_line(self.columns, self._at)]
        while len(said) > 1 and len(" · ".join(said)) > room:
            said.pop()
        self._note.update(Content(" · ".join(said)), layout=False)
        self._chips.params = self.column.params.replace(seed=self.seed)
        self._ways.update(fitting(self._keys(), room), layout=False)
        typing = self.focused is self._prompt
        keys: list[Key] = [("generate", "write all"), "new_line", ("compare_next", "columns")]
        self._prompt.border_subtitle = fitting(
            keys if typing else [("compare_prompt", "write another prompt")], self._prompt.outer_size.width - 6
        )
        models = {column.model for column in self.columns}
        self._top.model = self.columns[0].info if len(models) == 1 else None
        self._top.note = f"{len(models)} models" if len(models) > 1 else ""
        seed = self.asked_seed if self.seed is None else self.seed
        self._prompt.border_title = Content(f"Prompt · {'one seed' if seed is None else f'seed {seed}'} for all")

    def _keys(self) -> list[Key]:
        """The keys of the screen, the most wanted first, each with the word for what it does now."""
        keys: list[Key] = [("compare_next", "columns")] if self.focused is self._prompt else []
        if any(column.is_busy for column in self.columns):
            speed = f"pace {self._session.pace:g}" if self._session.full_speed else "full speed"
            keys += ["compare_stop", ("compare_full_speed", speed)]
        elif self.column.writing.tokens():
            keys += ["compare_again"]
        if self._is_large or self.sweep is not None:
            keys += [("compare_large", "all" if self._is_large else "large")]
        if self.sweep is not None:
            return [*keys, ("compare_sweep", "leave the sweep"), "compare_play", "compare_save", "compare_copy"]
        keys += ["compare_model", "compare_checkpoints", "compare_sweep"]
        keys += ["column_add"] if len(self.columns) < MOST else []
        keys += ["column_remove"] if len(self.columns) > LEAST else []
        if any(column.writing.tokens() for column in self.columns):
            keys += ["compare_play", "compare_save", "compare_score"]
        scroll = "scroll alone" if self._together else "scroll together"
        keys += [] if self._is_large else ["compare_large"]
        return [*keys, ("compare_together", scroll), "compare_copy", "compare_again_same"]

    def status(self) -> tuple[Content, bool]:
        """What goes on: the engine's work, or what came of the column that keys act on."""
        busy = [column for column in self.columns if column.is_busy]
        if not busy:
            if all(column.state == "empty" for column in self.columns):
                return Content.from_markup(f"ready · {hint('generate', 'writes all columns')}"), False
            brief = self.size.width < WIDE
            return Content(f"{self._at + 1}: {words.came_to(self.column, self.unit, brief=brief)}"), False
        if loading := {short_name(column.name) for column in busy if column.state == "loading"}:
            return Content(f"loading {visible_line(', '.join(sorted(loading))) or 'the model'}"), True
        speed = sum(column.writing.tokens_per_second for column in busy)
        rate = f"{speed:6,.0f} tok/s" if speed else "     – tok/s"
        return Content.from_markup(f"streaming {rate} in all · {hint('compare_stop', 'stops')}"), True

    # Where one is.

    def on_descendant_focus(self, event: DescendantFocus) -> None:
        """Keys act on the column that has the focus."""
        if event.widget in self._panes:
            self._at = self._panes.index(event.widget)
        self._show_all()

    def on_descendant_blur(self, _event: DescendantBlur) -> None:
        """They act on it as long as no other column has it."""
        if self._panes:
            self._show_all()

    def first_place(self) -> Widget | None:
        """The column that keys act on."""
        return self._panes[self._at] if self._panes else self._prompt


def first_columns(choice: ModelChoice, params: SamplingParams) -> list[Column]:
    """Two columns of one model: as Play draws, and warmer.

    Args:
        choice: The model that is chosen on Play.
        params: How Play draws.
    """
    if params.max_new_tokens == ENDLESS:
        params = params.replace(max_new_tokens=SamplingParams().max_new_tokens)
    params = params.replace(seed=None)
    return [Column(choice.name, params, choice.info), Column(choice.name, warmer(params), choice.info)]


def warmer(params: SamplingParams, there: Sequence[SamplingParams] = ()) -> SamplingParams:
    """The same with a higher temperature, or beyond the warmest a lower one.

    Args:
        params: How another column is drawn.
        there: How all of them are, so that no two are the same.
    """
    steps = [round(params.temperature + 0.4 * step, 2) for step in (1, 2, 3, 4, -1, -2)]
    made: list[SamplingParams] = [
        BY_FIELD["temperature"].replaced(params, value) for value in steps if 0 <= value <= WARMEST
    ]
    return next((one for one in made if one not in there), made[0] if made else params)
