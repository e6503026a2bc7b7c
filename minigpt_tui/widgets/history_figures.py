"""How much was generated, how fast and how long: figures, bars, a sparkline for each writer and a curve of the days. It
draws what it is given.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from datetime import timedelta

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.reactive import reactive
from textual.widgets import Static

from minigpt_tui.charts.axes import linear_ticks, number_texts
from minigpt_tui.charts.braille import Braille
from minigpt_tui.charts.sparkline import sparkline
from minigpt_tui.columns import count
from minigpt_tui.history.dates import time_text
from minigpt_tui.history.statistics import Speed, Statistics
from minigpt_tui.text_document import cells
from minigpt_tui.visible import visible_line

CURVE_ROWS = 6
LABEL = 7
BLOCKS = " ▏▎▍▌▋▊▉█"
WRITERS = 12
"""So many writers are listed; the others are counted."""


class HistoryFigures(VerticalScroll, can_focus=True):
    """The figures of all that is kept."""

    DEFAULT_CSS = """
    HistoryFigures {
        overflow-x: hidden;
        scrollbar-size-vertical: 1;
        padding: 0 1;
        & > Static { width: 1fr; height: auto; }
    }
    """

    figures: reactive[Statistics | None] = reactive(None)
    """What is shown; None while it is counted."""

    def __init__(self, *, id: str | None = None, classes: str = "") -> None:
        super().__init__(id=id, classes=classes)
        self._content = Static(markup=False)

    def compose(self) -> ComposeResult:
        """One text, drawn anew when the room changes."""
        yield self._content

    def watch_figures(self) -> None:
        """Draw others."""
        self._draw()

    def on_resize(self) -> None:
        """Draw anew."""
        self._draw()

    def _draw(self) -> None:
        if not self.is_mounted:
            return
        figures, width = self.figures, max(20, self.size.width - 1)  # beside the scrollbar
        if figures is None:
            self._content.update(_quiet("counting…"))
        elif not figures.generations:
            self._content.update(_quiet("Nothing is kept yet: write something in Play."))
        else:
            parts = [_totals(figures), _speeds(figures.speeds, width), _days(figures.days, width)]
            self._content.update(Content("\n\n").join([*parts, _lengths(figures.lengths, width)]))


def _quiet(text: str) -> Content:
    return Content.styled(text, "$quiet")


def _totals(figures: Statistics) -> Content:
    pairs = [
        (f"{figures.generations:,}", "texts"),
        (f"{figures.favourites:,}", "favourites"),
        (count(figures.tokens), "tokens written"),
        (count(figures.prompt_tokens), "read in prompts"),
        (str(timedelta(seconds=round(figures.seconds))), "of writing"),
    ]
    reasons = [(f"{texts:,}", f"ended by {visible_line(reason)}") for reason, texts in figures.reasons]
    line = Content("  ")
    return Content("\n").join(
        [
            line.join([Content.assemble((number, "bold"), " ", (word, "$quiet")) for number, word in pairs]),
            line.join([Content.assemble(number, " ", (word, "$quiet")) for number, word in reasons]),
            _quiet(f"from {time_text(figures.first)} to {time_text(figures.last)}"),
        ]
    )


def _speeds(speeds: Sequence[Speed], width: int) -> Content:
    """A row for each writer: how much, how fast, and how its speed went from day to day."""
    rows = [("model", "where", "texts", "tokens", "tok/s", "best")]
    rows += [
        (
            visible_line(each.model),
            visible_line(f"{each.device} {each.precision}"),
            f"{each.generations:,}",
            count(each.tokens),
            f"{each.mean:,.0f}",
            f"{each.best:,.0f}",
        )
        for each in speeds[:WRITERS]
    ]
    widths = [max(cells(row[place]) for row in rows) for place in range(len(rows[0]))]
    room = width - sum(widths[1:]) - 2 * len(widths) - 8
    widths[0] = max(8, min(widths[0], room))
    days = max(0, width - sum(widths) - 2 * len(widths))
    lines = []
    for place, row in enumerate(rows):
        parts = [_fitted(row[0], widths[0]), row[1] + " " * (widths[1] - cells(row[1]))]
        parts += [row[at].rjust(widths[at]) for at in range(2, len(row))]
        line = Content("  ".join(parts))
        if place == 0:
            lines.append(_quiet(f"{'  '.join(parts)}  {'by day' if days > 6 else ''}"))
        else:
            curve = sparkline([speed for _, speed in speeds[place - 1].days], days)
            lines.append(Content.assemble(line, "  ", (curve, "$accent")))
    if len(speeds) > WRITERS:
        lines.append(_quiet(f"and {len(speeds) - WRITERS} more: minigpt-tui history stats"))
    return Content("\n").join(lines)


def _days(days: Sequence[tuple[str, int, int]], width: int) -> Content:
    """Tokens of each day, in braille, over a line of dates."""
    first, last = dt.date.fromisoformat(days[0][0]), dt.date.fromisoformat(days[-1][0])
    span = (last - first).days
    if not span:
        texts, tokens = days[0][1:]
        return Content.assemble(("all on one day, ", "$quiet"), f"{texts:,} texts, {tokens:,} tokens")
    most = max(tokens for *_, tokens in days) or 1
    grid = Braille(max(10, width - LABEL - 1), CURVE_ROWS)
    right, bottom = grid.width * 2 - 1, grid.height * 4 - 1
    for day, _, tokens in days:
        place = (dt.date.fromisoformat(day) - first).days
        begin, end = (round(edge / (span + 1) * (right + 1)) for edge in (place, place + 1))
        for x in range(begin, max(begin + 1, end - (end - begin > 2))):  # a gap between days where there is room
            grid.line(x, bottom, x, bottom - round(tokens / most * bottom), 0)
    ticks = [tick for tick in linear_ticks(0, most, 2) if 0 <= tick <= most]
    labels = {
        round((1 - tick / most) * (CURVE_ROWS - 1)): text for tick, text in zip(ticks, number_texts(ticks), strict=True)
    }
    lines = [_quiet("tokens of each day")]
    for row in range(CURVE_ROWS):
        curve = "".join(grid.text(row, column) for column in range(grid.width))
        lines.append(Content.assemble((f"{labels.get(row, ''):>{LABEL}} ", "$quiet"), (curve, "$accent")))
    gap = max(1, grid.width - 20)
    lines.append(_quiet(f"{'':{LABEL}} {first}{'':{gap}}{last}"))
    return Content("\n").join(lines)


def _lengths(lengths: Sequence[tuple[int, int]], width: int) -> Content:
    """A bar for each class of lengths, from the shortest to the longest that there is."""
    known = [place for place, (_, texts) in enumerate(lengths) if texts]
    lines = [_quiet("lengths in tokens")]
    most = max((texts for _, texts in lengths), default=0) or 1
    for place in range(known[0], known[-1] + 1) if known else ():
        start, texts = lengths[place]
        end = f"–{lengths[place + 1][0] - 1:,}" if place + 1 < len(lengths) else "+"
        bar = _bar(texts / most, max(4, width - 22))
        lines.append(Content.assemble((f"{f'{start:,}{end}':>12} ", "$quiet"), (bar, "$accent"), f" {texts:,}"))
    return Content("\n").join(lines)


def _bar(share: float, width: int) -> str:
    eighths = round(share * width * 8)
    return "█" * (eighths // 8) + BLOCKS[eighths % 8].strip()


def _fitted(text: str, width: int) -> str:
    while cells(text) > width:
        text = text.removesuffix("…")[:-1] + "…"
    return text + " " * (width - cells(text))
