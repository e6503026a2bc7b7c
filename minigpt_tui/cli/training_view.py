"""How a training run looks in the shell: on a terminal a live display on stderr, elsewhere a line for each evaluation.
It shows what was read of the run's directory, and knows nothing of who trains.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from engine.training.run import Sample, Status
from engine.training.run_reader import RunReader
from minigpt_tui.charts.sparkline import sparkline
from minigpt_tui.cli.training_lines import LineView
from minigpt_tui.training.training_words import Figures, News, figures, introduction
from minigpt_tui.visible import visible, visible_line

WIDEST_SPARKLINE = 60
"""Columns; wider ones only repeat the noise."""


class TrainingView(Protocol):
    """What is shown of a run: entered before the first look at it, left after the last."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def show(self, reader: RunReader) -> None:
        """Show the run as it has just been read."""
        ...

    def remark(self, message: str) -> None:
        """Say something in between."""
        ...


def open_view(name: str, how_to_leave: str, *, is_new: bool) -> TrainingView:
    """The view that suits stderr.

    Args:
        name: The run's name.
        how_to_leave: What ctrl+c does.
        is_new: Whether the run has just been started.
    """
    if sys.stderr.isatty():
        return LiveView(name, how_to_leave, is_new=is_new)
    return LineView(name, is_new=is_new)


class LiveView:
    """A bar, the figures, the curves and the latest sample, kept up to date in place.

    Args:
        name: The run's name.
        how_to_leave: What ctrl+c does.
        is_new: Whether the run has just been started.
    """

    def __init__(self, name: str, how_to_leave: str, *, is_new: bool) -> None:
        self._name = name
        self._news = News(is_new)
        self._how_to_leave = how_to_leave
        self._console = Console(stderr=True, highlight=False)
        self._size = self._console.size
        self._reader: RunReader | None = None
        self._introduced = self._is_left = False
        self._remark = ""
        self._live = Live(self, console=self._console, auto_refresh=False, redirect_stdout=False, transient=False)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_left = True
        self._live.refresh()
        self._live.stop()

    def show(self, reader: RunReader) -> None:
        """Take note of what was read, and show it."""
        self._reader = reader
        if self._console.size != self._size:  # a terminal that wraps its lines anew leaves some of them behind
            self._size, self._introduced = self._console.size, False
            self._console.clear()
        for line in self._news.take(reader.log):
            self._console.print(Text(f"{self._name}: {visible_line(line)}"))
        if not self._introduced and reader.info.state != "starting" and reader.info.status.parameters:
            self._introduced = True
            for line in introduction(reader.info.status):
                self._console.print(Text(f"{self._name}: {line}"))
        self._live.refresh()

    def remark(self, message: str) -> None:
        """Show a sentence under the figures."""
        self._remark = message
        self._live.refresh()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The display as it is now."""
        reader = self._reader
        if reader is None or (reader.info.state == "starting" and not len(reader.curves)):
            yield _starting(reader, self._name)
            if self._remark:
                yield Text(self._remark, style="bold")
            return
        now = figures(reader)
        yield _head(now)
        yield Text(now.losses())
        if curves := _curves(reader, options.max_width):
            yield curves
        if line := self._state_line(reader):
            yield line
        if reader.samples:
            yield from _sample(reader.samples[-1], console, options)

    def _state_line(self, reader: RunReader) -> Text | None:
        """What it does beside taking steps, and which key leaves; None once there is nothing to be said or pressed."""
        info = reader.info
        if info.state == "crashed":
            return Text(f"crashed at step {info.status.step:,}", style="bold red")
        if not info.is_under_way or self._is_left:
            return None
        if self._remark:
            return Text(self._remark, style="bold")
        line = Text(no_wrap=True, overflow="ellipsis")
        if info.state == "paused":
            line.append(f"paused; `runs resume {self._name}` goes on", style="bold")
        elif info.status.activity:
            line.append(_doing(info.status))
        line.append(("   " if line else "") + self._how_to_leave, style="dim")
        return line


def _doing(status: Status) -> str:
    """What a run does beside taking steps, such as `evaluating 40 %`."""
    return f"{status.activity} {100 * status.done:.0f} %" if status.done else status.activity


def _starting(reader: RunReader | None, name: str) -> Text:
    doing = _doing(reader.info.status) if reader else ""
    return Text(f"{name}: {doing or 'reading the text and building the model'}", style="dim")


def _head(now: Figures) -> Table:
    """The bar, with steps and times beside it."""
    head = Table.grid(expand=True, padding=(0, 1))
    head.add_column(ratio=1)
    head.add_column(justify="right", no_wrap=True)
    bar = ProgressBar(total=max(1, now.steps), completed=now.step)
    head.add_row(bar, Text(f"{now.step:,} of {now.steps:,}   {now.times()}"))
    return head


def _curves(reader: RunReader, width: int) -> Text:
    """Training and validation loss as rows of blocks, side by side."""
    room = min(WIDEST_SPARKLINE, (width - len("train    val ")) // 2)
    line = Text(no_wrap=True, overflow="crop")
    for label, losses in (
        ("train", reader.curves["train_loss"]),
        ("val", [val_loss for _, val_loss, _ in reader.curves.evaluations]),
    ):
        if len(losses) > 1:
            line.append(("   " if line else "") + label + " ", style="dim")
            line.append(sparkline(losses, room), style="cyan")
    return line


def _sample(sample: Sample, console: Console, options: ConsoleOptions) -> Iterator[Text]:
    """The sample as plain text, cut to what the terminal can show below the figures."""
    yield Text(f"\nsample at step {sample.step:,}", style="dim")
    text = Text(visible(f"{sample.prompt}{sample.text}"), overflow="fold")
    height = max(2, (options.max_height or console.height) - 9)
    for line in text.wrap(console, options.max_width)[:height]:
        yield Text(line.plain)
