"""How far a run is and how it goes: a bar, and each figure beside the row of blocks that shows how it came to it.
Numbers keep their places. It shows what it is given.
"""

from __future__ import annotations

from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

from minigpt_tui.charts.sparkline import sparkline
from minigpt_tui.training.run_feed import Picture
from minigpt_tui.training.run_words import activity_text, loss_text, progress_text

NAME, VALUE = 6, 8  # cells
WIDEST_TREND = 48
SMALLEST_BAR = 8
GAP = 3


class RunFigures(Widget):
    """A line for the progress and three for the figures."""

    DEFAULT_CSS = """
    RunFigures { height: 4; }
    """

    picture: reactive[Picture | None] = reactive(None)
    """The run at one moment, or None while nothing is known."""

    def render(self) -> Content:
        """The four lines."""
        picture, width = self.picture, self.size.width
        if picture is None or width < 30:
            return Content("")
        figures, trends = picture.figures, picture.trends
        best = "" if figures.best is None else f"  at step {figures.best[1]:,}"
        speed = f"{figures.speed:8,.0f}" if figures.speed else "       –"
        column = (width - GAP) // 2
        best_loss = loss_text(figures.best[0] if figures.best else None)
        left = (
            _cell("loss", loss_text(figures.train_loss), trends["train_loss"], column),
            _cell("val", loss_text(figures.val_loss), trends["val_loss"], column),
            _cell("best", best_loss, best, column),
        )
        right = (
            _cell("lr", _small(picture.lr), trends["lr"], column),
            _cell("grad", _small(picture.grad_norm), trends["grad_norm"], column),
            _cell("tok/s", speed, trends["tokens_per_second"], column),
        )
        lines = [self._progress(picture, width)]
        lines += [first + " " * GAP + second for first, second in zip(left, right, strict=True)]
        return Content("\n").join(lines)

    def _progress(self, picture: Picture, width: int) -> Content:
        """The bar between nothing and what was done, with the times."""
        figures, info = picture.figures, picture.info
        steps, times = progress_text(picture), figures.times()
        if activity := activity_text(info):
            steps = f"{activity} · {steps.lstrip()}".rjust(len(activity) + 3 + len(steps))
        text = f"{steps}   {times}"
        if len(text) + SMALLEST_BAR + 2 > width:
            text = steps.rpartition(" · ")[0] + f"   {times}"
        if len(text) + SMALLEST_BAR + 2 > width:
            text = text[: max(0, width - SMALLEST_BAR - 2)]
        room = width - len(text) - 2
        share = min(1.0, figures.step / figures.steps) if figures.steps else 0.0
        done = round(share * room * 2)
        full, half = divmod(done, 2)
        rest = room - full - half
        colour = "$accent" if info.is_under_way else "$bar-quiet"
        return Content.assemble(("━" * full + "╸" * half, colour), ("─" * rest, "$line"), "  ", (text, ""))


def _cell(name: str, value: str, trend: list[float] | str, width: int) -> Content:
    """A figure's name, its value, and its blocks or a word."""
    room = min(WIDEST_TREND, width - NAME - VALUE - 1)
    beside = trend if isinstance(trend, str) else f" {sparkline(trend, room)}"
    shown = beside[: max(0, width - NAME - VALUE)]
    return Content.assemble(
        (name.ljust(NAME), "$quiet"),
        (value.rjust(VALUE), "bold"),
        (shown.ljust(width - NAME - VALUE), "$quiet" if isinstance(trend, str) else "$bar-quiet"),
    )


def _small(value: float | None) -> str:
    """A number of any size in eight cells."""
    if value is None:
        return "–"
    return f"{value:.4f}" if 0.01 <= abs(value) < 100 else f"{value:.2e}"
