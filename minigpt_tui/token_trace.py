"""What was known of each token as it was drawn, kept in arrays so that an endless text stays small: id, logprob, rank,
entropy, where its text ends, and the likeliest tokens. Knows nothing of the screen.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right

from engine.inference.stream import Alternative, Token
from minigpt_tui.text_part import TracePart

ALTERNATIVES = 8
"""How many of the likeliest tokens are kept for each."""

ALTERNATIVES_KEPT = 200_000
"""Of how many tokens, counted from the end, the alternatives are kept (about 20 MB)."""

_NONE = -1
_HALF = "\ufffd"  # stands in a piece for half a character


class TokenTrace:
    """The tokens written so far, in order, from position `first_position` on."""

    def __init__(self, first_position: int = 0) -> None:
        self.first_position = first_position
        self._ids = array("i")
        self._logprobs = array("f")
        self._ranks = array("i")
        self._entropies = array("f")
        self._ends = array("q")
        self._own_ends = array("q")
        self._released = 0
        self._pieces: dict[int, str] = {}
        # The alternatives of the last tokens, ALTERNATIVES each, filled up with id _NONE.
        self._top_ids = array("i")
        self._top_logprobs = array("f")
        self._top_drawn = array("f")
        self._top_dropped = 0  # tokens whose alternatives were let go

    def __len__(self) -> int:
        return len(self._ids)

    def append(self, token: Token, end: int) -> None:
        """Add a token.

        Args:
            token: As the engine reported it.
            end: The offset in the document where the text that it released ends.
        """
        self._ids.append(token.token)
        self._logprobs.append(token.logprob)
        self._ranks.append(token.rank)
        self._entropies.append(token.entropy)
        self._ends.append(end)
        self._released += len(token.text)
        before = self._text_end
        # How many characters come of half ones is known when they have come.
        half = _HALF in token.piece
        self._own_ends.append(max(before, self._released) if half else before + len(token.piece))
        self._pieces.setdefault(token.token, token.piece)
        top = token.top[:ALTERNATIVES]
        for alternative in top:
            self._top_ids.append(alternative.token)
            self._top_logprobs.append(alternative.logprob)
            self._top_drawn.append(alternative.drawn)
            if alternative.token not in self._pieces:
                self._pieces[alternative.token] = alternative.text
        for _ in range(ALTERNATIVES - len(top)):
            self._top_ids.append(_NONE)
            self._top_logprobs.append(0.0)
            self._top_drawn.append(0.0)
        if len(self._top_ids) > 2 * ALTERNATIVES_KEPT * ALTERNATIVES:
            for kept in (self._top_ids, self._top_logprobs, self._top_drawn):
                del kept[: ALTERNATIVES_KEPT * ALTERNATIVES]
            self._top_dropped += ALTERNATIVES_KEPT

    @property
    def _text_end(self) -> int:
        return self._own_ends[-1] if self._own_ends else 0

    def show_held(self) -> None:
        """What was held back of the text is shown now."""
        self._released = max(self._released, self._text_end)

    def truncate(self, count: int) -> None:
        """Keep the first `count` tokens alone."""
        del self._ids[count:], self._logprobs[count:], self._ends[count:]
        del self._ranks[count:], self._entropies[count:], self._own_ends[count:]
        self._released = self._text_end
        kept = max(0, count - self._top_dropped) * ALTERNATIVES
        del self._top_ids[kept:], self._top_logprobs[kept:], self._top_drawn[kept:]
        self._top_dropped = min(self._top_dropped, count)

    def part(self, first: int, offset: int, *, alternatives: bool = True) -> TracePart:
        """The tokens from index `first` on, at rest; their ends are counted from `offset`."""
        top = max(0, first - self._top_dropped) * ALTERNATIVES if alternatives else len(self._top_ids)
        ids, top_ids = self._ids[first:], self._top_ids[top:]
        few = len(ids) + len(top_ids) < 100 * len(self._pieces)  # else all pieces are less to look through
        before = self._own_ends[first - 1] if first else 0
        return TracePart(
            ids=ids.tobytes(),
            logprobs=self._logprobs[first:].tobytes(),
            ranks=self._ranks[first:].tobytes(),
            entropies=self._entropies[first:].tobytes(),
            ends=array("i", [end - offset for end in self._ends[first:]]).tobytes(),
            own_ends=array("i", [end - before for end in self._own_ends[first:]]).tobytes(),
            pieces={id: self._pieces[id] for id in {*ids, *top_ids} - {_NONE}} if few else dict(self._pieces),
            top_ids=top_ids.tobytes(),
            top_logprobs=self._top_logprobs[top:].tobytes(),
            top_drawn=self._top_drawn[top:].tobytes(),
        )

    def extend(self, part: TracePart, offset: int, count: int | None = None) -> None:
        """Add the first `count` tokens of a part, or all; its text begins at `offset`."""
        count = len(part) if count is None else min(count, len(part))
        self._ids.frombytes(part.ids[: 4 * count])
        self._logprobs.frombytes(part.logprobs[: 4 * count])
        self._ranks.frombytes(part.ranks[: 4 * count])
        self._entropies.frombytes(part.entropies[: 4 * count])
        self._ends.extend([offset + end for end in memoryview(part.ends).cast("i")[:count]])
        before = self._text_end
        self._own_ends.extend([before + end for end in memoryview(part.own_ends).cast("i")[:count]])
        self._released = self._text_end
        for id, piece in part.pieces.items():
            self._pieces.setdefault(id, piece)
        known = len(part.top_ids) // 4 // ALTERNATIVES  # of the part's last tokens
        here = max(0, count - (len(part) - known))
        if here < count:  # what is kept is that of the last tokens, without a gap
            self._top_ids, self._top_logprobs, self._top_drawn = array("i"), array("f"), array("f")
            self._top_dropped = len(self._ids) - here
        self._top_ids.frombytes(part.top_ids[: 4 * here * ALTERNATIVES])
        self._top_logprobs.frombytes(part.top_logprobs[: 4 * here * ALTERNATIVES])
        self._top_drawn.frombytes(part.top_drawn[: 4 * here * ALTERNATIVES])

    def ids(self) -> list[int]:
        """The token ids in order."""
        return self._ids.tolist()

    def end(self, index: int) -> int:
        """The offset in the document where a token's text ends."""
        return self._ends[index]

    def own_end(self, index: int) -> int:
        """Where a token's own piece ends, counted in characters from the first token's beginning, without marks.

        The piece may not be shown yet, or never be, where it belongs to a stop string.
        """
        return self._own_ends[index]

    def own_ends(self, first: int, last: int) -> list[int]:
        """The same for the tokens from one index to another."""
        return self._own_ends[first:last].tolist()

    def index_at(self, character: int) -> int:
        """The token whose own piece holds a character, counted like these; the number of tokens, where none does."""
        return bisect_right(self._own_ends, character)

    def figures(self, index: int) -> tuple[float, int, float]:
        """A token's logprob, its rank (0 where it was not told) and its entropy."""
        return self._logprobs[index], self._ranks[index], self._entropies[index]

    def token(self, index: int) -> Token:
        """A token as it was reported, but for `text` (the document has it) and alternatives let go long ago."""
        index = range(len(self._ids))[index]
        first = (index - self._top_dropped) * ALTERNATIVES
        top = tuple(
            Alternative(
                token=self._top_ids[place],
                text=self._pieces[self._top_ids[place]],
                logprob=self._top_logprobs[place],
                drawn=self._top_drawn[place],
            )
            for place in (range(first, first + ALTERNATIVES) if first >= 0 else ())
            if self._top_ids[place] != _NONE
        )
        token = self._ids[index]
        return Token(
            token=token,
            position=self.first_position + index,
            text="",
            piece=self._pieces[token],
            logprob=self._logprobs[index],
            top=top,
            rank=self._ranks[index],
            entropy=self._entropies[index],
        )
