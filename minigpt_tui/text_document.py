"""A text of any length wrapped to a width, which an append re-wraps only from its last row on. It knows the kinds of
text (prompt, generated, mark) and the cells that characters take, and nothing of the screen it is shown on.
"""

from __future__ import annotations

import functools
import re
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from enum import IntEnum
from typing import NamedTuple

from rich.cells import cell_len

from minigpt_tui.visible import UNSAFE, visible

MIN_WIDTH = 4
TAB_SIZE = 4

CHARACTERS_PER_CELL = 8
"""A row has at most so many characters for each of its cells: marks that take no cell would make it grow for ever."""

_JOINER, _EMOJI_SELECTOR = "\u200d", "\ufe0f"
_FLAG_LETTERS = frozenset(map(chr, range(0x1F1E6, 0x1F200)))
"""Two of them are drawn as one flag."""

_SKINS = frozenset(map(chr, range(0x1F3FB, 0x1F400)))
"""Colours that the emoji before takes on."""

# Characters of one cell each that combine with nothing before them: rows of these alone are cut without a look at
# each character.
_PLAIN = re.compile(r"[\x20-\x7e\xa0-\xac\xae-\u02ff\u0370-\u0482\u2010-\u2027]*")


@functools.cache
def _special() -> re.Pattern[str]:
    """What is not shown as it is; made when the first text is shown."""
    return re.compile(f"(\\t|{UNSAFE.pattern}+)")


class Kind(IntEnum):
    """Where a piece of the text comes from."""

    PROMPT = 0
    GENERATED = 1
    MARK = 2
    """A remark such as ⟨temperature 1.10⟩: shown in the text, and no part of it."""


class Piece(NamedTuple):
    """A stretch of one row as it is shown.

    Attributes:
        text: What to show: no control character is left in it, tabs are spaces.
        kind: Where it comes from.
        symbol: Whether it stands for characters that cannot be shown themselves.
    """

    text: str
    kind: Kind
    symbol: bool


