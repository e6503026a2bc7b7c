"""What was known of each token as it was drawn, kept in arrays so that an endless text stays small: id, logprob, where
its text ends, and the likeliest tokens. Knows nothing of the screen.
"""

from __future__ import annotations

from array import array

from engine.inference.stream import Alternative, Token

ALTERNATIVES = 8
"""How many of the likeliest tokens are kept for each."""

ALTERNATIVES_KEPT = 200_000
"""Of how many tokens, counted from the end, the alternatives are kept (about 20 MB)."""

_NONE = -1


class TokenTrace:
    """The tokens written so far, in order, from position `first_position` on."""

    def __init__(self, first_position: int = 0) -> None:
        self.first_position = first_position
        self._ids = array("i")
        self._logprobs = array("f")
        self._ends = array("q")
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
        self._ends.append(end)
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

    def ids(self) -> list[int]:
        """The token ids in order."""
        return self._ids.tolist()

    def end(self, index: int) -> int:
        """The offset in the document where a token's text ends."""
        return self._ends[index]

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
        )
