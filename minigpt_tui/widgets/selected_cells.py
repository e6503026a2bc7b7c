"""Selected cells of a row take the selection's colours. Knows nothing of what is selected."""

from __future__ import annotations

from collections.abc import Iterable

from rich.segment import Segment
from rich.style import Style


def with_selection(segments: Iterable[Segment], span: tuple[int, int], chosen: Style) -> list[Segment]:
    """A row whose selected characters have another style.

    Args:
        segments: The row.
        span: The first selected character and the one behind the last; -1 for the row's end.
        chosen: What is laid over their style.
    """
    (start, end), place = span, 0
    found = []
    for text, style, _ in segments:
        first = min(max(start - place, 0), len(text))
        last = len(text) if end < 0 else min(max(end - place, first), len(text))
        for part, part_style in (
            (text[:first], style),
            (text[first:last], style + chosen if style else chosen),
            (text[last:], style),
        ):
            if part:
                found.append(Segment(part, part_style))
        place += len(text)
    return found
