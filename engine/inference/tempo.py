"""How many rows to read at once: measured as it goes, from what a pass costs and how often guesses come true. It knows
nothing of models, nor of what is guessed.
"""

from __future__ import annotations

from collections.abc import Sequence

FIRST_HOPE = 0.7
"""The share of guesses that come true, before any was made."""

ROW_COST = 0.02
"""What a row adds to a pass, as a share of the pass, before it was measured."""

SLOWNESS = 0.1
"""By this share a new measurement moves the old ones."""

TRY_AGAIN = 200
"""After so many passes a choice that was given up is measured again: what else the machine does changes."""


class Hope:
    """How often the guesses of one text come true."""

    def __init__(self) -> None:
        self.share = FIRST_HOPE

    def see(self, came_true: int, guessed: int) -> None:
        """Take in how many guesses of a pass came true before the first that did not."""
        for place in range(min(guessed, came_true + 1)):
            self.share += SLOWNESS / 2 * ((place < came_true) - self.share)

    def tokens(self, rows: int) -> float:
        """How many tokens a pass of so many rows brings, one row being no guess."""
        share = min(self.share, 0.999)
        return float((1 - share**rows) / (1 - share))


class Tempo:
    """What passes cost."""

    def __init__(self) -> None:
        self._seconds: dict[int, float] = {}
        self._tried: dict[int, int] = {}
        self._passes = 0

    def see(self, rows: int, seconds: float) -> None:
        """Take in what a pass of so many rows took."""
        before = self._seconds.get(rows, seconds)
        # what else the machine does can only make it longer, so a longer one counts for less
        self._seconds[rows] = before + (SLOWNESS if seconds > before else 3 * SLOWNESS) * (seconds - before)
        self._tried[rows] = self._passes

    def choose(self, choices: Sequence[int], hopes: Sequence[Hope]) -> int:
        """How many rows to read of each text: as brings most tokens in a second.

        Args:
            choices: Possible numbers of rows, the least first.
            hopes: Of each text.
        """
        self._passes += 1
        if len(choices) == 1:
            return choices[0]
        count = len(hopes)
        for rows in choices:
            known = rows * count in self._seconds
            if known and self._passes - self._tried[rows * count] > TRY_AGAIN:
                return rows
        return max(choices, key=lambda rows: sum(hope.tokens(rows) for hope in hopes) / self._cost(rows * count))

    def _cost(self, rows: int) -> float:
        """Seconds of a pass, measured, or reckoned from the nearest that was."""
        if rows in self._seconds:
            return self._seconds[rows]
        if not self._seconds:
            return 1 + ROW_COST * rows
        near = min(self._seconds, key=lambda other: abs(other - rows))
        return self._seconds[near] * (1 + ROW_COST * rows) / (1 + ROW_COST * near)
