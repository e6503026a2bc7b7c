"""Where two texts part, and where they differ from then on. They are compared place by place, token with token or
character with character, because what is drawn at a place depends on the place: texts that have parted can only come
together again in step. Knows nothing of models or screens.
"""

from __future__ import annotations

from collections.abc import Iterator

from minigpt_tui.writing import Writing

AGREEMENT = 4
"""Once they have parted, texts are the same again where so many characters on end are: a letter or two are chance."""


class Parting:
    """What sets a text apart from another one, found as both are written.

    Attributes:
        first: The offset in the document where it parts from the other; None while it does not.
        other_first: The offset in the other's document of the same place.
        place: How many tokens or characters of the new text the two have in common, once they part.
        spans: From `first` on: where it differs, as (start, end) offsets in order.
        by_token: Whether tokens are compared; else characters.
    """

    def __init__(self, *, by_token: bool) -> None:
        self.by_token = by_token
        self.first: int | None = None
        self.other_first: int | None = None
        self.place = 0
        self.spans: list[tuple[int, int]] = []
        self._compared = 0
        # The offsets of the next place in both documents, once there is one.
        self._mine: int | None = None
        self._other: int | None = None

    def update(self, mine: Writing, start: int, other: Writing, other_start: int) -> int | None:
        """Compare what has come since the last time.

        Args:
            mine: The text.
            start: The offset in its document where the new text begins.
            other: The text that it is compared with.
            other_start: The same of that one.

        Returns:
            The offset from which on the text must be shown anew; None where nothing has changed.
        """
        offset = start if self._mine is None else self._mine
        other_offset = other_start if self._other is None else self._other
        changed: int | None = None
        count = min(self._length(mine, start), self._length(other, other_start))
        pairs = zip(
            self._units(mine, start, offset, count), self._units(other, other_start, other_offset, count), strict=True
        )
        for (unit, end), (other_unit, other_end) in pairs:
            if unit != other_unit:
                since = self._differ(offset, end, other_offset)
                changed = since if changed is None else min(changed, since)
            offset, other_offset = end, other_end
            self._compared += 1
        self._mine, self._other = offset, other_offset
        ended = self._see_end(mine, self._length(mine, start) - count, other, self._length(other, other_start) - count)
        found = [offset for offset in (changed, ended) if offset is not None]
        return min(found, default=None)

    def _see_end(self, mine: Writing, ahead: int, other: Writing, other_ahead: int) -> int | None:
        """Where one has ended by itself and the other goes on, they part there, or differ from there on."""
        if self._mine is None or self._other is None:
            return None
        end = mine.document.length
        if other.finish_reason == "stop" and ahead:
            seen = max(self._mine, self.spans[-1][1] if self.spans else 0)
            return self._differ(seen, end, self._other) if seen < end else None
        if mine.finish_reason == "stop" and other_ahead and self.first is None:
            self.first, self.other_first, self.place = self._mine, self._other, self._compared
            return self.first
        return None

    def _differ(self, start: int, end: int, other_start: int) -> int:
        """Note that the texts differ there; returns from which offset on that is new."""
        if self.first is None:
            self.first, self.other_first, self.place = start, other_start, self._compared
        if self.spans and start - self.spans[-1][1] < AGREEMENT:
            began, since = self.spans[-1]
            self.spans[-1] = (began, max(since, end))
            return since
        self.spans.append((start, end))
        return start

    def _length(self, writing: Writing, start: int) -> int:
        """How many tokens or characters there are to compare."""
        return len(writing.trace) if self.by_token else writing.document.length - start

    def _units(self, writing: Writing, start: int, offset: int, count: int) -> Iterator[tuple[str | int, int]]:
        """What is compared, from the first that was not yet, each with the offset of its end."""
        if not self.by_token:
            for character in writing.document.text_between(offset, start + count):
                offset += 1
                yield character, offset
            return
        first, trace = self._compared, writing.trace
        for index, token in enumerate(trace.ids()[first:count], first):
            yield token, start + trace.own_end(index)
