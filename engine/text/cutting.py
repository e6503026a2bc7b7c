"""A text in pieces, so that one of any size passes through little memory: cut anew at seams, by documents, or from one
character to another. What comes out depends on the text alone, never on the pieces that it came in. Knows nothing of
files or tokens.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

LONG_WORD = 1024
"""Characters. The time in which merges are learned grows with the square of a word: with a file of one line, such as a
genome, it would never end."""

_BLANK = re.compile(rf"\s{{{LONG_WORD}}}")
_TOO_LONG = re.compile(rf"[^\W_]{{{LONG_WORD}}}|[\W_]{{{LONG_WORD}}}")


class Piece(NamedTuple):
    """A part of a document.

    Attributes:
        text: Not empty.
        begins: Whether it is the document's first.
    """

    text: str
    begins: bool


def cut(texts: Iterable[str], seam: re.Pattern[str], size: int) -> Iterator[str]:
    """A text that comes in parts, cut at the first seam behind each `size` characters.

    Args:
        texts: The parts of one text.
        seam: Matches the empty string between two characters, by a look at these two alone.
        size: Characters in a piece, at least 1; a piece is longer where there is no seam.
    """
    rest = ""
    for text in texts:
        seen, rest = len(rest), rest + text  # no seam was found in what was seen
        start, search_from = 0, max(seen, size)
        while found := seam.search(rest, search_from):
            yield rest[start : found.start()]
            start = found.start()
            search_from = start + size
        rest = rest[start:]
    if rest:
        yield rest


def cut_documents(pieces: Iterable[Piece], seam: re.Pattern[str], size: int) -> Iterator[Piece]:
    """`cut`, of each document for itself."""
    number = 0

    def document(piece: Piece) -> int:
        nonlocal number
        number += piece.begins
        return number

    for _, group in itertools.groupby(pieces, document):
        begins = True
        for text in cut((piece.text for piece in group), seam, size):
            yield Piece(text, begins)
            begins = False


def cut_long_words(texts: Iterable[str]) -> Iterator[str]:
    """Texts, cut within each word of `LONG_WORD` characters and more, and within white space as long."""
    for text in texts:
        begin = 0
        if max(map(len, text.split()), default=0) >= LONG_WORD or _BLANK.search(text):  # a quick look
            for found in _TOO_LONG.finditer(text):
                yield text[begin : found.end()]
                begin = found.end()
        if begin < len(text):
            yield text[begin:]


def part(pieces: Iterable[Piece], first: int, last: int) -> Iterator[Piece]:
    """The characters from `first` to before `last`, counted through all documents; one that is cut begins anew."""
    offset, begins = 0, False
    for piece in pieces:
        begins = begins or piece.begins
        text = piece.text[max(first - offset, 0) : max(last - offset, 0)]
        if text:
            yield Piece(text, begins)
            begins = False
        offset += len(piece.text)
        if offset >= last:
            return


def batches(pieces: Iterable[Piece], size: int) -> Iterator[list[Piece]]:
    """Pieces in lists of about `size` characters, to be worked on together."""
    batch: list[Piece] = []
    count = 0
    for piece in pieces:
        batch.append(piece)
        count += len(piece.text)
        if count >= size:
            yield batch
            batch, count = [], 0
    if batch:
        yield batch
