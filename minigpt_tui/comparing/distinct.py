"""How much a text repeats itself: distinct-n, the share of its n-grams that are different ones, of words or, where a
text has no words to speak of, of characters. Knows nothing of models or screens.

After Li et al., A Diversity-Promoting Objective Function for Neural Conversation Models (2016). They divide by the
number of words; here it is by the number of n-grams, so that a text without any repetition has 1.00 for every n.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Literal

Unit = Literal["words", "characters"]
SIZES = (1, 2, 3)
"""The n of distinct-n."""

LONGEST_WORDS = 12
"""Where words have more characters than this on average, they are none: the script has no spaces, or it is no prose."""

_WORD = re.compile(r"[\w'’]+|[^\w\s]")
"""A word, or a sign by itself."""


class _Grams:
    """The n-grams of a sequence that grows."""

    def __init__(self) -> None:
        self._seen: list[set[tuple[str, ...]]] = [set() for _ in SIZES]
        self._last: tuple[str, ...] = ()
        self.length = 0

    def add(self, items: Iterable[str]) -> None:
        for item in items:
            self.length += 1
            self._last = (*self._last, item)[-SIZES[-1] :]
            for size, seen in zip(SIZES, self._seen, strict=True):
                if len(self._last) >= size:
                    seen.add(self._last[-size:])

    def shares(self) -> tuple[float, ...]:
        """Of each size: distinct ones over all; 0 where there is none."""
        return tuple(len(seen) / max(1, self.length - size + 1) for size, seen in zip(SIZES, self._seen, strict=True))


class DistinctGrams:
    """The distinct n-grams of one text as it comes."""

    def __init__(self) -> None:
        self._words, self._characters = _Grams(), _Grams()
        self._open = ""  # the beginning of a word that may go on

    def add(self, text: str) -> None:
        """Take in what has come."""
        self._characters.add(text)
        text = self._open + text
        end = max(text.rfind(" "), text.rfind("\n"), text.rfind("\t")) + 1
        self._words.add(_WORD.findall(text[:end]))
        self._open = text[end:]

    def end(self) -> None:
        """Nothing more comes: the last word is whole."""
        self._words.add(_WORD.findall(self._open))
        self._open = ""

    @property
    def words(self) -> int:
        """Words so far."""
        return self._words.length

    @property
    def characters(self) -> int:
        """Characters so far."""
        return self._characters.length

    def shares(self, unit: Unit) -> tuple[float, ...]:
        """Distinct-1, -2 and -3, each from 0 to 1; 0 while there is no such n-gram."""
        return (self._words if unit == "words" else self._characters).shares()


def common_unit(texts: Sequence[DistinctGrams]) -> Unit:
    """What is counted in all of some texts, so that their figures can be compared."""
    words, characters = sum(text.words for text in texts), sum(text.characters for text in texts)
    return "characters" if characters > LONGEST_WORDS * (words + 1) else "words"
