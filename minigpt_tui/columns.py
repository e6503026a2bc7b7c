"""Rows of words as aligned columns, for results that are read by people. Knows nothing of what they say."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len

from minigpt_tui.visible import visible_line


def columns(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> list[str]:
    """Align rows of equal length; two spaces stand between columns, and nothing is cut.

    Args:
        rows: The words, as strings.
        right: Which columns are aligned at their right edge, as numbers are.
    """
    cleaned = [[visible_line(cell) for cell in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(*cleaned, strict=True)]
    lines = []
    for row in cleaned:
        cells = []
        for place, (cell, width) in enumerate(zip(row, widths, strict=True)):
            space = " " * (width - cell_len(cell))
            cells.append(space + cell if place in right else cell + space)
        lines.append("  ".join(cells).rstrip())
    return lines


def count(number: int) -> str:
    """A large number in three or four characters, such as 3.2M."""
    for unit, size in (("B", 10**9), ("M", 10**6), ("K", 10**3)):
        if number >= size:
            return f"{number / size:.{1 if number < 100 * size else 0}f}{unit}"
    return str(number)


def size(number: int) -> str:
    """A size in bytes as it is read, such as 12.7 MB."""
    for unit, bytes_ in (("GB", 10**9), ("MB", 10**6), ("KB", 10**3)):
        if number >= bytes_:
            return f"{number / bytes_:.1f} {unit}"
    return f"{number} bytes"
