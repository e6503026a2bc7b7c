"""The curves of losses, in braille: the chosen run's training loss fine and its validation loss strong with the best
marked, and beside them those of other runs, each with a colour, a pattern and a letter of its own. It draws what it is
given.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.reactive import reactive
from textual.strip import Strip
from textual.widget import Widget

from minigpt_tui.charts.axes import linear_ticks, log_ticks, number_texts, step_ticks, time_texts, time_ticks
from minigpt_tui.charts.braille import EMPTY, Braille
from minigpt_tui.text_document import cells
from minigpt_tui.training.run_feed import RunCurves
from minigpt_tui.visible import visible_line

LETTERS = "ABCDEFGH"
"""What the runs of an overlay are called on the chart; the chosen one is A."""

PATTERNS = ((1, 0), (6, 2), (3, 2), (1, 1), (8, 3), (2, 4), (4, 1), (1, 3))
"""Dots drawn and left out along the curve of each run."""

COLOURS = 5
LABEL = 6
"""Cells of the numbers at the left."""

PART = 5
"""Cells that a part of the legend takes beside its words: its mark, a space before them and three behind."""

ROWS_PER_TICK = 4
COLUMNS_PER_TICK = 12
BEST = "◆"
FALL = 0.03
"""The share of the axis in which the first fall is not what the scale is made for."""

TRAIN, VAL = 0, 1  # whose dots they are: the chosen run's; then two for each other run


class LossChart(Widget):
    """The chart, with its axes and a line that says what is what."""

    DEFAULT_CSS = """
    LossChart {
        height: 1fr;
        min-height: 5;
        & > .loss-chart--axis { color: $line; }
        & > .loss-chart--label { color: $quiet; }
        & > .loss-chart--train { color: $bar-quiet; }
        & > .loss-chart--run-0 { color: $accent; }
        & > .loss-chart--run-1 { color: $curve-1; }
        & > .loss-chart--run-2 { color: $curve-2; }
        & > .loss-chart--run-3 { color: $curve-3; }
        & > .loss-chart--run-4 { color: $curve-4; }
    }
    """

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "loss-chart--axis",
        "loss-chart--label",
        "loss-chart--train",
        *(f"loss-chart--run-{place}" for place in range(COLOURS)),
    }

    curves: reactive[tuple[RunCurves, ...]] = reactive(())
    """The chosen run's curves, then those that are laid over them."""

    axis: reactive[tuple[float, float]] = reactive((0.0, 1.0))
    """Where the axis begins and ends: steps, or seconds."""

    by_time: reactive[bool] = reactive(False)
    """Whether the axis is time."""

    log_scale: reactive[bool] = reactive(False)
    """Whether the scale of losses is logarithmic."""

    empty_text: reactive[str] = reactive("")
    """What stands here while there is nothing to draw."""

    remark: reactive[str] = reactive("")
    """What is said at the right of the first line, such as the zoom."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._lines: list[Strip] = []
        self._drawn_for: object = None

    @property
    def points(self) -> int:
        """Into how many parts the axis can be told apart."""
        return max(2, 2 * (self.size.width - LABEL - 2))

    def notify_style_update(self) -> None:
        """Colours changed."""
        super().notify_style_update()
        self._drawn_for = None

    def render_line(self, y: int) -> Strip:
        """One row; all are drawn when the first is asked for."""
        wanted = (self.curves, self.axis, self.by_time, self.log_scale, self.empty_text, self.remark, self.size)
        if wanted != self._drawn_for:
            self._drawn_for, self._lines = wanted, self._draw()
        return self._lines[y] if y < len(self._lines) else Strip.blank(self.size.width, self.rich_style)

    # Drawing.

    def _draw(self) -> list[Strip]:
        width, height = self.size.width - LABEL - 2, self.size.height - 3
        scale = self._scale()
        if scale is None or width < 10 or height < 2:
            return self._draw_empty()
        low, high = scale
        grid = Braille(width, height)
        marks: dict[tuple[int, int], tuple[str, Style]] = {}
        for place in range(len(self.curves) - 1, -1, -1):  # the chosen run last, over the others
            self._draw_run(grid, marks, place, low, high)
        return [self._legend(), *self._draw_rows(grid, marks, low, high), *self._draw_axis(width)]

    def _draw_empty(self) -> list[Strip]:
        lines = [Strip.blank(self.size.width, self.rich_style)] * self.size.height
        if lines:
            text = self.empty_text.center(self.size.width)[: self.size.width]
            lines[len(lines) // 2] = Strip([Segment(text, self._style("label"))])
        return lines

    def _scale(self) -> tuple[float, float] | None:
        """The least and the most loss on the chart, with a little air; None where there is nothing."""
        alone = len(self.curves) == 1
        shown = [run.val if run.val and not alone else run.train + run.val for run in self.curves]
        losses = [loss for points in shown for _, loss in self._settled(points)]
        losses = [loss for loss in losses if loss > 0 or not self.log_scale]
        if not losses:
            return None
        low, high = min(losses), max(losses)
        if high - low < 1e-6 * max(1.0, abs(high)):
            low, high = low - 0.05 * abs(low) - 1e-3, high + 0.05 * abs(high) + 1e-3
        if self.log_scale and low > 0:
            air = (high / low) ** 0.04
            return low / air, high * air
        air = 0.04 * (high - low)
        return low - air, high + air

    def _settled(self, points: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
        """The points that the scale is made for: the fall of the first steps may leave a linear one at its top."""
        first, last = self.axis
        if self.log_scale or first > 0:
            return points
        begin = first + FALL * (last - first)
        return [point for point in points if point[0] >= begin] or points

    def _dot(self, grid: Braille, point: tuple[float, float], low: float, high: float) -> tuple[int, int]:
        first, last = self.axis
        share = (point[0] - first) / (last - first) if last > first else 0.0
        return round(share * (grid.width * 2 - 1)), self._row(grid, point[1], low, high)

    def _row(self, grid: Braille, loss: float, low: float, high: float) -> int:
        if self.log_scale and low > 0:
            loss, low, high = math.log(max(loss, 1e-12)), math.log(low), math.log(high)
        return round((high - loss) / (high - low) * (grid.height * 4 - 1))

    def _draw_run(
        self, grid: Braille, marks: dict[tuple[int, int], tuple[str, Style]], place: int, low: float, high: float
    ) -> None:
        run, alone = self.curves[place], len(self.curves) == 1
        if alone:
            for (x, _), extremes in zip(run.train, run.spread, strict=True):
                for loss in extremes:  # dots around the line: they say how noisy it is, and hide nothing
                    grid.dot(*self._dot(grid, (x, loss), low, high), TRAIN)
        if alone or not run.val:
            owner, pattern = (TRAIN, (1, 0)) if alone else (VAL + place, PATTERNS[place % len(PATTERNS)])
            self._join(grid, [self._dot(grid, point, low, high) for point in run.train], owner, pattern)
        dots = [self._dot(grid, point, low, high) for point in run.val]
        self._join(grid, dots, VAL + place, (1, 0) if alone else PATTERNS[place % len(PATTERNS)])
        strong = self._style(f"run-{place % COLOURS}", bold=True)
        if not alone:
            shown = dots or [self._dot(grid, point, low, high) for point in run.train]
            for x, y in _spaced(shown, grid.width * 2, place):
                marks[y >> 2, x >> 1] = LETTERS[place % len(LETTERS)], strong
        elif len(dots) == 1:
            marks[dots[0][1] >> 2, dots[0][0] >> 1] = "•", strong
        if run.best is not None and alone:
            x, y = self._dot(grid, run.best, low, high)
            marks[y >> 2, min(x >> 1, grid.width - 1)] = BEST, strong

    def _join(self, grid: Braille, dots: list[tuple[int, int]], owner: int, pattern: tuple[int, int]) -> None:
        for (x0, y0), (x1, y1) in itertools.pairwise(dots):
            grid.line(x0, y0, x1, y1, owner, pattern)
        if len(dots) == 1:
            grid.dot(*dots[0], owner)

    def _draw_rows(
        self, grid: Braille, marks: dict[tuple[int, int], tuple[str, Style]], low: float, high: float
    ) -> list[Strip]:
        ticks = (log_ticks if self.log_scale and low > 0 else linear_ticks)(
            low, high, max(2, grid.height // ROWS_PER_TICK)
        )
        labels = {
            self._row(grid, tick, low, high) >> 2: text for tick, text in zip(ticks, number_texts(ticks), strict=True)
        }
        axis, label, ground = self._style("axis"), self._style("label"), self.rich_style
        styles = {EMPTY: ground, TRAIN: self._style("train")}
        styles |= {VAL + place: self._style(f"run-{place % COLOURS}") for place in range(len(self.curves))}
        strips = []
        for row in range(grid.height):
            text = labels.get(row, "")
            segments = [Segment(text.rjust(LABEL) + " ", label), Segment("┤" if text else "│", axis)]
            for column in range(grid.width):
                if mark := marks.get((row, column)):
                    segments.append(Segment(*mark))
                elif text and grid.owners[row][column] == EMPTY:
                    segments.append(Segment("┈", axis))
                else:
                    segments.append(Segment(grid.text(row, column), styles[grid.owners[row][column]]))
            strips.append(Strip(segments).simplify())
        return strips

    def _draw_axis(self, width: int) -> list[Strip]:
        first, last = self.axis
        ticks = (time_ticks if self.by_time else step_ticks)(first, last, max(2, width // COLUMNS_PER_TICK))
        texts = (time_texts if self.by_time else number_texts)(ticks)
        line, words = ["─"] * width, [" "] * (width + 4)
        free = 0
        for tick, text in zip(ticks, texts, strict=True):
            column = min(width - 1, round((tick - first) / (last - first) * (width - 1))) if last > first else 0
            start = min(max(0, column - len(text) // 2), width - len(text))
            if start < free:
                continue
            line[column] = "┬"
            words[start : start + len(text)] = text
            free = start + len(text) + 2
        left = " " * (LABEL + 1)
        return [
            Strip([Segment(left, self._style("label")), Segment("╰" + "".join(line), self._style("axis"))]),
            Strip(
                [Segment(f"{left} {''.join(words)}"[: self.size.width].ljust(self.size.width), self._style("label"))]
            ),
        ]

    def _legend(self) -> Strip:
        """What is what, as far as there is room; the remark at the right."""
        label, margin = self._style("label"), " " * (LABEL + 2)
        room = self.size.width - len(margin) - len(self.remark) - 1
        segments = [Segment(margin, label)]
        for mark, style, words in self._legend_parts(room):
            segments += [Segment(f"{mark} ", style), Segment(f"{words}   ", label)]
        left = Strip(segments).adjust_cell_length(self.size.width - len(self.remark), label)
        return Strip.join([left, Strip([Segment(self.remark, label)])])

    def _legend_parts(self, room: int) -> list[tuple[str, Style, str]]:
        """Marks, their styles and what they stand for; names are cut where there are too many of them."""
        strong = self._style("run-0", bold=True)
        if len(self.curves) == 1:
            [run] = self.curves
            parts = [("⣿⣿", self._style("train"), "train")] if run.train else []
            parts += [("⠒⠒", self._style("run-0"), "validation")] if run.val else []
            return parts + ([(BEST, strong, f"best {run.best[1]:.4f}")] if run.best is not None else [])
        names = [visible_line(run.name) for run in self.curves]
        losses = [f" {run.best[1]:.4f}" if run.best else "" if run.val else " (train)" for run in self.curves]
        if sum(map(cells, names + losses)) > room - PART * len(names):
            losses = [""] * len(names)
        if sum(map(cells, names)) > room - PART * len(names):
            names = [_cut(name, max(4, room // len(names) - PART)) for name in names]
        parts = []
        for place, (name, loss) in enumerate(zip(names, losses, strict=True)):
            style = self._style(f"run-{place % COLOURS}", bold=True)
            parts.append((LETTERS[place % len(LETTERS)], style, name + loss))
        return parts

    def _style(self, name: str, *, bold: bool = False) -> Style:
        own = self.get_component_rich_style(f"loss-chart--{name}", partial=True)
        return self.rich_style + own + Style(bold=bold or None)


def _cut(name: str, width: int) -> str:
    while cells(name) > width:
        name = name.removesuffix("…")[:-1] + "…"
    return name


def _spaced(dots: Sequence[tuple[int, int]], width: int, place: int) -> list[tuple[int, int]]:
    """The dots of a curve where its letter stands: at its end, and about every 40 dots, another place for each run."""
    found, following = [], 12 + 9 * place
    for (x0, y0), (x1, y1) in itertools.pairwise(dots):
        while following <= x1 and following < width - 12:
            share = (following - x0) / (x1 - x0) if x1 > x0 else 0.0
            if following >= x0:
                found.append((following, round(y0 + share * (y1 - y0))))
            following += 44
    return [*found, *dots[-1:]]