class TextDocument:
    """The text, its kinds and its rows.

    An offset counts characters from the start, marks included. There is always at least one row; the last is the one
    that grows. A row keeps the newline that ends it, and one space that did not fit (so that the next row starts with
    a word): rows joined are the text.
    """

    def __init__(self, width: int = 80) -> None:
        self._width = max(MIN_WIDTH, width)
        self._rows: list[str] = [""]
        self._starts = array("q", [0])  # offset of each row
        self._run_starts = array("q")  # offset where each run of one kind begins
        self._run_kinds: list[Kind] = []
        self._run_marked = array("q")  # characters of marks before each run

    @property
    def width(self) -> int:
        """Cells in a row, without the space that may hang over its end."""
        return self._width

    @property
    def row_count(self) -> int:
        """Number of rows, at least 1."""
        return len(self._rows)

    @property
    def length(self) -> int:
        """Number of characters, marks included."""
        return self._starts[-1] + len(self._rows[-1])

    def append(self, text: str, kind: Kind) -> int:
        """Add text at the end.

        Returns:
            The first row that is now another.
        """
        first = len(self._rows) - 1
        if not text:
            return first
        if not self._run_kinds or self._run_kinds[-1] != kind:
            marked = self._run_marked[-1] if self._run_marked else 0
            if self._run_kinds and self._run_kinds[-1] is Kind.MARK:
                marked += self.length - self._run_starts[-1]
            self._run_marked.append(marked)
            self._run_starts.append(self.length)
            self._run_kinds.append(kind)
        self._rewrap(first, self._rows[first] + text)
        return first

    def truncate(self, offset: int) -> int:
        """Drop everything from `offset` on.

        Returns:
            The first row that is now another.
        """
        offset = max(0, min(offset, self.length))
        row = self.row_at(offset)
        self._rewrap(row, self._rows[row][: offset - self._starts[row]])
        while self._run_starts and self._run_starts[-1] >= offset:
            self._run_starts.pop()
            self._run_kinds.pop()
            self._run_marked.pop()
        return row

    def clear(self) -> None:
        """Drop everything."""
        self._rows, self._starts = [""], array("q", [0])
        self._run_starts, self._run_kinds, self._run_marked = array("q"), [], array("q")

    def resize(self, width: int) -> bool:
        """Wrap to another width; False when it is the same."""
        width = max(MIN_WIDTH, width)
        if width == self._width:
            return False
        self._width = width
        self._rewrap(0, "".join(self._rows))
        return True

    def _rewrap(self, row: int, text: str) -> None:
        start = self._starts[row]
        del self._rows[row:], self._starts[row:]
        for line in wrap(text, self._width):
            self._rows.append(line)
            self._starts.append(start)
            start += len(line)

    def trailing_mark(self) -> int | None:
        """The offset of the mark that the text ends with, or None."""
        return self._run_starts[-1] if self._run_kinds and self._run_kinds[-1] is Kind.MARK else None

    def text(self) -> str:
        """The whole text without its marks."""
        return self.text_between(0, self.length)

    def text_between(self, start: int, end: int) -> str:
        """The text from one offset to another, without marks."""
        return "".join(text for text, kind in self.runs_between(start, end) if kind is not Kind.MARK)

    def runs_between(self, start: int, end: int) -> Iterator[tuple[str, Kind]]:
        """The text from one offset to another, in stretches of one kind."""
        run = max(0, bisect_right(self._run_starts, start) - 1)
        while start < end and run < len(self._run_starts):
            stop = min(end, self._run_starts[run + 1] if run + 1 < len(self._run_starts) else self.length)
            yield self._slice(start, stop), self._run_kinds[run]
            start, run = stop, run + 1

    def _slice(self, start: int, end: int) -> str:
        first, last = self.row_at(start), self.row_at(max(start, end - 1))
        text = "".join(self._rows[first : last + 1])
        return text[start - self._starts[first] : end - self._starts[first]]

    def character_at(self, offset: int) -> int:
        """How many characters of the text, marks left out, stand before an offset."""
        run = bisect_right(self._run_starts, offset) - 1
        if run < 0:
            return 0
        start = self._run_starts[run]
        return start - self._run_marked[run] + (0 if self._run_kinds[run] is Kind.MARK else offset - start)

    def offset_of_character(self, character: int) -> int:
        """The offset of the text's character of that number, marks left out; its length where there is none."""
        runs = range(len(self._run_starts))
        run = bisect_right(runs, character, key=lambda run: self._run_starts[run] - self._run_marked[run]) - 1
        if run < 0 or self._run_kinds[run] is Kind.MARK:
            return self.length
        return min(self.length, character + self._run_marked[run])

    def row_at(self, offset: int) -> int:
        """The row that holds the character at `offset` (for the end of the text, the last one)."""
        return max(0, bisect_right(self._starts, offset) - 1)

    def row_start(self, row: int) -> int:
        """The offset of a row's first character."""
        return self._starts[row]

    def pieces(self, row: int) -> list[Piece]:
        """A row as it is shown: at most `width + 1` cells, the last of them a hanging space if any."""
        return [piece for _, piece in self.placed(row, ())]

    def placed(self, row: int, cuts: Sequence[int]) -> list[tuple[int, Piece]]:
        """`pieces`, each with its offset, cut also at some offsets, in order; what joins into one sign is not cut."""
        start = self._starts[row]
        end = start + len(self._rows[row].removesuffix("\n"))
        found: list[tuple[int, Piece]] = []
        tabs = _tab_widths(self._rows[row], self._width)
        for run, kind in self.runs_between(start, end):
            for text in _cut_at(run, [cut - start for cut in cuts if start < cut < start + len(run)]):
                for part in _special().split(text) if _special().search(text) else (text,):
                    if part:
                        shown = " " * next(tabs) if part == "\t" else visible(part)
                        found.append((start, Piece(shown, kind, shown != part and part != "\t")))
                        start += len(part)
        return found

    def ends_line(self, row: int) -> bool:
        """Whether a newline ends a row."""
        return self._rows[row].endswith("\n")

    def offset_in_cells(self, row: int, column: int) -> int:
        """The offset of what is shown in a cell of a row; behind its end, that of its newline or of its end."""
        place = self._starts[row]
        used = 0
        for offset, piece in self.placed(row, range(place + 1, place + len(self._rows[row]))):
            used += cells(piece.text)
            if column < used:
                return offset
        return place + len(self._rows[row].removesuffix("\n"))

    def column_of(self, offset: int) -> int:
        """The cell of its row in which an offset is shown."""
        return sum(cells(piece.text) for start, piece in self.placed(self.row_at(offset), (offset,)) if start < offset)

    def offset_of(self, row: int, index: int) -> int:
        """The offset of what is shown at a character index of a row's pieces; an index past its end is the end."""
        row = max(0, min(row, len(self._rows) - 1))
        text = self._rows[row].removesuffix("\n")
        if "\t" not in text:
            return self._starts[row] + max(0, min(index, len(text)))
        shown = 0
        tabs = _tab_widths(text, self._width)
        for place, character in enumerate(text):
            width = next(tabs) if character == "\t" else 1
            if shown + width > index:
                return self._starts[row] + place
            shown += width
        return self._starts[row] + len(text)


