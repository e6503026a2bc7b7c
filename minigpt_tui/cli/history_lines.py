"""The history in lines for a terminal: lists, one text's facts, figures."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from rich.cells import set_cell_size

from minigpt_tui.charts.sparkline import BLOCKS
from minigpt_tui.columns import columns, count
from minigpt_tui.history.dates import time_text
from minigpt_tui.history.entry import Entry
from minigpt_tui.history.export import facts_text, settings_text
from minigpt_tui.history.rows import Row
from minigpt_tui.history.shell_line import shell_line
from minigpt_tui.history.statistics import Statistics
from minigpt_tui.parameters import changes
from minigpt_tui.visible import visible_line

BEGINNING = 60
"""Cells of a text's beginning."""


def list_lines(rows: Sequence[Row]) -> list[str]:
    """A table of texts."""
    if not rows:
        return []
    head = ("id", "when", "model", "tokens", "", "text")
    return [line.rstrip() for line in columns([head, *map(_line, rows)], right=(0, 3))]


def _line(row: Row) -> tuple[str, ...]:
    beginning = visible_line(row.beginning).strip()
    short = set_cell_size(beginning, BEGINNING).rstrip()
    marks = " ".join(["★"] * row.favourite + [f"#{tag}" for tag in row.tags])
    return (
        str(row.id),
        time_text(row.time),
        row.model,
        f"{row.new_tokens:,}",
        marks,
        short if short == beginning else f"{short}…",
    )


def details(entry: Entry) -> list[str]:
    """What is known of a text, a line each."""
    facts = [
        ("id", f"{entry.id}{' ★' if entry.favourite else ''}"),
        ("when", time_text(entry.time)),
        ("written by", facts_text(entry)),
        ("weights", entry.sha256[:12]),
        ("settings", settings_text(entry)),
    ]
    before = entry.params
    for change in entry.changes:
        facts.append((f"from token {change.position:,}", changes(before, change.params)))
        before = change.params
    facts += [
        ("written in", entry.source),
        ("tags", " ".join(f"#{tag}" for tag in entry.tags)),
        ("note", visible_line(entry.note)),
        ("again", shell_line(entry)),
    ]
    width = max(len(name) for name, value in facts if value)
    return [f"{name:<{width}}  {value}" for name, value in facts if value]


def statistics_lines(figures: Statistics) -> list[str]:
    """The figures, with a table of speeds and bars of lengths."""
    if not figures.generations:
        return []
    seconds = timedelta(seconds=round(figures.seconds))
    lines = [
        f"{figures.generations:,} texts, {figures.favourites:,} of them favourites; "
        f"{count(figures.tokens)} tokens from {count(figures.prompt_tokens)} of prompts, in {seconds} of writing",
        f"from {time_text(figures.first)} to {time_text(figures.last)}",
        "",
    ]
    rows = [("model", "device", "precision", "texts", "tokens", "tokens/s", "best")]
    rows += [
        (
            each.model,
            each.device,
            each.precision,
            f"{each.generations:,}",
            count(each.tokens),
            f"{each.mean:,.0f}",
            f"{each.best:,.0f}",
        )
        for each in figures.speeds
    ]
    lines += columns(rows, right=(3, 4, 5, 6))
    most = max(texts for _, texts in figures.lengths) or 1
    lengths = [("tokens", "texts", "")]
    lengths += [
        (f"{length:,}+", f"{texts:,}", BLOCKS[-1] * round(40 * texts / most)) for length, texts in figures.lengths
    ]
    return [*lines, "", *columns(lengths, right=(0, 1))]
