"""What is marked in a column's text: where it parts from others, and what it shares with the first. Plain data."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Mark = Literal["same", "parting"]


@dataclass(frozen=True)
class Marks:
    """Marks of one text, by the offsets of its document.

    Attributes:
        partings: Of the characters where it parts from another.
        new_from: Where the new text begins, of which all that does not differ is the same; None where nothing is.
        differing: Where it differs, as (start, end) in order; the list may grow.
    """

    partings: tuple[int, ...] = ()
    new_from: int | None = None
    differing: Sequence[tuple[int, int]] = ()

    def stretches(self, start: int, end: int, *, is_last: bool) -> list[tuple[int, int, Mark]]:
        """The marks of a row.

        Args:
            start: The offset of its first character.
            end: Behind its last one.
            is_last: Whether the text ends with it: a text that ends where the other goes on parts there.

        Returns:
            Each mark as (start, end, what), from the row's first character on; the later ones lie over the earlier.
        """
        found: list[tuple[int, int, Mark]] = []
        if self.new_from is not None:
            place = max(start, self.new_from)
            for first, last in self.differing[max(0, bisect_right(self.differing, (place, place)) - 1) :]:
                if first >= end:
                    break
                if first > place:
                    found.append((place, first, "same"))
                place = max(place, last)
            if place < end:
                found.append((place, end, "same"))
        found += [(place, place + 1, "parting") for place in self.partings if start <= place < end + is_last]
        return [(first - start, last - start, what) for first, last, what in found]
