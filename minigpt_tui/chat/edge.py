"""Where the model stops seeing a conversation: how many of its turns, and of the words of the first that it sees, lie
before the context window. Pure functions; they know nothing of screens.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from engine.inference.window import window_start
from minigpt_tui.chat.script import Script, lay
from minigpt_tui.chat.turns import Turn


class Edge(NamedTuple):
    """What the model sees of a conversation.

    Attributes:
        turn: The place of the first turn that it sees.
        offset: How many characters of that one's words it does not see.
        length: Tokens that lead to its next one.
        seen: How many of them it sees.
    """

    turn: int
    offset: int
    length: int
    seen: int


def exact_edge(
    script: Script, system: str, turns: Sequence[Turn], block_size: int, *, unknown: str = "", answered: bool = True
) -> Edge:
    """Of a model whose tokens are characters.

    Args:
        script: How turns are written down.
        system: What stands before them.
        turns: What was said, and what may be said next.
        block_size: Tokens that the model sees at most.
        unknown: Characters that it has never seen: they are no tokens.
        answered: Whether its next turn begins behind them; else it is writing the last one.
    """
    laid = lay(script, system, turns, answered=answered)
    strange = set(unknown)
    skipped = [place for place, character in enumerate(laid.text) if character in strange] if strange else []
    length = len(laid.text) - len(skipped)
    start = place = window_start(length, block_size)
    for each in skipped:  # in order: each moves what is behind it by one
        place += each <= place
    turn = min(bisect_right(laid.spans, place, key=lambda span: span[1]), max(0, len(turns) - 1))
    offset = max(0, place - laid.spans[turn][0]) if turns else 0
    return Edge(turn, offset, length, length - start)


def told_edge(turns: Sequence[Turn], block_size: int, draft: str = "") -> Edge | None:
    """Of any model, by the lengths that it told of its answers; inside a turn, by its share of characters.

    Args:
        turns: What was said.
        block_size: Tokens that the model sees at most.
        draft: What may be said next.

    Returns:
        None where it has not told anything yet.
    """
    told = next((place for place in range(len(turns) - 1, -1, -1) if turns[place].prompt_tokens), None)
    if told is None:
        return None
    total = turns[told].prompt_tokens + turns[told].new_tokens
    characters = sum(len(turn.text) for turn in turns[: told + 1])
    share = total / max(1, characters)
    ends: list[float] = []
    for place, turn in enumerate(turns):
        before = ends[-1] if ends else 0.0
        following = turns[place + 1].prompt_tokens if place + 1 < len(turns) else 0
        if turn.prompt_tokens:
            end = float(turn.prompt_tokens + turn.new_tokens)
        else:
            end = float(following) if following else before + share * len(turn.text)
        ends.append(max(before, end))
    length = round(ends[-1] + share * len(draft))
    start = window_start(length, block_size)
    turn_at = min(bisect_right(ends, start) if start else 0, len(turns) - 1)
    before = ends[turn_at - 1] if turn_at else 0.0
    within = (start - before) / max(1.0, ends[turn_at] - before) if start else 0.0
    return Edge(turn_at, round(max(0.0, min(1.0, within)) * len(turns[turn_at].text)), length, length - start)