def _cut_at(text: str, places: Iterable[int]) -> Iterator[str]:
    """A text in parts, but for places between characters that are drawn as one."""
    start = 0
    for place in places:
        if text.isascii() or _stands_alone(text[place - 1], text[place]):
            yield text[start:place]
            start = place
    yield text[start:]


@functools.lru_cache(4096)
def _stands_alone(before: str, character: str) -> bool:
    size = character_cells(character)
    return size > 0 and before != _JOINER and cell_len(before + character) == cell_len(before) + size


@functools.lru_cache(4096)
def character_cells(character: str) -> int:
    """Cells that one character takes by itself: 0, 1 or 2; what is shown as a symbol takes 1."""
    return cell_len(visible(character))


def cells(text: str) -> int:
    """Cells that shown text takes where it is drawn (joined characters may take others on some terminals)."""
    return cell_len(text)


# What a sequence takes is asked of the library that will draw it: its versions differ.
@functools.lru_cache(4096)
def _widened_by_selector(base: str) -> bool:
    return bool(base) and cell_len(base + _EMOJI_SELECTOR) > cell_len(base)


@functools.cache
def _joiner_joins() -> bool:
    return cell_len(f"👩{_JOINER}💻") < cell_len("👩💻")


def _tab_cells(column: int, width: int) -> int:
    return max(0, min(TAB_SIZE - column % TAB_SIZE, width - column))


def _tab_widths(row: str, width: int) -> Iterator[int]:
    """The cells of each tab in a row."""
    column = 0
    for text in row.split("\t")[:-1]:
        column += cells(visible(text))
        tab = _tab_cells(column, width)
        column += tab
        yield tab


def wrap(text: str, width: int) -> list[str]:
    """Cut text into rows of at most `width` cells (and one hanging space), after spaces where there are any.

    Where a row ends depends only on the text up to there, so that adding text changes the last row alone.

    Args:
        text: Any text; each newline ends a row and stays at its end.
        width: Cells in a row, at least `MIN_WIDTH`.

    Returns:
        The rows, at least one; joined they are `text`.
    """
    rows: list[str] = []
    start = 0
    while True:
        newline = text.find("\n", start)
        end = len(text) if newline < 0 else newline
        while (cut := _cut(text, start, end, width)) < end:
            rows.append(text[start:cut])
            start = cut
        if newline < 0:
            rows.append(text[start:])
            return rows
        rows.append(text[start : newline + 1])
        start = newline + 1


def _cut(text: str, start: int, end: int, width: int) -> int:
    """Where the row that begins at `start` ends; `end` when the rest of the line fits."""
    window = min(end, start + width + 1)
    if _PLAIN.fullmatch(text, start, window) is None:
        return _cut_by_cells(text, start, end, width)
    if end - start <= width:
        return end
    space = text.rfind(" ", start, window)
    return start + width if space < 0 else space + 1


def _cut_by_cells(text: str, start: int, end: int, width: int) -> int:
    """`_cut` for text with characters that take no cell, two cells, or change what is before them."""
    column = 0
    break_at = cluster = start  # where a break is good; where the last character with cells begins
    base = ""  # that character
    joined = wide = False
    joiner_joins = _joiner_joins()
    longest = start + width * CHARACTERS_PER_CELL
    for index in range(start, min(end, longest)):
        character = text[index]
        if character in " \t":
            size = 1 if character == " " else _tab_cells(column, width)
            if column >= width:
                return index + 1  # it hangs over the end
            column, break_at, base, joined, wide = column + size, index + 1, "", False, False
            continue
        if joined:  # whatever comes after a joiner takes no cell, be it another joiner
            joined = False
            continue
        if character == _JOINER:
            joined = joiner_joins
            continue
        if character == _EMOJI_SELECTOR:
            size = int(_widened_by_selector(base))
            base = ""
        elif base in _FLAG_LETTERS and character in _FLAG_LETTERS:
            size = cell_len(base + character) - cell_len(base)
            base = ""
        elif base and character in _SKINS:
            size = cell_len(base + character) - cell_len(base)
        else:
            size = character_cells(character)
            if size:
                if (size == 2 or wide) and index > start:
                    break_at = index  # wide characters need no space to part
                cluster, base, wide = index, character, size == 2
        if column + size > width:
            return break_at if break_at > start else max(cluster, start + 1)
        column += size
    if end <= longest:
        return end
    return break_at if break_at > start else longest
