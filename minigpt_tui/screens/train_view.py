"""How the training screen looks: its parts, what stands in its borders, and how it fits the terminal. It shows the runs
and the picture of one that it is given, and asks nothing of them.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from textual.app import ComposeResult
from textual.containers import Container, Vertical
from textual.content import Content

from engine.device_use import DeviceUse
from engine.training.runs import RunInfo
from minigpt_tui.actions import Where, by_id, hint
from minigpt_tui.screens.frame import FramedScreen, Key, fitting
from minigpt_tui.settings import Session
from minigpt_tui.training import run_words
from minigpt_tui.training.run_feed import Picture
from minigpt_tui.visible import visible, visible_line
from minigpt_tui.widgets.device_line import DeviceLine
from minigpt_tui.widgets.loss_chart import LossChart
from minigpt_tui.widgets.notice_panel import NoticePanel
from minigpt_tui.widgets.reading_pane import ReadingPane
from minigpt_tui.widgets.run_figures import RunFigures
from minigpt_tui.widgets.run_list import RunList

Lower = Literal["chart", "samples", "log"]
LOWER: tuple[Lower, ...] = ("chart", "samples", "log")
"""What takes turns where there is no room for all; elsewhere the chart is always there."""

LOG_LINES = 400
"""So many lines of the end of a log are shown."""

CRASH_LOG_LINES = 3
TAILS = {1.0: "", 0.5: "last half", 0.1: "last tenth"}


class TrainView(FramedScreen):
    """The parts of the screen, brought up to date when its heir says so."""

    NAME = "Train"
    BACK = "run_back"
    SAFE = "The runs go on."
    CSS_PATH = "train.tcss"
    AUTO_FOCUS = "#runs"
    PLACES: ClassVar[dict[str, Where]] = {"runs": Where.RUNS, "": Where.TRAIN}

    def __init__(self, session: Session) -> None:
        """Make the parts.

        Args:
            session: What the last session left.
        """
        super().__init__(classes="-chart -no-run")
        self._session = session
        self._picture: Picture | None = None
        self._asked: dict[str, tuple[str, str]] = {}  # of each run: its state then, and what was asked of it
        self._listed = False  # whether it is known which runs there are
        self._lower: Lower = "chart"
        self._sample = -1  # which one is shown; -1 for the latest
        self._tail = 1.0
        self._runs = RunList(id="runs")
        self._runs.add_class("panel")
        self._run = Vertical(id="run", classes="panel")
        self._figures = RunFigures(id="figures")
        self._crash = NoticePanel(id="crash")
        self._chart = LossChart(id="chart")
        self._reading = ReadingPane(id="reading")
        self._device = DeviceLine(id="device")

    def body(self) -> ComposeResult:
        """The list and the chosen run."""
        with Container(id="training"):
            yield self._runs
            with self._run:
                yield self._figures
                yield self._crash
                yield self._chart
                yield self._reading
                yield self._device

    def on_mount(self) -> None:
        """Fill in what does not change."""
        self._runs.border_title = Content(self._whose_runs())
        self._chart.empty_text = "nothing to draw yet"

    def _no_runs(self) -> str:
        """What stands in an empty list, as markup."""
        return f"\n  No run yet: {hint('run_start', 'starts one')}."

    def _whose_runs(self) -> str:
        """The title of the list."""
        return "Runs"

    # What is shown.

    @property
    def chosen(self) -> RunInfo | None:
        """The run that was chosen, as the list knows it."""
        return next((run for run in self._runs.runs if run.name == self._runs.selected), None)

    def show_runs(self, found: tuple[RunInfo, ...]) -> None:
        """Show all runs, with the one that was chosen still chosen.

        Args:
            found: In the order of the list.
        """
        row = max(0, self._runs.index())
        names = [run.name for run in found]
        if (seen := self._picture) is not None:  # which may have been read since the list was
            found = tuple(
                seen.info if run.path == seen.info.path and run.changed < seen.info.changed else run for run in found
            )
        self._listed, self._runs.runs = True, found
        self._runs.empty_text = self._no_runs()
        self._runs.marked = tuple(name for name in self._runs.marked if name in names)
        if self._runs.selected not in names and self._runs.selected not in self._expected():
            self._select(names[min(row, len(names) - 1)] if names else "")
        states = {run.name: run.state for run in found}
        for name in [name for name, (state, _) in self._asked.items() if states.get(name, state) != state]:
            del self._asked[name]  # it has come true
        if self.is_current:
            self._show_borders()
            self.show_status()

    def _expected(self) -> set[str]:
        """The names of runs that were asked for and are not there yet."""
        return {name for name, (state, _) in self._asked.items() if state == ""}

    def _select(self, name: str) -> None:
        self._runs.selected = name
        self._sample = -1
        if not name or self._picture is None:
            self._show_picture(None)

    def fit(self) -> None:
        """Show the run anew."""
        self._show_picture(self._picture)

    def _show_picture(self, picture: Picture | None) -> None:
        """Bring the right side up to date, and with it what the list says of this run: keys act on what is seen."""
        self._picture = picture
        if picture is not None and (known := self.chosen) is not None and known.state != picture.info.state:
            self.show_runs(tuple(picture.info if run is known else run for run in self._runs.runs))
        self.set_class(picture is None, "-no-run")
        self._figures.picture = picture
        self._show_borders()
        self._show_crash()
        if picture is None:
            self._chart.curves = ()
            self._chart.empty_text = (
                "" if self._runs.runs or not self._listed else "A run's curves, samples and log are shown here."
            )
            return
        self._chart.axis, self._chart.by_time = picture.axis, picture.wish.by_time
        self._chart.curves = picture.curves
        self._chart.empty_text = "no step has been taken yet" if not picture.figures.step else "reading…"
        said = [TAILS.get(picture.wish.tail, ""), "log scale" if self._chart.log_scale else ""]
        said += ["by time" if picture.wish.by_time else "by step", "" if picture.is_whole else "reading…"]
        self._chart.remark = " · ".join(word for word in said if word)
        self._show_reading()

    def _show_borders(self) -> None:
        run = self.chosen
        keys: list[Key] = ["run_start", "run_another", "run_open"] if run else ["run_start"]
        if self.has_class("-narrow"):
            keys += ["run_rename", "run_remove", "run_prune"] if run else []
        self._runs.border_subtitle = fitting(keys, self._runs.outer_size.width - 6)
        if run is None:
            self._run.border_title, self._run.border_subtitle = Content("Run"), ""
            return
        self._run.border_title = Content(run_words.title(run, self._asked.get(run.name, ("", ""))[1]))
        self._run.border_subtitle = fitting(self._run_keys(run), self._run.outer_size.width - 6)

    def _run_keys(self, info: RunInfo) -> list[Key]:
        """The keys of the run's panel, the most wanted first, each with the word for what it does now."""
        following = {"chart": "samples", "samples": "log", "log": "chart"}[self._lower]
        if not self.has_class("-low"):
            following = "samples" if self._lower == "log" else "log"
        words = {
            "run_pause": "pause" if info.state == "running" else "resume",
            "run_lower": following,
            "chart_log": "linear" if self._chart.log_scale else "log scale",
            "run_mark": "overlay",
        }
        return [(key, words[key]) if key in words else key for key in run_words.ACTIONS[info.state]]

    def _show_crash(self) -> None:
        picture = self._picture
        crashed = picture is not None and picture.info.state == "crashed"
        self.set_class(crashed, "-crashed")
        if picture is None or not (crashed or picture.damaged):
            self._crash.dismiss()
            return
        if not crashed:
            lines = "one line" if picture.damaged == 1 else f"{picture.damaged:,} lines"
            said = f"Of its metrics and samples {lines} made no sense and were left out. The rest is as it was written."
            self._crash.tell("It cannot be read in full", said, "")
            return
        log = [line for line in picture.log if line.strip() and line.strip() != picture.info.reason]
        end = "\n".join(["Its log ends:", *map(visible_line, log[-CRASH_LOG_LINES:])]) if log else ""
        said = run_words.crash_text(picture)
        where = f"resumes from step {picture.checkpoints[-1]:,}" if picture.checkpoints else "begins again"
        keys = f"{hint('run_pause', where)} · {hint('run_lower', 'the log')}"
        self._crash.tell("It crashed", said + (f"\n{end}" if end and not self.has_class("-low") else ""), keys)

    def _show_reading(self) -> None:
        """The lower pane: a sample, or the end of the log."""
        picture = self._picture
        if picture is None:
            return
        if self._lower == "log":
            self._reading.border_title, self._reading.border_subtitle = "log", ""
            lines = picture.log[-LOG_LINES:]
            self._reading.show(Content(visible("\n".join(lines))) if lines else _quiet("It is empty."), at_end=True)
            return
        samples = picture.samples
        if not samples:
            self._reading.border_title = "samples"
            self._reading.show(_quiet("What the model writes along the way is shown here."))
            return
        place = len(samples) - 1 if self._sample < 0 else min(self._sample, len(samples) - 1)
        sample = samples[place]
        before, after = by_id("sample_before").shown, by_id("sample_after").shown
        self._reading.border_title = Content.assemble(
            f"sample at step {sample.step:,}  ",
            (before, "$key"),
            f" ‹ {place + 1} of {len(samples)} › ",
            (after, "$key"),
        )
        self._reading.show(Content.assemble((visible(sample.prompt), "$prompt-text"), visible(sample.text)))

    def show_device(self, use: DeviceUse) -> None:
        """How busy the machine is."""
        self._top.note = run_words.machine_text(use)
        self._device.use = use

    def status(self) -> tuple[Content, bool]:
        """How many runs are under way."""
        runs = self._runs.runs
        under_way = sum(run.is_under_way for run in runs)
        none = "no runs yet" if self._listed else "looking for runs…"
        words = f"{under_way} of {len(runs)} runs under way" if runs else none
        return Content(f"{words} · bell on" if self._session.bell else words), under_way > 0


def _quiet(text: str) -> Content:
    return Content.styled(text, "$quiet")
