"""From token ids to the text that a reader sees: whole characters, held back while a stop string may be forming.
Knows nothing of torch, nor of where the tokens come from.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence

import msgspec

UNTOLD = 1.0
"""Stands for a logprob that is not known: an engine of ours tells all of them, a server may tell none."""


class Alternative(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A token that could have come here.

    Attributes:
        token: Its id.
        text: Its own text (control characters are not yet made visible).
        logprob: Natural log of its probability in the model's own distribution, before all filters.
        drawn: Its probability after temperature and filters; 0 where they cut it.
    """

    token: int
    text: str
    logprob: float
    drawn: float = 0.0


class Token(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One token that was written.

    Attributes:
        token: Its id.
        position: Its index from the start of the prompt.
        text: The text that it releases: whole characters, held back while a stop string may be forming, so at
            times empty and at times more than the token's own. These joined are the text.
        piece: The token's own text.
        logprob: Of the model's own distribution, before the filters; at most 0, or UNTOLD.
        top: The likeliest tokens here, when alternatives were asked for.
        rank: Of the token in the model's own distribution, from 1, when alternatives were asked for; else 0.
        entropy: Of that distribution in nats, when alternatives were asked for.
    """

    token: int
    position: int
    text: str
    piece: str
    logprob: float
    top: tuple[Alternative, ...] = ()
    rank: int = 0
    entropy: float = 0.0


class ScoredToken(msgspec.Struct, frozen=True, omit_defaults=True):
    """One token of a scored text: its own text, its logprob in nats (at most 0), its rank from 1, the entropy in nats
    of the distribution that it is one of, and the likeliest tokens of that, when alternatives were asked for.
    """

    text: str
    logprob: float
    rank: int
    entropy: float = 0.0
    top: tuple[Alternative, ...] = ()


class TextStream:
    """Joins the bytes of tokens into whole characters, and ends the text before a stop string.

    Bytes that are no UTF-8 become U+FFFD. A stop string is found wherever it begins in the new text ("aab" in
    "aaab"), also across tokens; what could be its beginning is held back until it is clear that it is not. What stood
    before the new text is no part of it: a stop string must begin in the new text.
    """

    def __init__(self, stop: Sequence[str] = (), after: bytes = b"") -> None:
        """Begin.

        Args:
            stop: The strings that end the text.
            after: Bytes before the new text that begin a character which its first bytes will end.
        """
        self._held = ""
        self._open = b""  # bytes that begin a character
        self._decode(after)
        self.stop = tuple(stop)
        self.stopped = False

    def push(self, data: bytes) -> str:
        """Add a token's bytes and return the text that is now certain; sets `stopped` when a stop string ended it."""
        return self._release(self._decode(data))

    def stops_in(self, data: bytes) -> bool:
        """Whether a stop string will have come when these bytes have."""
        if not self.stop:
            return False
        text = self._held + codecs.utf_8_decode(self._open + data, "replace")[0]
        return any(string in text for string in self.stop)

    def close(self) -> str:
        """End the stream and return what was held back; a half character comes out as U+FFFD."""
        if self.stopped:
            return ""
        text = self._release(self._open.decode("utf-8", "replace"))
        text, self._held, self._open = text + self._held, "", b""
        return text

    def _decode(self, data: bytes) -> str:
        data = self._open + data
        new, used = codecs.utf_8_decode(data, "replace")
        self._open = data[used:]
        return new

    def _release(self, new: str) -> str:
        if self.stopped:
            return ""
        text = self._held + new
        if not self.stop:
            self._held = ""
            return text
        ends = [place for string in self.stop if (place := text.find(string)) >= 0]
        if ends:
            self.stopped, self._held = True, ""
            return text[: min(ends)]
        keep = max(_overlap(text, string) for string in self.stop)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]


def _overlap(text: str, string: str) -> int:
    """Length of the longest end of `text` that is a beginning of `string`, and shorter than it."""
    for length in range(min(len(text), len(string) - 1), 0, -1):
        if text.endswith(string[:length]):
            return length
    return 0
