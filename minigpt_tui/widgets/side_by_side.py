"""Lines of a panel as one text: below each other, or in two columns where the panel is wide. Plain functions."""

from __future__ import annotations

from collections.abc import Sequence

from textual.content import Content

WIDE = 52
"""From so many cells on there are two columns."""

GAP = 3


def fitted(line: Content, width: int) -> Content:
    """A line in exactly so many cells."""
    if line.cell_length > width:
        line = line.truncate(width, ellipsis=True)
    return line + " " * max(0, width - line.cell_length)


def in_columns(left: Sequence[Content], right: Sequence[Content], left_width: int, width: int) -> list[Content]:
    """Two columns of lines; the right one has what is left of the width."""
    rows = max(len(left), len(right))
    empty = Content("")
    return [
        fitted(left[row] if row < len(left) else empty, left_width)
        + " " * GAP
        + fitted(right[row] if row < len(right) else empty, max(1, width - left_width - GAP))
        for row in range(rows)
    ]


def percent(share: float) -> str:
    """A share from 0 to 1 with about three digits, such as `41.2 %`, `0.31 %` or `<0.01 %`."""
    hundredths = share * 100
    if hundredths >= 99.95 or hundredths == 0:
        return f"{hundredths:.0f} %"
    if hundredths >= 10:
        return f"{hundredths:.1f} %"
    return f"{hundredths:.2f} %" if hundredths >= 0.01 else "<0.01 %"
