"""A comparison in words: what a column is, its figures, and where it parts from the first. Plain functions."""

from __future__ import annotations

from collections.abc import Sequence

from minigpt_tui.comparing.column import MOST, Column
from minigpt_tui.comparing.distinct import Unit
from minigpt_tui.parameters import PARAMETERS, Parameter
from minigpt_tui.status_text import FINISHED, short_name
from minigpt_tui.visible import visible_line

NOISE = "noise is keyed by position: columns differ only where the difference matters"
NOISE_SHORT = "noise is keyed by position: only what matters differs"


def differing(columns: Sequence[Column]) -> list[Parameter]:
    """The settings that are not the same in all columns; the seed is."""
    return [
        parameter
        for parameter in PARAMETERS
        if parameter.field != "seed" and len({parameter.value(column.params) for column in columns}) > 1
    ]


def model_name(column: Column) -> str:
    """What a column's model is called on the screen."""
    return short_name(column.name) or "the default model"


def titles(columns: Sequence[Column], *, of: str = "", short: bool = False) -> list[str]:
    """What each column is: its number, its model where they differ, and the settings that set it apart.

    Args:
        columns: All of them.
        of: Stands behind each number: of how many, where not all are to be seen.
        short: Whether settings go by the letters of their keys.
    """
    parameters = differing(columns)
    several = len({column.model for column in columns}) > 1
    found = []
    for number, column in enumerate(columns, 1):
        parts = [model_name(column)] if several or not parameters else []
        parts += [
            f"{parameter.lower_key if short else parameter.short} {parameter.shown(column.params)}"
            for parameter in parameters
        ]
        if column.left_out:
            parts.append(f"left out: {_letters(column.left_out)}")
        found.append(f"{number}{of} {(' ' if short else ' · ').join(parts)}")
    return found


def _letters(characters: str) -> str:
    """Some of the characters that a model has never seen."""
    return visible_line(" ".join(characters[:10])) + (" …" if len(characters) > 10 else "")


def figures(column: Column, unit: Unit) -> list[str]:
    """A column's figures, from all to the most wanted alone: the first that there is room for is shown."""
    if column.state == "failed" and column.writing.is_empty:
        return [""]
    if column.state == "loading":
        return ["loading"]
    loss = column.loss
    if loss is None:
        return ["reading the prompt" if column.is_busy else ""]
    speed = column.writing.tokens_per_second
    shares = column.distinct.shares(unit)
    scored = "" if column.scored is None else f"on 1: {column.scored:.2f} · "
    rate = f"{speed:4,.0f} tok/s" if speed else "   – tok/s"
    return [
        f"{scored}loss {loss:.2f} · {rate} · distinct {' '.join(f'{share:.2f}' for share in shares)}",
        f"{scored}loss {loss:.2f} · {rate} · d2 {shares[1]:.2f}",
        f"{scored}loss {loss:.2f} · {speed:,.0f} t/s · d2 {shares[1]:.2f}",
        f"{scored}{loss:.2f} · {speed:,.0f} t/s · d2 {shares[1]:.2f}",
        f"{scored}{loss:.2f} · d2 {shares[1]:.2f}",
        f"{column.scored or loss:.2f}",
    ]


def parting_words(number: int, column: Column) -> str:
    """Where a column parts from the first one: `2 parts from 1 at token 34`; empty where that is not known."""
    parting = column.parting
    if parting is None:
        return ""
    what = "token" if parting.by_token else "character"
    if parting.first is not None:
        return f"{number} parts from 1 at {what} {parting.place + 1:,}"
    return "" if column.is_busy else f"{number} is the same as 1"


def parting_line(columns: Sequence[Column], at: int) -> list[str]:
    """Where each of a few columns parts from the first one, or of many cells the one that keys act on.

    Args:
        columns: All of them.
        at: The place of the one that keys act on.
    """
    wanted = [*enumerate(columns, 1)] if len(columns) <= MOST else [(at + 1, columns[at])]
    said = [(number, column, parting_words(number, column)) for number, column in wanted]
    found: list[str] = []
    for number, column, words in said:
        if words and found and column.parting is not None and column.parting.first is not None:
            found.append(f"{number} at {column.parting.place + 1:,}")
        elif words:
            found.append(words)
    return found


def came_to(column: Column, unit: Unit, *, brief: bool = False) -> str:
    """What came of a column, for the status line.

    Args:
        column: Which.
        unit: What distinct-n counts.
        brief: Whether to leave out what stands in the column's border anyway.
    """
    writing = column.writing
    if column.state == "failed" and column.problem is not None and writing.is_empty:
        return visible_line(str(column.problem))
    loss, perplexity = column.loss, column.perplexity
    if loss is None or perplexity is None:
        return "nothing is written yet"
    words = "streaming" if column.is_busy else FINISHED.get(writing.finish_reason, writing.finish_reason)
    parts = [f"{words} · {writing.new_tokens:,} tokens"]
    if column.left_out:
        parts.append(f"left out: {_letters(column.left_out)}")
    if column.scored is not None:
        parts.append(f"loss on 1's text {column.scored:.3f}")
    if not brief:
        parts.append(f"loss {loss:.3f}, perplexity {perplexity:,.1f}")
    shares = column.distinct.shares(unit)
    parts.append(f"distinct {unit} {' '.join(f'{share:.2f}' for share in shares)}")
    return " · ".join(parts)
