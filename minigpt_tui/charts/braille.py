"""Dots on a grid of braille characters, two wide and four high in each. A cell shows the dots of one curve alone, the
one that was drawn last, so that its colour never lies. Knows nothing of what is drawn.
"""

from __future__ import annotations

DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""The bit of each dot in a braille character, by row and column."""

EMPTY = -1
"""Whose dots are in a cell without any."""


class Braille:
    """A grid of cells.

    Args:
        width: Cells in a row.
        height: Rows of cells.

    Attributes:
        owners: For each row, whose dots are in each cell.
    """

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._bits = [[0] * width for _ in range(height)]
        self.owners = [[EMPTY] * width for _ in range(height)]

    def dot(self, x: int, y: int, owner: int) -> None:
        """Set a dot; what is outside the grid is left out.

        Args:
            x: From the left, in dots.
            y: From the top, in dots.
            owner: Whose it is.
        """
        column, row = x >> 1, y >> 2
        if not (0 <= column < self.width and 0 <= row < self.height):
            return
        if self.owners[row][column] != owner:
            self.owners[row][column] = owner
            self._bits[row][column] = 0
        self._bits[row][column] |= DOTS[y & 3][x & 1]

    def line(self, x0: int, y0: int, x1: int, y1: int, owner: int, pattern: tuple[int, int] = (1, 0)) -> None:
        """Join two dots.

        Args:
            x0: Of the first dot.
            y0: Of the first dot.
            x1: Of the second dot, not left of the first.
            y1: Of the second dot.
            owner: Whose it is.
            pattern: So many columns drawn, so many left out, counted from the grid's left edge.
        """
        drawn, left_out = pattern
        wide, high = x1 - x0, y1 - y0
        count = max(wide, abs(high), 1)
        top = -self.height * 4
        for place in range(count + 1):
            x = x0 + round(wide * place / count)
            y = y0 + round(high * place / count)
            if top <= y <= -2 * top and x % (drawn + left_out) < drawn:
                self.dot(x, y, owner)

    def text(self, row: int, column: int) -> str:
        """The character of a cell."""
        bits = self._bits[row][column]
        return chr(0x2800 + bits) if bits else " "
