"""What a text tells of its tokens: their places, their figures, how surprising they were, and what the model's heads
looked at. Plain data: it knows nothing of the screen, nor of how the figures arrive.
"""

from __future__ import annotations

import math
import struct
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from engine.inference.stream import UNTOLD
from engine.worker.protocol import Inspected, Scored
from minigpt_tui.writing import Writing

LEVELS = 9
"""Steps of a scale with two ends: 0 is the surprising one."""

NATS_PER_BIT = math.log(2)


class Figures(NamedTuple):
    """What is known of a token that was drawn or scored: logprob in nats, rank from 1, entropy of its place in nats."""

    logprob: float
    rank: int
    entropy: float


class Measure(Enum):
    """What the text is coloured by."""

    PROBABILITY = "probability"
    ENTROPY = "entropy"
    RANK = "rank"
    NOTHING = "nothing"

    @property
    def bounds(self) -> tuple[float, ...]:
        """Where the levels 1 to 8 begin, from the surprising end."""
        return _BOUNDS[self]

    @property
    def labels(self) -> tuple[str, ...]:
        """What each level stands for, from the surprising end."""
        return _LABELS[self]

    def level(self, figures: Figures) -> int:
        """Where a token stands on the scale: 0 is surprising, LEVELS - 1 is expected."""
        if self is Measure.PROBABILITY:
            return bisect_right(self.bounds, math.exp(figures.logprob))
        if self is Measure.ENTROPY:
            return LEVELS - 1 - bisect_left(self.bounds[::-1], figures.entropy / NATS_PER_BIT)
        return LEVELS - 1 - bisect_left(self.bounds[::-1], figures.rank)


_BOUNDS: dict[Measure, tuple[float, ...]] = {
    Measure.PROBABILITY: (0.01, 0.03, 0.07, 0.15, 0.3, 0.5, 0.7, 0.9),
    Measure.ENTROPY: (6.0, 4.5, 3.5, 2.5, 1.5, 1.0, 0.5, 0.25),
    Measure.RANK: (100, 50, 20, 10, 5, 3, 2, 1),
    Measure.NOTHING: (),
}
_LABELS: dict[Measure, tuple[str, ...]] = {
    Measure.PROBABILITY: ("<1", "1", "3", "7", "15", "30", "50", "70", "90 %"),
    Measure.ENTROPY: (">6", "6", "4.5", "3.5", "2.5", "1.5", "1", ".5", ".2 bits"),
    Measure.RANK: (">100", "100", "50", "20", "10", "5", "3", "2", "1st"),
    Measure.NOTHING: (),
}


class TokenPlaces:
    """Where each token of a text stands in its document, and what is known of it.

    The tokens of a prompt have places as soon as the engine has told them, and at once where each is a character.

    Args:
        writing: The text; what is written later is found without a word.
        scored: What the engine said of the tokens before the trace.
    """

    def __init__(self, writing: Writing, scored: Scored | None = None) -> None:
        self._writing = writing
        fits = scored is not None and scored.ids == writing.prompt_tokens
        if scored is not None and fits:  # what the model has never seen stands in the text alone
            text = writing.document.text_between(0, writing.text_start)
            fits = scored.text[: len(text)] == text
        self._prompt, self._scored = writing.prompt_tokens, scored if fits else None

    @property
    def scored(self) -> Scored | None:
        """What the engine said of the tokens before the trace; None where these are others by now."""
        return self._scored if self._writing.prompt_tokens is self._prompt else None

    @property
    def count(self) -> int:
        """Tokens so far."""
        return self._writing.length

    @property
    def first(self) -> int:
        """The first position whose place is known."""
        writing = self._writing
        known = len(writing.prompt_tokens) == self._prompt_end or len(writing.prompt_tokens) < 2
        return 0 if known or self.scored else len(writing.prompt_tokens)

    def character_span(self, position: int) -> tuple[int, int]:
        """The characters of a token's own piece; those that it shares, where it is a part of one."""
        last = self.count
        end = self._end(position)
        start = self._end(position - 1) if position else 0
        while end == start and position + 1 < last:
            position += 1
            end = self._end(position)
        return start, end

    def span(self, position: int) -> tuple[int, int]:
        """The offsets in the document between which a token's text stands, marks before it left out.

        The position behind the last token is the end of the document.
        """
        document = self._writing.document
        if position >= self.count:
            return document.length, document.length
        start, end = self.character_span(position)
        begin = document.offset_of_character(start)
        return begin, begin if end <= start else min(document.length, document.offset_of_character(end - 1) + 1)

    def position_at(self, offset: int) -> int:
        """The token that stands at an offset of the document; the position behind the last one at its end."""
        writing = self._writing
        document, trace, start = writing.document, writing.trace, self._prompt_end
        character = document.character_at(offset)
        if offset >= document.length:
            return self.count
        prompt = len(writing.prompt_tokens)
        if character >= start or not prompt:
            return prompt + min(trace.index_at(character - start), len(trace))
        if self.first:
            return self.first
        low, high = 0, prompt - 1
        while low < high:  # the first token that ends behind the character
            middle = (low + high) // 2
            low, high = (middle + 1, high) if self._end(middle) <= character else (low, middle)
        return low

    def levels(self, start: int, end: int, measure: Measure) -> list[tuple[int, int, int]]:
        """The stretches between two offsets of the document, each with its level; without those of no known level."""

        def level(position: int) -> int | None:
            figures = self.figures(position)
            if figures is None or (measure is not Measure.PROBABILITY and not figures.rank):
                return None  # rank and entropy are told together, or not at all
            return measure.level(figures)

        return self.stretches(start, end, level)

    def stretches(self, start: int, end: int, level: Callable[[int], int | None]) -> list[tuple[int, int, int]]:
        """The offsets between which tokens of one level stand, in order; without those of no level.

        Args:
            start: An offset of the document.
            end: Another; what stands between them is told.
            level: Tells a token's level.
        """
        positions = self._between(start, end)
        ends = self._ends(positions)
        if not ends:
            return []
        document = self._writing.document
        shift = document.offset_of_character(ends[0]) - ends[0]  # characters of marks before it
        is_plain = document.character_at(end) == end - shift
        found: list[tuple[int, int, int]] = []
        for position, first, last in zip(positions, ends, ends[1:], strict=False):
            its_level = level(position) if last > first else None  # half a character is shown by its other half
            if its_level is None:
                continue
            begins, stops = (first + shift, last + shift) if is_plain else self.span(position)
            if found and found[-1][1:] == (begins, its_level):
                found[-1] = found[-1][0], stops, its_level
            else:
                found.append((begins, stops, its_level))
        return found

    def _between(self, start: int, end: int) -> range:
        """The positions of the tokens that stand between two offsets of the document."""
        if end <= start:
            return range(0)
        first = max(self.first, self.position_at(start))
        return range(first, min(self.count, self.position_at(end - 1) + 1))

    def _ends(self, positions: range) -> list[int]:
        """Where the piece before the first of them ends, and then each of theirs, in characters of the text."""
        if not positions:
            return []
        prompt, start = len(self._writing.prompt_tokens), self._prompt_end
        ends = [self._end(positions.start - 1) if positions.start else 0]
        ends += [self._end(position) for position in positions[: max(0, prompt - positions.start)]]
        trace = self._writing.trace.own_ends(max(0, positions.start - prompt), max(0, positions.stop - prompt))
        return ends + [start + end for end in trace]

    def figures(self, position: int) -> Figures | None:
        """What is known of a token; None where nothing is."""
        writing = self._writing
        index = position - len(writing.prompt_tokens)
        if index >= 0:
            figures = Figures(*writing.trace.figures(index)) if index < len(writing.trace) else None
            return None if figures is None or figures.logprob == UNTOLD else figures
        if self.scored is None or position == 0:
            return None
        token = self.scored.tokens[position - 1]
        return Figures(token.logprob, token.rank, token.entropy)

    @property
    def _prompt_end(self) -> int:
        """Characters of the text before the trace."""
        return self._writing.document.character_at(self._writing.text_start)

    def _end(self, position: int) -> int:
        """Where a token's piece ends, in characters of the text."""
        writing = self._writing
        prompt, start = len(writing.prompt_tokens), self._prompt_end
        if position >= prompt:
            return start + writing.trace.own_end(position - prompt)
        if self.scored is not None:
            return self.scored.ends[position]
        return position + 1 if prompt == start else start


