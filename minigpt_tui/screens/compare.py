"""The Compare screen: columns of text from one prompt and one seed, and what their keys do."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import BindingType
from textual.widget import Widget

from engine.config import SamplingParams
from minigpt_tui.actions import Where, bindings, by_id
from minigpt_tui.comparing.report import as_json, as_markdown
from minigpt_tui.history.making import entry_of
from minigpt_tui.screens.compare_columns import CompareColumns
from minigpt_tui.widgets.compare_column import CompareColumn
from minigpt_tui.wishes import OpenEntry


class CompareScreen(CompareColumns):
    """See what a setting, a model or more training makes of the same prompt."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings(Where.COMPARE, Where.SETTINGS)]

    _save_name = "comparison.md"

    # What the widgets ask for.

    def on_compare_column_scrolled(self, event: CompareColumn.Scrolled) -> None:
        """Let the other columns follow."""
        event.stop()
        if self._together:
            for pane in self._panes:
                if pane is not event.column:
                    pane.lead_to(event.row, at_end=event.at_end)

    def on_compare_column_row_wanted(self, event: CompareColumn.RowWanted) -> None:
        """Go to the cell above or below."""
        event.stop()
        self._go_to(self._at + event.direction * self._arrangement()[0])

    # Where one is.

    def _go_to(self, place: int) -> None:
        if not 0 <= place < len(self._panes):
            return
        self._at = place
        self.fit()
        self._panes[place].focus()

    def action_column(self, direction: int) -> None:
        """Go to the next column."""
        self._go_to(self._at + direction)

    def action_panel(self, direction: int) -> None:
        """Go to the next column, behind the last to the prompt, and round."""
        order: list[Widget] = [*self._panes, self._prompt]
        here = order.index(self.focused) if self.focused in order else self._at
        place = (here + direction) % len(order)
        if order[place] is self._prompt:
            self._prompt.focus()
        else:
            self._go_to(place)

    def action_focus_prompt(self) -> None:
        """Go to the prompt."""
        self._prompt.focus()

    def action_large(self) -> None:
        """Show this column alone, or all again."""
        self._is_large = not self._is_large
        self.fit()
        self._panes[self._at].focus()

    def action_join(self) -> None:
        """Scroll all columns at once, or each alone."""
        self._together = not self._together
        self.say("columns scroll together" if self._together else "each column scrolls alone")
        self._show_all()

    async def action_stop(self) -> None:
        """Close the question; else stop writing; else dismiss a notice; else go a step back."""
        if self._ask.is_open:
            self._ask.action_close()
        elif self._chorus.running:
            self._chorus.stop()
            self._show_all()
        elif self._notice.dismiss():
            return
        elif self.focused is self._prompt:
            self._panes[self._at].focus()
        elif self._is_large:
            self.action_large()
        elif self.sweep is not None:
            await self.leave_sweep()
        else:
            self.clear_selection()

    # Settings of the column.

    @property
    def turned_params(self) -> SamplingParams:
        """The settings of the column that keys act on, with the seed of all."""
        params: SamplingParams = self.column.params.replace(seed=self.seed)
        return params

    # What becomes of the texts.

    def action_generate(self) -> None:
        """Write all columns from the prompt."""
        self._prompt.action_generate()

    def action_copy(self) -> None:
        """Copy what is selected, or the column's text."""
        text = self.get_selected_text() or self.column.writing.document.text()
        if not text:
            self.say("there is nothing to copy yet")
            return
        self.app.copy_to_clipboard(text)

    def action_open_in_play(self) -> None:
        """Show the column's text on the Play screen."""
        if self.column.is_busy:
            self.say(f"it is being written; {by_id('compare_stop').shown} stops it")
        elif not self.column.writing.tokens():
            self.say("this column has no text yet")
        else:
            self.post_message(OpenEntry(entry_of(self.column.writing, "compare")))

    def action_save(self) -> None:
        """Ask for a file's name and save the comparison there."""
        if self._asked is None or not any(column.writing.tokens() for column in self.columns):
            self.say("there is nothing to save yet")
            return
        prompt, seed = self._asked

        def text_of(name: str) -> str:
            write = as_json if name.endswith(".json") else as_markdown
            return write(self.columns, prompt, seed, self.unit)

        self._ask_to_save(".md to read, .json for programs", text_of)
