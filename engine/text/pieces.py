"""Files in, documents out as `read_documents` gives them, but piece by piece, so that a text file of any size needs
little memory. Files of rows (CSV, JSONL) are read whole, one after another.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from engine.text.corpus import Normalization, normalized
from engine.text.cutting import Piece, cut
from engine.text.decoding import Decoder, decoded_blocks, read_blocks
from engine.text.tables import is_table, table_documents

PIECE = 1 << 20
"""Bytes that are read at once."""

# Before white space or a Han character no step looks across: neither completes a composed character, and the small
# form of a final sigma depends on the letters around it, which such a character ends. A line end of two is one.
_SEAM = re.compile(r"(?<!\r)(?=[ \t\n\r\u3400-\u9fff])")


def read_pieces(
    files: Iterable[Path], *, column: str | None = None, normalize: Sequence[Normalization] = ()
) -> Iterator[Piece]:
    """The documents of some files that are not blank, made uniform, in pieces.

    Args:
        files: As `list_files` gives them.
        column: Where the text is in CSV and JSONL files; found when it is not named.
        normalize: What is made uniform: `nfc`, `newlines`, `lowercase`.

    Raises:
        DataError: A file cannot be read, is binary or not UTF-8, or has no such column.
    """
    for file in files:
        if is_table(file):
            for text in table_documents(file, "".join(decoded_blocks(file, PIECE)), column):
                if text and not text.isspace():
                    yield Piece(normalized(text, normalize), True)
        elif not _is_blank(file):
            begins = True
            for text in _uniform(decoded_blocks(file, PIECE), normalize):
                if text:
                    yield Piece(text, begins)
                    begins = False


def checked_sha256(file: Path, progress: Callable[[int], None]) -> bytes:
    """The sha256 of a file's bytes, which are found to be a text.

    Args:
        file: The file.
        progress: Called with the number of bytes of each block that was read.

    Raises:
        DataError: It cannot be read, is binary or not UTF-8.
    """
    digest, decoder = hashlib.sha256(), Decoder(file)
    for block in read_blocks(file, PIECE):
        digest.update(block)
        decoder.decode(block)
        progress(len(block))
    decoder.finish()
    return digest.digest()


def _is_blank(file: Path) -> bool:
    """Whether there is nothing in a text file but white space; mostly its first block tells."""
    return all(not text or text.isspace() for text in decoded_blocks(file, PIECE))


def _uniform(texts: Iterable[str], normalize: Sequence[Normalization]) -> Iterator[str]:
    if not normalize:
        yield from texts
        return
    for text in cut(texts, _SEAM, PIECE):
        yield normalized(text, normalize)
