"""How many rows to read at once: measured as it goes, from what a pass costs and how often guesses come true. It knows
nothing of models, nor of what is guessed.
"""

from __future__ import annotations

from collections.abc import Sequence

FIRST_HOPE = 0.7
"""The share of guesses that come true, before any was made."""

ROW_COST = 0.02
"""What a row of each text adds to a pass, as a share of the pass, before any was measured."""

SLOWNESS = 0.1
"""By this share a new measurement moves the old ones."""

OF_ALL_SLOWNESS = 0.005
"""By this share a guess moves what is known of all texts of a model."""

FIRST_PASSES = 3
"""So many passes of a size are made before it is judged, by the shortest: the first of a size are often slow."""

MOST_SLOWER = 1.5
"""No pass counts as more than so many times what was measured before: the machine was slow, or Python's collector at
work, and a choice that is given up for that would be measured again long after."""

TRY_AGAIN = 200
"""After so many passes a choice that was given up is measured again: what else the machine does changes."""


class Hope:
    """How often the guesses of one text come true."""

    def __init__(self, of_all: Hope | None = None) -> None:
        """Prepare.

        Args:
            of_all: What is known of the model's texts so far: what to begin with, and told of what this text sees.
        """
        self._of_all = of_all
        self.share: float = of_all.share if of_all else FIRST_HOPE

    def see(self, came_true: int, guessed: int, slowness: float = SLOWNESS / 2) -> None:
        """Take in how many guesses of a pass came true before the first that did not.

        Args:
            came_true: So many.
            guessed: Of so many.
            slowness: By this share of each guess is moved what was known.
        """
        for place in range(min(guessed, came_true + 1)):
            self.share += slowness * ((place < came_true) - self.share)
        if self._of_all:
            self._of_all.see(came_true, guessed, OF_ALL_SLOWNESS)

    def tokens(self, rows: int) -> float:
        """How many tokens a pass of so many rows brings, one row being no guess."""
        share = min(self.share, 0.999)
        return float((1 - share**rows) / (1 - share))


class Tempo:
    """What passes cost: by how many rows of each text they read, and about how many texts they were of. A pass of twice
    the texts is another thing; one of a few more is much the same for each of them.

    Attributes:
        hope: Of all texts of the model.
    """

    def __init__(self) -> None:
        self.hope = Hope()
        self._seconds: dict[tuple[int, int], float] = {}  # for each text
        self._tried: dict[tuple[int, int], int] = {}
        self._times: dict[tuple[int, int], int] = {}
        self._passes = 0

    def see(self, rows: int, seconds: float, texts: int = 1) -> None:
        """Take in what a pass took.

        Args:
            rows: Of each text, as they could be chosen.
            seconds: All of it.
            texts: How many it was of.
        """
        key, each = (rows, texts.bit_length()), seconds / texts
        before = self._seconds.get(key, each)
        self._times[key] = self._times.get(key, 0) + 1
        # what else the machine does can only make it longer, so a longer one counts for less
        each = min(each, MOST_SLOWER * before)
        up, down = (SLOWNESS, 3 * SLOWNESS) if self._times[key] > FIRST_PASSES else (0.0, 1.0)
        self._seconds[key] = before + (up if each > before else down) * (each - before)
        self._tried[key] = self._passes

    def choose(self, choices: Sequence[int], hopes: Sequence[Hope]) -> int:
        """How many rows to read of each text: as brings most tokens in a second.

        Args:
            choices: Possible numbers of rows, the least first.
            hopes: Of each text.
        """
        self._passes += 1
        if len(choices) == 1:
            return choices[0]
        size = len(hopes).bit_length()
        for rows in choices:
            times = self._times.get((rows, size), 0)
            if times and (times < FIRST_PASSES or self._passes - self._tried[rows, size] > TRY_AGAIN):
                return rows
        return max(choices, key=lambda rows: sum(hope.tokens(rows) for hope in hopes) / self._cost(rows, size))

    def _cost(self, rows: int, size: int) -> float:
        """Seconds of a pass for each text, measured, or the least that it may be by those that were, so that it is
        tried.
        """
        if (rows, size) in self._seconds:
            return self._seconds[rows, size]
        measured = sorted(other for other, texts in self._seconds if texts == size)
        if not measured:
            return 1 + ROW_COST * rows
        if fewer := [other for other in measured if other < rows]:  # more rows are no quicker
            return self._seconds[fewer[-1], size]
        return self._seconds[measured[0], size] * rows / measured[0]  # each row may cost as much as the next