@dataclass(frozen=True)
class Heads:
    """What the heads of each layer looked at from one place.

    Attributes:
        window_start: The first position that they see.
        length: How many places they see.
        shares: For each layer, for each head, its share of each place.
    """

    window_start: int
    length: int
    shares: tuple[tuple[tuple[float, ...], ...], ...]

    @property
    def n_layer(self) -> int:
        """Layers."""
        return len(self.shares)

    @property
    def n_head(self) -> int:
        """Heads of each layer."""
        return len(self.shares[0])

    def of(self, layer: int | None, head: int | None) -> tuple[float, ...]:
        """One head's shares, or their mean over a layer (no head) or over all (no layer)."""
        if layer is not None and head is not None:
            return self.shares[layer][head]
        layers = self.shares if layer is None else (self.shares[layer],)
        heads = [shares for shares_of_layer in layers for shares in shares_of_layer]
        return tuple(sum(column) / len(heads) for column in zip(*heads, strict=True))

    def peak(self, layer: int, head: int) -> float:
        """The largest share of a head: 1 where it looks at one place alone."""
        return max(self.shares[layer][head])

    def distance(self, shares: Sequence[float]) -> float:
        """How many tokens back these shares look, on average: 1 is the token before."""
        return sum(share * (self.length - place) for place, share in enumerate(shares))


def heads_of(answer: Inspected, n_layer: int, n_head: int) -> Heads | None:
    """The attention in an answer; None where it has none, or not that of such a model."""
    length = answer.position - answer.window_start
    count = n_layer * n_head * length
    if count <= 0 or len(answer.attention) != 2 * count:
        return None
    values = struct.unpack(f"<{count}e", answer.attention)
    rows = [values[first : first + length] for first in range(0, count, length)]
    layers = tuple(tuple(rows[first : first + n_head]) for first in range(0, len(rows), n_head))
    return Heads(answer.window_start, length, layers)


def strongest(shares: Sequence[float], count: int) -> list[tuple[int, float]]:
    """The places with the largest shares, the largest first."""
    return sorted(enumerate(shares), key=lambda place: (-place[1], -place[0]))[:count]


LOOKED_AT = (0.02, 0.06, 0.12, 0.2, 0.35, 0.5, 0.7, 0.9)
"""From which part of the largest share on a place is shaded so strongly, from weak to strong."""


def shade(share: float, largest: float) -> int:
    """How strongly a place is shaded: 0 is not at all, LEVELS - 1 is the most."""
    return sum(share >= bound * largest for bound in LOOKED_AT) if largest > 0 else 0


def bits(nats: float) -> float:
    """Nats as bits; never below 0."""
    return max(0.0, nats / NATS_PER_BIT)
