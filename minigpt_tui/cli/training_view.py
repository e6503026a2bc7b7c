"""How a training run looks in the shell: on a terminal a live display on stderr, elsewhere a line for each evaluation.
It reads the trainer's events and knows nothing of the trainer.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from engine.training.events import Began, Ended, Evaluating, Sampled, Stepped, TrainEvent
from engine.training.run import Metrics, Sample
from minigpt_tui.cli.columns import count
from minigpt_tui.cli.streams import say
from minigpt_tui.visible import visible

RECENT_STEPS = 20
"""Losses and speeds are shown as means over this many steps, so that they can be read."""

REFRESH_PER_SECOND = 4


class TrainingView(Protocol):
    """What `train` shows while it runs: entered before the first event, left after the last."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def observe(self, event: TrainEvent) -> None:
        """Take note of one event."""
        ...

    def remark(self, message: str) -> None:
        """Say something in between."""
        ...


def open_view(name: str) -> TrainingView:
    """The view that suits stderr.

    Args:
        name: The run's name.
    """
    return LiveView(name) if sys.stderr.isatty() else LineView(name)


class Progress:
    """What is known of a run so far, from its events.

    Args:
        name: The run's name.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.began: Began | None = None
        self.started = time.monotonic()
        self.step = 0
        self.first: Metrics | None = None
        self.recent: deque[Metrics] = deque(maxlen=RECENT_STEPS)
        self.val_loss: float | None = None
        self.best: tuple[float, int] | None = None
        self.evaluating: Evaluating | None = None
        self.sample: Sample | None = None
        self.ended = False

    def take(self, event: TrainEvent) -> None:
        """Add one event."""
        if isinstance(event, Began):
            self.began, self.started = event, time.monotonic()
        elif isinstance(event, Stepped):
            self.step, self.evaluating = event.metrics.step, None
            self.first = self.first or event.metrics
            self.recent.append(event.metrics)
            if event.metrics.val_loss is not None:
                self.val_loss = event.metrics.val_loss
            if event.best_val_loss is not None and event.best_step is not None:
                self.best = event.best_val_loss, event.best_step
        elif isinstance(event, Evaluating):
            self.evaluating = event
        elif isinstance(event, Sampled):
            self.sample = event.sample
        elif isinstance(event, Ended):
            self.ended = True

    @property
    def steps(self) -> int:
        """Steps in all; 0 before the run has begun."""
        return self.began.steps if self.began else 0

    def times(self) -> str:
        """Time gone and, once there is something to judge by, time left."""
        gone = f"{clock(time.monotonic() - self.started)} gone"
        if self.first is None or self.first.step == self.step or self.ended:
            return gone
        last = self.recent[-1]  # the first step is left out: it warms the machine up
        each = (last.time - self.first.time) / (last.step - self.first.step)
        return f"{gone} · {clock(each * (self.steps - self.step))} left"

    def losses(self) -> str:
        """Training loss, validation loss with the best one marked, and speed."""
        if not self.recent:
            return "the first step is under way"
        train = sum(metrics.train_loss for metrics in self.recent) / len(self.recent)
        speed = sum(metrics.tokens_per_second for metrics in self.recent) / len(self.recent)
        words = [f"loss {train:.4f}"]
        if self.val_loss is not None:
            words.append(f"val {self.val_loss:.4f}" + self._best())
        words.append(f"{speed:,.0f} tok/s")
        return "   ".join(words)

    def _best(self) -> str:
        if self.best is None:
            return ""
        loss, step = self.best
        return f" (best, step {step})" if loss == self.val_loss else f" (best {loss:.4f}, step {step})"


def clock(seconds: float) -> str:
    """A time as 1:05 or 2:03:07."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def introduction(began: Began) -> list[str]:
    """What is about to be trained on what, in two lines."""
    model = f"{count(began.parameters)} parameters, {began.vocab_size:,} token ids"
    return [
        f"{model}, {began.device} {began.precision}, {began.tokens_per_step:,} tokens a step",
        f"{began.train_tokens:,} tokens to learn from, {began.val_tokens:,} to validate with",
    ]


class LineView:
    """Plain lines on stderr, for a log or a pipe."""

    def __init__(self, name: str) -> None:
        self._progress = Progress(name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def observe(self, event: TrainEvent) -> None:
        """Say how the run begins, and each evaluation."""
        self._progress.take(event)
        if isinstance(event, Began):
            for line in introduction(event):
                say(f"{self._progress.name}: {line}")
        elif isinstance(event, Stepped) and event.metrics.val_loss is not None:
            progress = self._progress
            say(f"step {progress.step} of {progress.steps}   {progress.losses()}   {progress.times()}")

    def remark(self, message: str) -> None:
        """Say something in between."""
        say(message)


class LiveView:
    """A bar, the figures and the latest sample, kept up to date in place."""

    def __init__(self, name: str) -> None:
        self._progress = Progress(name)
        self._console = Console(stderr=True, highlight=False)
        self._remark = ""
        self._live = Live(
            self, console=self._console, refresh_per_second=REFRESH_PER_SECOND, redirect_stdout=False, transient=False
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def observe(self, event: TrainEvent) -> None:
        """Take note; the display follows four times a second."""
        self._progress.take(event)
        if isinstance(event, Began):
            for line in introduction(event):
                self._console.print(Text(f"{self._progress.name}: {line}"))

    def remark(self, message: str) -> None:
        """Show a sentence under the figures."""
        self._remark = message

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The display as it is now."""
        progress = self._progress
        if progress.began is None:
            yield Text(f"{progress.name}: reading the text and building the model", style="dim")
            return
        head = Table.grid(expand=True, padding=(0, 1))
        head.add_column(ratio=1)
        head.add_column(justify="right", no_wrap=True)
        bar = ProgressBar(total=progress.steps, completed=progress.step)
        head.add_row(bar, Text(f"{progress.step:,} of {progress.steps:,}   {progress.times()}"))
        lines: list[Table | Text] = [head, Text(progress.losses())]
        if progress.ended:
            pass  # nothing is left to be said or pressed
        elif self._remark:
            lines.append(Text(self._remark, style="bold"))
        elif progress.evaluating is not None:
            done = progress.evaluating.done / max(1, progress.evaluating.total)
            lines.append(Text(f"evaluating {done:4.0%}", style="dim"))
        else:
            lines.append(Text("ctrl+c saves and stops", style="dim"))
        if progress.sample is not None:
            lines.append(self._sample(progress.sample, console, options, room=options.max_width))
        yield Group(*lines)

    def _sample(self, sample: Sample, console: Console, options: ConsoleOptions, *, room: int) -> Text:
        """The sample as plain text, cut to what the terminal can show below the figures."""
        text = Text(visible(f"{sample.prompt}{sample.text}"), overflow="fold")
        height = max(2, (options.max_height or console.height) - 7)
        shown = Text(f"\nsample at step {sample.step}\n", style="dim")
        kept = text.wrap(console, room)[:height]
        for number, line in enumerate(kept):
            shown.append_text(Text("\n") if number else Text())
            shown.append_text(Text(line.plain, style="not dim"))
        return shown
