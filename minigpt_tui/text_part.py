"""A stretch of a text at rest: its characters and their kinds, its tokens and the settings they were drawn with. It
never changes, so that branches can share it and a thread can write it to disk. Knows nothing of trees, nor of screens.
"""

from __future__ import annotations

import msgspec

from engine.worker.protocol import ParamsAt


class TracePart(msgspec.Struct, frozen=True, array_like=True):
    """Tokens of a trace, in the machine's own byte order.

    Attributes:
        ids: Four bytes each.
        logprobs: Four bytes each.
        ranks: Four bytes each.
        entropies: Four bytes each.
        own_ends: Where the own piece of each ends, four bytes each, counted in characters from the end of the piece
            before the part.
        ends: Where the text of each ends, four bytes each, counted from the part's first character.
        pieces: The texts of these ids, and of the alternatives.
        top_ids: The likeliest tokens in the place of the last ones, ALTERNATIVES of four bytes for each.
        top_logprobs: Theirs.
        top_drawn: Their probabilities after the filters.
    """

    ids: bytes = b""
    logprobs: bytes = b""
    ends: bytes = b""
    pieces: dict[int, str] = {}
    top_ids: bytes = b""
    top_logprobs: bytes = b""
    top_drawn: bytes = b""
    ranks: bytes = b""
    entropies: bytes = b""
    own_ends: bytes = b""

    def __len__(self) -> int:
        return len(self.ids) // 4


class Part(msgspec.Struct, frozen=True, array_like=True):
    """A stretch of a text.

    Attributes:
        texts: What stands there, each piece with its kind; marks included.
        trace: The tokens.
        settings: Which settings hold from which position on, positions counted from the start of the whole text.
    """

    texts: tuple[tuple[str, int], ...] = ()
    trace: TracePart = TracePart()
    settings: tuple[ParamsAt, ...] = ()

    @property
    def length(self) -> int:
        """Characters, marks included."""
        return sum(len(text) for text, _ in self.texts)

    @property
    def weight(self) -> int:
        """About how many bytes it takes, alternatives aside."""
        return 2 * self.length + 24 * len(self.trace) + 12 * len(self.trace.pieces) + 200 * len(self.settings)

    def without_alternatives(self) -> Part:
        """The same without what could have come in the place of its tokens, which is most of it."""
        trace = self.trace
        if not trace.top_ids:
            return self
        ids = set(memoryview(trace.ids).cast("i"))
        pieces = {id: piece for id, piece in trace.pieces.items() if id in ids}
        bare = msgspec.structs.replace(trace, pieces=pieces, top_ids=b"", top_logprobs=b"", top_drawn=b"")
        return Part(self.texts, bare, self.settings)
