"""Guesses what a model will draw next, in microseconds, from the noise that the model will draw with. A wrong guess
costs time and changes nothing, as each is checked. Token ids in, token ids out; it knows nothing of models or torch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Generic, TypeVar

from engine.inference.draft_table import Array, Candidates, DraftTable, id_bits

MATCH_BITS = 56
"""The latest tokens are looked up in the text itself when as many of them as hold so much have been there before: eight
characters. In shorter ones what a training text says is right more often."""

LEAST_MATCH, LONGEST_MATCH = 3, 64
"""Tokens of a match, whatever the vocabulary; how far back it is followed."""

REMEMBERED = 1 << 13
"""Places of a text, and contexts in it, that are remembered: so many for certain, twice as many at most."""

UNKNOWN_BITS = 20
"""For an id, where no table tells how large they are."""

COUNTED = 3
"""Tokens of the longest contexts that are counted in a text for which there is no table."""

DISCOUNT = 0.75
"""Taken off each of those counts, for what the shorter contexts say."""

ENOUGH = 0.2
"""With no more than this left to say, the shorter ones are not asked."""


Value = TypeVar("Value")


class Draft:
    """Guesses for one text: by a table of what follows what, or else by counts of the text itself, and wherever the
    text repeats itself at length by what followed the last time.
    """

    def __init__(self, table: DraftTable | None, tokens: Sequence[int]) -> None:
        """Prepare.

        Args:
            table: Of the model; without one the text alone is learned from.
            tokens: The text so far.
        """
        source = table or _Counts()
        self._counts = source if isinstance(source, _Counts) else None
        self._candidates, self._bits, longest = source.candidates, source.bits, source.longest
        self._match = match_length(table.vocab_size if table else max(tokens, default=0) + 1)
        self._context_mask = (1 << longest * self._bits) - 1
        self._match_mask = (1 << self._match * self._bits) - 1
        self._width = max(longest, self._match)
        self._places = _Recent[int]()  # by the tokens before a place, the latest such place
        self._learned = 0  # tokens of the text that it has learned from
        self._learn(tokens)

    def guess(
        self, tokens: Sequence[int], noise: Sequence[Sequence[float]] | Array, temperature: float, count: int
    ) -> list[int]:
        """What the model will draw, as far as there is an idea of it.

        Args:
            tokens: The text so far: that of the last call with more behind it, or cut short.
            noise: For each guess the noise of its place, with a number for each id; not looked at where the
                temperature is 0.
            temperature: What the model's logits are divided by; 0 is greedy.
            count: How many guesses are wanted.

        Returns:
            `count` ids, or fewer.
        """
        context, end, guesses = self._learn(tokens), len(tokens), list[int]()
        place, length = self._repeated(tokens, context)
        scale = 1.0 / temperature if temperature else 1.0
        for number in range(count):
            ids, logarithms = self._candidates(context & self._context_mask)
            row = noise[number] if temperature else None
            token, best, follows = -1, -math.inf, -1
            if row is not None:
                for id, logarithm in zip(ids, logarithms):  # noqa: B905 - to have it look whether they fit takes time
                    if (value := logarithm * scale + row[id]) > best:
                        token, best = id, value
            elif ids:
                best = max(logarithms)
                token = ids[logarithms.index(best)]
            if place >= 0:
                follows = tokens[place] if place < end else guesses[place - end]
                share = math.exp(logarithms[ids.index(follows)]) if follows in ids else 0.0
                value = math.log(share + 2.0 * length / self._match - 1.0) * scale  # the longer, the surer
                if (value if row is None else value + row[follows]) > best:
                    token = follows
            if token < 0:
                break
            guesses.append(token)
            context = context << self._bits | token
            if token == follows:
                place, length = place + 1, min(length + 1, LONGEST_MATCH)
            else:
                place, length = self._places.get(context & self._match_mask, -1), self._match
                place = place if place < end else -1
        return guesses

    def _learn(self, tokens: Sequence[int]) -> int:
        """Take in what is new of a text, of a long one its end.

        Returns:
            The latest tokens, packed.
        """
        end, context = len(tokens), 0
        begin = max(min(self._learned, end), end - REMEMBERED)
        for token in tokens[max(0, begin - self._width) : begin]:
            context = context << self._bits | token
        for place in range(begin, end):
            if place >= self._match:
                self._places.put(context & self._match_mask, place)
            if self._counts:
                self._counts.add(context & self._context_mask, tokens[place])
            context = (context << self._bits | tokens[place]) & (self._context_mask | self._match_mask)
        self._learned = end
        return context

    def _repeated(self, tokens: Sequence[int], context: int) -> tuple[int, int]:
        """Behind which earlier tokens the text stands now, or -1, and how many they are."""
        end, length = len(tokens), 0
        place = self._places.get(context & self._match_mask, -1)
        if not 0 <= place < end:  # what was cut off may be remembered still
            return -1, 0
        while length < min(place, LONGEST_MATCH) and tokens[place - 1 - length] == tokens[end - 1 - length]:
            length += 1
        return (place, length) if length >= self._match else (-1, 0)


def match_length(vocab_size: int) -> int:
    """Tokens of a match."""
    return max(LEAST_MATCH, MATCH_BITS // id_bits(vocab_size))


class _Recent(Generic[Value]):
    """A dictionary that forgets what was not met for long."""

    def __init__(self) -> None:
        self._young: dict[int, Value] = {}
        self._old: dict[int, Value] = {}

    def get(self, key: int, default: Value) -> Value:
        found = self._young.get(key)
        return self._old.get(key, default) if found is None else found

    def put(self, key: int, value: Value) -> None:
        if len(self._young) >= REMEMBERED:
            self._old, self._young = self._young, {}
        self._young[key] = value


class _Counts:
    """What followed the latest tokens in the text itself, told as a table tells it.

    Attributes:
        longest: Tokens of the longest contexts that are counted.
        bits: Of an id in a packed context.
    """

    longest, bits = COUNTED, UNKNOWN_BITS

    def __init__(self) -> None:
        self._met = _Recent[dict[int, int]]()
        self._tags = [1 << length * self.bits for length in range(self.longest, 0, -1)]  # make keys of a length its own

    def add(self, context: int, token: int) -> None:
        """Count a token behind the latest ones, packed."""
        for tag in self._tags:
            key = context & tag - 1 | tag
            counts = self._met.get(key, NOTHING) or {}
            counts[token] = counts.get(token, 0) + 1
            self._met.put(key, counts)

    def candidates(self, context: int) -> Candidates:
        """As `DraftTable.candidates`; in no order."""
        shares: dict[int, float] = {}
        rest = 1.0
        for tag in self._tags:
            if counts := self._met.get(context & tag - 1 | tag, NOTHING):
                each = rest / sum(counts.values())
                for token, count in counts.items():
                    shares[token] = shares.get(token, 0.0) + each * (count - DISCOUNT)
                rest = each * DISCOUNT * len(counts)
                if rest < ENOUGH:
                    break
        return tuple(shares), tuple(map(math.log, shares.values()))


NOTHING: dict[int, int] = {}
"""What is known of a context that was never met."""
