"""How the Batch screen looks: prompts, results and the chosen text, and what stands in their borders. It shows results
and asks nothing of them.
"""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.containers import Container, Vertical
from textual.content import Content
from textual.events import DescendantBlur, DescendantFocus
from textual.widget import Widget
from textual.widgets import Static, TextArea

from engine.config import SamplingParams
from minigpt_tui.actions import Where, hint
from minigpt_tui.batch.results import Result
from minigpt_tui.batch.run import BatchRun
from minigpt_tui.screens.frame import Key, fitting, with_figures
from minigpt_tui.screens.turned_settings import TurnedSettings
from minigpt_tui.status_text import FINISHED
from minigpt_tui.visible import visible, visible_line
from minigpt_tui.widgets.batch_table import BatchTable
from minigpt_tui.widgets.reading_pane import ReadingPane
from minigpt_tui.widgets.sampling_chips import SamplingChips

FRAME = 0.1
"""Seconds between two looks at the results while they are written."""


class PromptField(TextArea):
    """Where prompts are typed, one per line."""

    DEFAULT_CSS = """
    PromptField { scrollbar-size-horizontal: 0; }
    PromptField .text-area--cursor-line { background: transparent; }
    """


class BatchView(TurnedSettings):
    """The parts of the screen, brought up to date when its heir says so."""

    NAME = "Batch"
    BACK = "batch_stop"
    CSS_PATH = "batch.tcss"
    AUTO_FOCUS = "#prompts"
    PLACES: ClassVar[dict[str, Where]] = {"": Where.BATCH, "settings": Where.SETTINGS}

    def __init__(self, params: SamplingParams) -> None:
        """Make the parts.

        Args:
            params: How to draw to begin with.
        """
        super().__init__()
        self.params = params
        self.results: list[Result] = []
        self._run: BatchRun | None = None
        self._from_file = ""  # what was read from, and is shown
        self._wanted = 0  # so many prompts are there
        self._prompts = PromptField(
            id="prompts", classes="panel", soft_wrap=False, tab_behavior="focus", highlight_cursor_line=False
        )
        self._prompts.match_cursor_bracket = False
        self._table = BatchTable(id="results")
        self._table.add_class("panel")
        self._whole = ReadingPane(id="whole")
        self._whole.add_class("panel")
        self._chips = SamplingChips(id="batch-settings")
        self._ways = Static(id="ways", markup=False)
        self._ways.auto_links = False  # the keys keep their colour

    def body(self) -> ComposeResult:
        """Prompts, results, the chosen text, settings and keys."""
        with Container(id="work"):
            with Vertical(id="left"):
                yield self._prompts
                yield self._table
            yield self._whole
        yield self._chips
        yield self._ways

    def on_mount(self) -> None:
        """Fill in what does not change."""
        self._table.border_title = "Results"
        self.set_interval(FRAME, self._look)

    @property
    def running(self) -> bool:
        """Whether texts are being written."""
        return self._run is not None and self._run.running

    @property
    def chosen(self) -> Result | None:
        """The result that keys act on."""
        return self.results[self._table.selected] if self.results else None

    def _look(self) -> None:
        """Show what has come."""
        if self.running and self.is_current:
            self.show_results()

    def show_results(self) -> None:
        """Bring results, figures and the chosen text up to date."""
        self._table.refresh()
        self._show_whole()
        self._show_borders()
        self.show_status()

    def fit(self) -> None:
        """Fill all borders."""
        self._chips.params = self.params
        self._show_whole()
        self._show_borders()

    def _show_whole(self) -> None:
        """The chosen text in full."""
        result = self.chosen
        if result is None:
            self._whole.border_title, self._whole.border_subtitle = "Text", ""
            self._whole.show(Content.styled("The result that is chosen is shown here in full.", "$quiet"))
            return
        came_to = FINISHED.get(result.finish_reason, result.state if result.state != "left" else "not begun")
        self._whole.border_title = Content(f"{self._table.selected + 1} of {len(self.results):,} · {came_to}")
        parts: list[Content | tuple[str, str] | str] = [(visible(result.prompt), "$prompt-text"), visible(result.text)]
        if result.problem is not None:
            parts.append(("\n" + visible_line(str(result.problem)) if result.tokens else str(result.problem), "$error"))
        self._whole.show(Content.assemble(*parts), at_end=result.state == "writing")
        facts = [f"{len(result.tokens):,} tokens", f"seed {result.job.params.seed}"]
        if result.left_out:
            facts.append(f"left out: {visible_line(' '.join(result.left_out[:10]))}")
        self._whole.border_subtitle = with_figures(
            ["batch_copy", "batch_play"],
            " · ".join(facts),
            self._whole.outer_size.width - 6,
            bright=self._whole.has_focus,
        )

    def _show_borders(self) -> None:
        typing = self.focused is self._prompts
        said = f" · {self._wanted:,}" if self._wanted else ""
        source = f" · of {visible_line(self._from_file)}" if self._from_file else ""
        self._prompts.border_title = Content(f"Prompts{said}{source}")
        keys: list[Key] = ["batch_run", ("batch_next", "results")] if typing else ["batch_prompts", "batch_file"]
        self._prompts.border_subtitle = fitting(keys, self._prompts.outer_size.width - 6)
        ways = hint("batch_run", "writes on from the prompts above, one per line,"), hint("batch_file", "takes a file.")
        self._table.empty_text = "\n  {}\n  {}".format(*ways)
        self._table.border_subtitle = with_figures(
            ["batch_save"] if self.results else [],
            self._progress(),
            self._table.outer_size.width - 6,
            bright=self._table.has_focus,
        )
        self._ways.update(fitting(self._keys(typing), self.size.width - 4), layout=False)
        self.show_model()

    def show_model(self) -> None:
        """Name the model on top."""
        raise NotImplementedError

    def _progress(self) -> str:
        """How far it is."""
        run = self._run
        if run is None:
            return ""
        rate = f"{run.tokens_per_second:6,.0f}" if run.tokens_per_second else "     –"
        return f"{run.ended:,} of {len(run.results):,} · {rate} tok/s in all"

    def _keys(self, typing: bool) -> list[Key]:
        """The keys of the screen, the most wanted first."""
        keys: list[Key] = ["batch_stop"] if self.running else ["batch_run"]
        if typing:
            keys = [*keys, ("batch_next", "results")]
        keys += ["batch_file", "batch_model"]
        if self.results:
            keys += ["batch_save", "batch_copy", "batch_play"]
        return keys if typing else [*keys, "batch_prompts"]

    def status(self) -> tuple[Content, bool]:
        """What goes on."""
        run = self._run
        if run is None:
            return Content.from_markup(f"ready · {hint('batch_run', 'writes on from all prompts')}"), False
        if run.running:
            if run.stopping:
                return Content("stopping; what is written stays"), True
            if run.info is None:
                return Content("loading the model"), True
            return Content.from_markup(f"writing · {self._progress()} · {hint('batch_stop', 'stops')}"), True
        failed = sum(result.state == "failed" for result in self.results)
        left = sum(result.state == "left" for result in self.results)
        words = [f"{run.ended - failed:,} of {len(run.results):,} written", f"{run.tokens:,} tokens"]
        words += [f"{failed:,} failed"] if failed else []
        words += [f"{left:,} not begun"] if left else []
        return Content(" · ".join(words)), False

    def on_descendant_focus(self, _event: DescendantFocus) -> None:
        """The borders say what acts there."""
        self.call_after_refresh(self.fit)

    def on_descendant_blur(self, _event: DescendantBlur) -> None:
        """The same."""
        self.call_after_refresh(self.fit)

    def on_batch_table_selected(self, event: BatchTable.Selected) -> None:
        """Show another result in full."""
        event.stop()
        self._show_whole()

    def first_place(self) -> Widget | None:
        """The results, or the prompts while there are none."""
        return self._table if self.results else self._prompts
